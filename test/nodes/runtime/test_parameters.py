"""Every shipped parameter file fits the nodes; quality of service is overridden per topic and for no other."""

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

import yaml
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from semantic_stereo_ros.config import from_flat, read_yaml, stage_parameters
from semantic_stereo_ros.nodes.pipeline_node import PipelineNode
from semantic_stereo_ros.nodes.runtime.node_options import check_known, known_keys

CONFIG = Path(__file__).resolve().parents[3] / "config"
OWN_NODES = {"/**", "pipeline_node", "stereo_node", "segmentation_node", "fusion_node", "player_node", "camera_node"}


def parameter_files():
    """The YAML files that hold parameters of this package's nodes, and the flat parameters of each."""
    for path in sorted(CONFIG.rglob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if {node.strip("/") if node != "/**" else node for node in content} & OWN_NODES:
            yield pytest.param(path, id=path.name)


@pytest.mark.parametrize("path", list(parameter_files()))
def test_shipped_parameters_are_known_and_in_range(path):
    values = read_yaml(path)
    check_known(values)
    known = known_keys()
    assert values and all(known[key].parse(value, key) == value for key, value in values.items() if key in known)
    assert from_flat(stage_parameters(values))


@pytest.mark.xdist_group("dds")
def test_quality_of_service_is_overridden_per_topic(new_graph):
    graph = new_graph()
    overrides = {
        "qos_overrides./objects.publisher.reliability": "best_effort",
        "qos_overrides./left/camera_info.subscription.durability": "transient_local",
        "qos_overrides./left/image_rect.subscription.depth": 2,
    }
    node = PipelineNode(context=graph.context, parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()])
    try:
        node.trigger_configure()
        node.trigger_activate()

        def subscription(topic):
            return node.get_subscriptions_info_by_topic(topic)[0].qos_profile

        assert node.get_publishers_info_by_topic("/objects")[0].qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        assert node.get_publishers_info_by_topic("/obstacles")[0].qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert subscription("/left/camera_info").durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert subscription("/right/camera_info").durability == DurabilityPolicy.VOLATILE
        assert node.get_parameter("qos_overrides./left/image_rect.subscription.depth").value == 2
        assert node.get_parameter("qos_overrides./right/image_rect.subscription.depth").value == 5
        node.restart()
        assert subscription("/left/camera_info").durability == DurabilityPolicy.TRANSIENT_LOCAL, "kept when subscribed anew"
    finally:
        node.destroy_node()
