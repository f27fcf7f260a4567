"""launch/*.launch.py: what can be said without ROS's launch, what its own launch makes of them, and the whole graph brought up by it."""

import ast
import configparser
import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from semantic_stereo_ros import options
from semantic_stereo_ros.config import from_flat, read_yaml, schema
from semantic_stereo_ros.io import video_devices
from semantic_stereo_ros.nodes.runtime.node_options import SECTIONS, build_section, check_known

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NAMES = [file.name.partition(".")[0] for file in LAUNCH_FILES]
OPTIONAL_PACKAGES = {"nav2_lifecycle_manager", "nav2_costmap_2d", "rviz2", "tf2_ros"}
each_file = pytest.mark.parametrize("file", LAUNCH_FILES, ids=NAMES)


def tree_of(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    compile(tree, str(file), "exec")
    return tree


def table_of(tree, name="ARGUMENTS"):
    return next((n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == name), None)


def arguments_of(file) -> dict[str, ast.Tuple]:
    """Name -> row of the file's ARGUMENTS."""
    table = table_of(tree_of(file))
    assert isinstance(table, ast.Tuple)
    return {str(row.elts[0].value): row for row in table.elts if isinstance(row, ast.Tuple) and isinstance(row.elts[0], ast.Constant)}


def constants(tree, keyword) -> set[str]:
    """The texts that calls in the tree give for one keyword."""
    return {str(k.value.value) for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords
            if k.arg == keyword and isinstance(k.value, ast.Constant)}  # fmt: skip


def test_all_launch_files_are_here():
    assert NAMES == ["camera", "nav2", "pipeline", "replay"]


@each_file
def test_every_argument_is_documented_and_every_one_read_is_declared(file):
    tree, declared = tree_of(file), arguments_of(file)
    for name, row in declared.items():
        _, _, choices, text = row.elts
        assert isinstance(text, ast.Constant) and len(str(text.value)) >= 6, name
        assert isinstance(choices, (ast.Tuple, ast.Name)) or (isinstance(choices, ast.Constant) and choices.value is None), name
    read = {n.args[0].value for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "LaunchConfiguration"
            and isinstance(n.args[0], ast.Constant)}  # fmt: skip
    read |= {n.slice.value for n in ast.walk(tree) if isinstance(n, ast.Subscript) and getattr(n.value, "id", "") == "value"
             and isinstance(n.slice, ast.Constant)}  # fmt: skip
    assert read and read <= set(declared) | set(arguments_of(ROOT / "launch" / "pipeline.launch.py"))
    assert any(isinstance(n, ast.FunctionDef) and n.name == "generate_launch_description" for n in tree.body)


@each_file
def test_what_a_launch_file_names_exists(file):
    tree, text = tree_of(file), file.read_text(encoding="utf-8")
    scripts = configparser.ConfigParser()
    scripts.read(ROOT / "setup.cfg")
    executables = set(re.findall(r"^(\w+) =", scripts["options.entry_points"]["console_scripts"].strip(), re.MULTILINE))
    own = {name for name in constants(tree, "executable") if name.endswith("_node")} | set(re.findall(r'"(\w+_node)"', text))
    assert own <= executables
    depends = {tag.text for tag in ElementTree.parse(ROOT / "package.xml").getroot().iter("exec_depend")}
    assert {"launch", "launch_ros"} <= depends
    packages = constants(tree, "package") - {"semantic_stereo_ros"}
    assert packages <= OPTIONAL_PACKAGES
    for folder, name in re.findall(r'SHARE, "(\w+)", "([\w.]+)"', text):
        assert (ROOT / folder / name).is_file()
    for name in re.findall(r'HERE, "([\w.]+)"', text):
        assert (file.parent / name).is_file()
    check_known(dict.fromkeys(re.findall(r'"((?:stereo|segmentation|input|output|player)\.\w+)"', text)))


def test_camera_arguments_are_parameters_of_camera_node():
    own = set(arguments_of(ROOT / "launch" / "camera.launch.py")) - {"camera_params_file", "pipeline"}
    known = options.options_of(video_devices.Config)
    assert own <= set(known)
    table = table_of(tree_of(ROOT / "launch" / "camera.launch.py"), "KINDS")
    assert isinstance(table, ast.Dict)
    pairs = [(key, value) for key, value in zip(table.keys, table.values) if isinstance(key, ast.Constant) and isinstance(value, ast.Name)]
    kinds = {key.value: value.id for key, value in pairs}
    assert kinds == {name: known[name].type.__name__ for name in own if known[name].type is not str}


def test_shipped_parameters_are_known_and_valid():
    values = read_yaml(ROOT / "config" / "pipeline.yaml")
    check_known(values)
    from_flat({key: value for key, value in values.items() if key in schema()})
    for section in SECTIONS:
        build_section(section, values)


# With ROS's own launch -------------------------------------------------------------------------------------------------------


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_launch", ROOT / "launch" / f"{name}.launch.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def evaluate(name, **arguments):
    """Everything that the launch file would start, by executable name, as ROS's launch evaluates it."""
    launch = pytest.importorskip("launch", reason="ROS's launch is not installed")
    pytest.importorskip("launch_ros.actions", reason="ROS's launch_ros is not installed")
    context = launch.LaunchContext()
    context.launch_configurations.update(arguments)
    started = {}

    def visit(entity):
        if isinstance(entity, launch.actions.ExecuteProcess):
            if hasattr(entity, "_perform_substitutions") and hasattr(entity, "node_executable"):
                entity._perform_substitutions(context)
            executable = getattr(entity, "node_executable", None) or entity.cmd[0][0].perform(context)
            started[executable] = entity
            return
        for child in entity.visit(context) or []:
            visit(child)

    for entity in load(name).generate_launch_description().entities:
        visit(entity)
    return started, context


def parameters_of(node, context):
    """The parameters that were set beside the file."""
    from launch_ros.utilities import evaluate_parameters

    sets = [entry for entry in evaluate_parameters(context, node._Node__parameters) if isinstance(entry, dict)]
    return {key: value for entry in sets for key, value in entry.items()}


def command_of(process):
    """The arguments of its command line that the launch file wrote; what launch_ros adds is not text yet."""
    from launch.substitutions import TextSubstitution

    return ["".join(part.text for part in word) for word in process.cmd if all(isinstance(part, TextSubstitution) for part in word)]


def test_only_what_was_said_overrides_the_parameter_file():
    started, context = evaluate("pipeline", left_image="/cam/left", namespace="front")
    assert list(started) == ["pipeline_node"]
    node = started["pipeline_node"]
    assert node.expanded_node_namespace == "/front" and parameters_of(node, context) == {}
    assert ("left/image_rect", "/cam/left") in node.expanded_remapping_rules
    assert ("left/image_raw", "/cam/left") in node.expanded_remapping_rules
    assert not any("right" in rule[0] or "info" in rule[0] for rule in node.expanded_remapping_rules)


def test_overrides_have_the_types_of_their_parameters():
    started, context = evaluate("pipeline", rectify="true", stereo="sgbm", segmentation="geometric", use_sim_time="false", autostart="true")
    found = parameters_of(started["pipeline_node"], context)
    assert found == {
        "input.rectify": True, "stereo.backend": "sgbm", "segmentation.backend": "geometric", "use_sim_time": False, "autostart": True,
    }  # fmt: skip


def test_split_graph_under_a_lifecycle_manager():
    started, context = evaluate("pipeline", graph="split", lifecycle_manager="true", respawn="true", namespace="front", right_info="/info")
    assert list(started) == ["stereo_node", "segmentation_node", "fusion_node", "lifecycle_manager"]
    for name in ("stereo_node", "segmentation_node", "fusion_node"):
        assert parameters_of(started[name], context) == {"autostart": False}
        assert started[name].expanded_remapping_rules == [("right/camera_info", "/info")]
    manager = started["lifecycle_manager"]
    assert manager.expanded_node_namespace == "/front"
    said = parameters_of(manager, context)
    assert list(said["node_names"]) == ["stereo_node", "segmentation_node", "fusion_node"]
    assert said["bond_timeout"] == 0.0 and said["autostart"]


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [("pipeline", "graph", "both"), ("pipeline", "rectify", "yes"), ("pipeline", "log_level", "loud"), ("camera", "pipeline", "no")],
)
def test_a_wrong_value_is_refused(name, argument, value):
    with pytest.raises(RuntimeError, match=f"{argument}.*{value}"):
        evaluate(name, **{argument: value})


def test_rviz_gets_its_layout_and_frame():
    started, _ = evaluate("pipeline", rviz="true", fixed_frame="left_optical")
    command = command_of(started["rviz2"])
    assert command[command.index("-d") + 1].endswith("rviz/pipeline.rviz") and command[command.index("-f") + 1] == "left_optical"


def test_replay_of_a_bag_takes_the_bags_time():
    started, context = evaluate("replay", bag="/data/drive", rate="0.5", loop="true", left_image="/cam/left")
    assert list(started) == ["pipeline_node", "ros2"]
    command = command_of(started["ros2"])
    assert command[:5] == ["ros2", "bag", "play", "/data/drive", "--clock"] and "--loop" in command
    assert command[command.index("--rate") + 1] == "0.5"
    assert parameters_of(started["pipeline_node"], context) == {"use_sim_time": True}


def test_replay_of_images_plays_on_the_topics_listened_to():
    started, context = evaluate("replay", source="/a,/b", calibration="/c", rate="7", namespace="front", left_image="/cam/left")
    assert list(started) == ["pipeline_node", "player_node"]
    player = started["player_node"]
    assert player.expanded_remapping_rules == [("left/image_rect", "/cam/left")] and player.expanded_node_namespace == "/front"
    assert parameters_of(player, context) == {
        "player.source": "/a,/b", "player.calibration": "/c", "player.loop": False, "player.rate_hz": 7.0,
    }  # fmt: skip
    assert parameters_of(started["pipeline_node"], context) == {}


@pytest.mark.parametrize("arguments", [{}, {"bag": "/a", "source": "/b"}])
def test_replay_needs_one_recording(arguments):
    with pytest.raises(RuntimeError, match="either bag:=FOLDER or source:=LEFT,RIGHT"):
        evaluate("replay", **arguments)


def test_camera_images_are_rectified_unless_told_otherwise():
    started, context = evaluate("camera", device="0", width="640", fps="30", swap="true", calibration="/l.yaml,/r.yaml")
    assert set(started) == {"pipeline_node", "camera_node"}
    assert parameters_of(started["pipeline_node"], context) == {"input.rectify": True}
    assert parameters_of(started["camera_node"], context) == {
        "camera.device": "0", "camera.width": 640, "camera.fps": 30.0, "camera.swap": True, "camera.calibration": "/l.yaml,/r.yaml",
    }  # fmt: skip
    assert list(evaluate("camera", pipeline="false")[0]) == ["camera_node"]
    started, context = evaluate("camera", rectify="false")
    assert parameters_of(started["pipeline_node"], context) == {"input.rectify": False}


def test_nav2_places_the_camera_and_starts_a_costmap():
    started, context = evaluate("nav2", costmap="true", namespace="front", camera_x="0.2", camera_pitch="0.1")
    assert set(started) == {"pipeline_node", "static_transform_publisher", "nav2_costmap_2d", "lifecycle_manager"}
    optics = command_of(started["static_transform_publisher"])
    assert optics[optics.index("--child-frame-id") + 1] == "camera_left_optical_frame"
    costmap = started["nav2_costmap_2d"]
    assert ("/obstacles", "/front/obstacles") in costmap.expanded_remapping_rules
    assert costmap.expanded_node_namespace == "/local_costmap"
    assert parameters_of(started["lifecycle_manager"], context)["bond_timeout"] == 0.0
    assert list(evaluate("nav2", publish_tf="false")[0]) == ["pipeline_node"]


@pytest.fixture
def bring_up(new_graph):
    """bring_up(file, **arguments) -> the Graph in which ROS's launch runs the file; it must end by one Ctrl-C, with all its nodes."""
    pytest.importorskip("launch", reason="ROS's launch is not installed")
    pytest.importorskip("launch_ros", reason="ROS's launch_ros is not installed")
    index = pytest.importorskip("ament_index_python.packages", reason="ament_index_python is not installed")
    try:
        index.get_package_prefix("semantic_stereo_ros")
    except index.PackageNotFoundError:
        pytest.skip("semantic_stereo_ros is not installed as a ROS package")
    code = (
        "import sys; from launch import LaunchDescription, LaunchService; from launch.actions import IncludeLaunchDescription as Include\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource as Source\n"
        "service = LaunchService(); arguments = [a.split(':=', 1) for a in sys.argv[2:]]\n"
        "service.include_launch_description(LaunchDescription([Include(Source(sys.argv[1]), launch_arguments=arguments)]))\n"
        "sys.exit(service.run())"
    )
    running = []

    def start(name, **arguments):
        graph = new_graph()
        command = [sys.executable, "-c", code, str(ROOT / "launch" / f"{name}.launch.py"), *(f"{k}:={v}" for k, v in arguments.items())]
        with graph.log("launch").open("w", encoding="utf-8") as log:
            environment = {**os.environ, "ROS_DOMAIN_ID": str(graph.domain_id)}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        running.append((graph, process))
        return graph

    yield start
    for graph, process in running:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to launch and to all its children
        try:
            code_at_end = process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        text = graph.log("launch").read_text(encoding="utf-8")
        assert code_at_end == 0 and "process has died" not in text, text


@pytest.mark.parametrize("graph_kind", ["single", "split"])
def test_a_launched_graph_answers(bring_up, graph_kind):
    from semantic_stereo_ros.msg import ObjectDistanceArray

    graph = bring_up("replay", source="synthetic", graph=graph_kind, rate="3", loop="true", namespace="front")
    answers = graph.subscribe(ObjectDistanceArray, "/front/objects")
    graph.until(lambda: any(a.status == ObjectDistanceArray.OK and a.objects for a in answers), "objects of the launched graph", 90.0)
