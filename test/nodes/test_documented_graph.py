"""docs/ros.md against real nodes: topics, services, and which node has which parameters."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no nodes to compare with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from rclpy.parameter import Parameter

from semantic_stereo_ros.nodes.camera_node import CameraNode
from semantic_stereo_ros.nodes.fusion_node import FusionNode
from semantic_stereo_ros.nodes.outputs.vision_outputs import vision
from semantic_stereo_ros.nodes.pipeline_node import PipelineNode
from semantic_stereo_ros.nodes.player_node import PlayerNode
from semantic_stereo_ros.nodes.runtime.node_options import RCLPY_OWN
from semantic_stereo_ros.nodes.segmentation_node import SegmentationNode
from semantic_stereo_ros.nodes.stereo_node import StereoNode
from tools.generate_docs import PARAMETER_NODES

pytestmark = pytest.mark.xdist_group("dds")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ros.md").read_text(encoding="utf-8")
SPLIT = {"stereo_node": StereoNode, "segmentation_node": SegmentationNode, "fusion_node": FusionNode}
NODES = {"pipeline_node": PipelineNode, **SPLIT, "camera_node": CameraNode, "player_node": PlayerNode}
OF_VISION = {"prompt_detections", "prompt_detections_3d", "detections_3d", "label_info"}
EXTERNAL = {"stereo.backend": "external", "input.use_pose": True, "input.confidence": "fraction"}
INPUTS = (
    {},
    {"input.rectify": True},
    {"input.transport": "compressed"},
    {**EXTERNAL, "input.external": "depth"},
    {**EXTERNAL, "input.external": "disparity"},
)


@contextmanager
def made(graph, kind, **values) -> Iterator[Any]:
    """One node in this process; nothing starts by itself, and the camera is none."""
    quiet: dict[type, dict[str, Any]] = {CameraNode: {"camera.device": "none.avi"}, PlayerNode: {}}
    values = {**quiet.get(kind, {"autostart": False}), **values}
    node = kind(context=graph.context, parameter_overrides=[Parameter(key, value=value) for key, value in values.items()])
    try:
        yield node
    finally:
        node.destroy_node()


def table_below(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    lines = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows[2:]


def names(cell: str) -> set[str]:
    return {name for name in re.findall(r"`([^`]+)`", cell) if not name.startswith("/")}


def test_inputs_are_those_that_the_node_subscribes_to(new_graph):
    graph, found = new_graph(), set()
    for values in INPUTS:
        with made(graph, PipelineNode, **values) as node:
            node.trigger_configure()
            node.trigger_activate()
            found |= {subscription.topic_name.lstrip("/") for subscription in node.subscriptions}
    documented = set().union(*(names(row[0]) for row in table_below("Inputs")))
    documented -= OF_VISION if vision is None else set()
    assert found - {"parameter_events"} == documented


def test_outputs_are_those_that_the_nodes_publish(new_graph):
    graph, rows = new_graph(), table_below("Outputs")
    absent = OF_VISION if vision is None else set()
    for name, kind in {"pipeline_node": PipelineNode, **SPLIT}.items():
        with made(graph, kind) as node:
            published = node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace())
        found = {topic.lstrip("/") for topic, _ in published}
        if name == "pipeline_node":
            documented = {topic for row in rows for topic in names(row[0]) if not topic.startswith("stereo/")}
        else:
            documented = {topic for row in rows if row[2] == name for topic in names(row[0])}
        ordinary = {"diagnostics", "rosout", "parameter_events", f"{name}/transition_event"}
        assert found - ordinary == documented - absent, name


def test_services_are_those_that_the_nodes_offer(new_graph):
    graph, rows = new_graph(), table_below("Services and messages")
    for name, kind in {"pipeline_node": PipelineNode, **SPLIT}.items():
        with made(graph, kind) as node:
            own = [s for s in node.services if s.srv_type.__module__.partition(".")[0] in ("semantic_stereo_ros", "std_srvs")]
            found = {service.srv_name.lstrip("/").replace(f"{name}/", "~/") for service in own}
        nodes_of = ((names(row[0]), row[2]) for row in rows)
        assert found == {service for services, where in nodes_of if name in where or "four" in where for service in services}, name


def test_every_node_has_the_parameters_that_the_page_gives_it(new_graph):
    graph = new_graph()
    for name, kind in NODES.items():
        with made(graph, kind) as node:
            keys = [key for key in node.get_parameters_by_prefix("") if key not in RCLPY_OWN and not key.startswith("qos_overrides.")]
        assert {key.partition(".")[0] for key in keys} == {part for part, nodes in PARAMETER_NODES.items() if name in nodes}, name
