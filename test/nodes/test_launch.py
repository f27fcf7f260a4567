"""launch/pipeline.launch.py: what can be said without ROS's launch, and what its own launch makes of it where it is installed."""

import ast
from pathlib import Path

import pytest

from semantic_stereo_ros.config import from_flat, read_yaml, schema
from semantic_stereo_ros.nodes.node_options import SECTIONS, build_section, check_known

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "pipeline.launch.py"


def module():
    import importlib.util

    spec = importlib.util.spec_from_file_location("pipeline_launch", LAUNCH_FILE)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_every_argument_that_is_read_is_declared():
    tree = ast.parse(LAUNCH_FILE.read_text(encoding="utf-8"))
    compile(tree, str(LAUNCH_FILE), "exec")
    table = next(n for n in ast.walk(tree) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "ARGUMENTS")
    rows = table.value.elts if isinstance(table.value, ast.Tuple) else []
    declared = {row.elts[0].value for row in rows if isinstance(row, ast.Tuple) and isinstance(row.elts[0], ast.Constant)}
    read = {n.args[0].value for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "LaunchConfiguration"
            and isinstance(n.args[0], ast.Constant)}  # fmt: skip
    read |= {n.slice.value for n in ast.walk(tree) if isinstance(n, ast.Subscript) and getattr(n.value, "id", "") == "value"
             and isinstance(n.slice, ast.Constant)}  # fmt: skip
    assert read and read <= declared
    assert any(isinstance(n, ast.FunctionDef) and n.name == "generate_launch_description" for n in tree.body)


def test_shipped_parameters_are_known_and_valid():
    values = read_yaml(ROOT / "config" / "pipeline.yaml")
    check_known(values)
    from_flat({key: value for key, value in values.items() if key in schema()})
    for section in SECTIONS:
        build_section(section, values)


def test_rviz_configuration_names_the_nodes_topics():
    import yaml

    config = yaml.safe_load((ROOT / "rviz" / "pipeline.rviz").read_text(encoding="utf-8"))
    topics = {d["Topic"]["Value"] for d in config["Visualization Manager"]["Displays"] if "Topic" in d}
    outputs = pytest.importorskip("semantic_stereo_ros.nodes.outputs", reason="rclpy or the messages are not installed")
    assert topics and topics <= {output.topic for output in outputs.OUTPUTS}


def launched_node(**arguments):
    """(remappings, parameters, namespace) of pipeline_node as ROS's launch evaluates them; how many processes it would start."""
    launch = pytest.importorskip("launch", reason="ROS's launch is not installed")
    pytest.importorskip("launch_ros.actions", reason="ROS's launch_ros is not installed")
    context = launch.LaunchContext()
    context.launch_configurations.update(arguments)
    actions = []
    for entity in module().generate_launch_description().entities:
        actions += entity.visit(context) or []
    nodes = [action for action in actions if action.condition is None or action.condition.evaluate(context)]
    node = nodes[0]
    node._perform_substitutions(context)
    return node, len(nodes)


def test_remaps_only_what_is_named():
    node, count = launched_node(left_image="/cam/left", namespace="front")
    assert count == 1 and node.expanded_node_namespace == "/front"
    assert node.expanded_remapping_rules == [("left/image_rect", "/cam/left")]


def test_rectify_listens_to_raw_images():
    node, _ = launched_node(rectify="true", right_image="/cam/right", left_info="/cam/info")
    assert node.expanded_remapping_rules == [("right/image_raw", "/cam/right"), ("left/camera_info", "/cam/info")]


def test_rviz_is_started_when_asked_for():
    assert launched_node(rviz="true")[1] == 2
