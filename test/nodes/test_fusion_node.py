"""fusion_node over real DDS, with the test in place of the nodes before it: what it gives of frames that come without a part."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.msg import ObjectDistanceArray
from sensor_msgs.msg import Image, PointCloud2

from semantic_stereo_ros.nodes.fusion_node import FusionNode
from semantic_stereo_ros.nodes.inputs.joined_inputs import PARTS, RIG
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, disparity_to_message, make_header, rig_to_infos, stamp_to_ns
from semantic_stereo_ros.nodes.messages.object_messages import masks_message
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import random_sequence

pytestmark = pytest.mark.xdist_group("dds")

STEP_NS = 100_000_000
REQUIRED = RIG | {"disparity", "sigma", "masks"}
OUTPUTS = {"objects": ObjectDistanceArray, "overlay": Image, "points": PointCloud2}


class Fed:
    """A FusionNode in this process that is listened to, and the parts of one real scene to feed it with."""

    def __init__(self, graph):
        self.graph = graph
        self.scene = Pipeline()(random_sequence(5, 1, (320, 240))[0].frame)
        self.node = FusionNode(context=graph.context)
        graph.executor.add_node(self.node)
        self.received = {topic: graph.subscribe(kind, topic, 50) for topic, kind in OUTPUTS.items()}
        self.stamp_ns = 1_000 * 1_000_000_000
        self.publishers = {name: graph.publisher(part.kind, part.topic) for name, part in PARTS.items()}
        for name, publisher in self.publishers.items():
            graph.until(publisher.get_subscription_count, f"a subscription of {name}")

    def message(self, name, header):
        scene = self.scene
        if name == "disparity":
            return disparity_to_message(scene.disparity, header)
        if name == "masks":
            return masks_message(scene.segmentation, header)
        if name in RIG:
            return rig_to_infos(scene.frame.rig, header)[name == "right_info"]
        image = {"left": scene.frame.left, "sigma": scene.disparity.sigma_px, "confidence": scene.disparity.confidence}[name]
        return array_to_image(image, header)

    def send(self, *extras):
        """One frame with these parts beside the required ones, until it is answered; its stamp. Masks come last, as in life."""
        self.stamp_ns += STEP_NS
        for name in (*sorted(REQUIRED - {"masks"}), *extras, "masks"):
            self.publishers[name].publish(self.message(name, make_header(self.stamp_ns, "left_optical")))
            self.graph.until(lambda name=name: self.node.health.inputs[name].newest_stamp_ns == self.stamp_ns, name)
        self.until_came("objects", self.stamp_ns)
        return self.stamp_ns

    def until_came(self, topic, stamp_ns):
        self.graph.until(lambda: stamp_ns in self.stamps(topic), f"{topic} of {stamp_ns}")

    def stamps(self, topic):
        return [stamp_to_ns(message.header.stamp) for message in self.received[topic]]

    def close(self):
        self.graph.executor.remove_node(self.node)
        self.node.destroy_node()


@pytest.fixture
def fed(new_graph):
    fed = Fed(new_graph())
    yield fed
    fed.close()


def test_without_picture_or_confidence_the_objects_go_on_and_nothing_is_drawn_on_black(fed):
    """The answer never waits for a picture that does not run; a frame's picture comes only with what it shows."""
    bare = [fed.send() for _ in range(3)]
    pictured = fed.send("left")
    fed.until_came("overlay", pictured)
    whole = fed.send("left", "confidence")
    for topic in ("overlay", "points"):
        fed.until_came(topic, whole)
    assert fed.stamps("objects") == [*bare, pictured, whole] and all(message.objects for message in fed.received["objects"][1:])
    assert fed.stamps("overlay") == [pictured, whole] and fed.stamps("points") == [whole]
