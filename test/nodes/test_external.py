"""pipeline_node and the separate nodes on what a depth camera publishes, between processes, against exact synthetic truth."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from semantic_stereo_ros.msg import InstanceMasks, ObjectDistance, ObjectDistanceArray
from sensor_msgs.msg import CameraInfo, Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.nodes.messages.conversions import (
    array_to_image,
    depth_to_image,
    image_to_array,
    make_header,
    rig_to_infos,
    stamp_to_ns,
)
from semantic_stereo_ros.synthetic import default_rig, random_sequence

pytestmark = pytest.mark.xdist_group("dds")

SIZE_WH = (320, 240)
STEP_NS = 100_000_000


class DepthCamera:
    """A graph with the backend `external`, and a camera that publishes a scene's true depth or disparity."""

    def __init__(self, graph, kind, nodes):
        self.graph = graph
        self.kind = kind
        self.scene = random_sequence(5, 1, rig=default_rig(SIZE_WH, baseline_m=0.3))[0]
        self.depth_m = (self.scene.rig.bf / self.scene.disparity_px).astype(np.float32)
        self.stamp_ns = 1_000 * 1_000_000_000
        for name in nodes:
            stereo = dict(stereo__backend="external", input__external=kind) if name in ("pipeline_node", "stereo_node") else {}
            graph.start(name, **stereo)
        self.left, self.info = graph.publisher(Image, "left/image_rect"), graph.publisher(CameraInfo, "left/camera_info")
        topic, message = ("depth_in/image_rect", Image) if kind == "depth" else ("disparity_in", DisparityImage)
        self.measured = graph.publisher(message, topic)
        self.objects = graph.subscribe(ObjectDistanceArray, "objects")
        self.masks = graph.subscribe(InstanceMasks, "masks")
        self.depths = graph.subscribe(Image, "depth/image_rect")
        for publisher in (self.left, self.info, self.measured):
            graph.until(publisher.get_subscription_count, f"a subscription of {publisher.topic_name}")

    def measured_message(self, header, depth_m):
        if self.kind == "depth":
            return depth_to_image(depth_m, header, "16UC1")
        rig = self.scene.rig
        image = array_to_image((np.float32(rig.bf) / depth_m).astype(np.float32), header)
        return DisparityImage(header=header, image=image, f=rig.fx, t=rig.baseline_m, min_disparity=1.0, max_disparity=128.0)

    def send(self, depth_m=None):
        self.stamp_ns += STEP_NS
        header = make_header(self.stamp_ns, "left_optical")
        self.info.publish(rig_to_infos(self.scene.rig, header)[0])
        self.left.publish(array_to_image(self.scene.frame.left, header))
        self.measured.publish(self.measured_message(header, self.depth_m if depth_m is None else depth_m))

    def answers(self):
        """Send until one stamp is answered on all topics; (objects, masks, depth) of that stamp."""

        def complete():
            for objects in self.objects:
                stamp = objects.header.stamp
                others = [next((m for m in received if m.header.stamp == stamp), None) for received in (self.masks, self.depths)]
                if all(others):
                    return objects, *others
            newest = max((stamp_to_ns(m.header.stamp) for m in self.objects), default=0)
            if newest == self.stamp_ns or not sent or self.graph.node.get_clock().now().nanoseconds > sent[-1] + 1_000_000_000:
                sent.append(self.graph.node.get_clock().now().nanoseconds)
                self.send()
            return None

        sent = []
        return self.graph.until(complete, "objects, masks and depth of one stamp")


SPLIT = ("stereo_node", "segmentation_node", "fusion_node")


@pytest.fixture(
    scope="module",
    params=[("depth", ("pipeline_node",)), ("disparity", ("pipeline_node",)), ("depth", SPLIT)],
    ids=["depth", "disparity", "depth-split"],
)
def camera(request, new_graph):
    return DepthCamera(new_graph(), *request.param)


def test_distances_are_the_truth_without_any_right_image(camera):
    objects, masks, depth = camera.answers()
    shown_m = np.frombuffer(depth.data, np.float32).reshape(SIZE_WH[::-1])
    known = np.isfinite(shown_m)
    assert known.mean() > 0.99
    np.testing.assert_allclose(shown_m[known], camera.depth_m[known], atol=0.0006, rtol=1e-5)
    labels = image_to_array(masks.layers[0].labels)
    errors = []
    for true in camera.scene.visible_objects:
        inside = camera.scene.instance_ids == true.object_id
        for item in objects.objects:
            mask = labels == item.label
            if item.state == ObjectDistance.VISIBLE and item.label and np.sum(mask & inside) > 0.6 * np.sum(mask | inside):
                errors.append((item.distance_m - true.distance_m) / true.distance_m)
                assert abs(item.distance_m - true.distance_m) < 5 * item.distance_sigma_m + 0.02 * true.distance_m
    assert len(errors) >= 3 and np.median(np.abs(errors)) < 0.01
    assert not camera.graph.node.count_subscribers("right/image_rect")


def test_a_map_of_another_size_is_said_and_survived(camera):
    diagnostics = camera.graph.subscribe(DiagnosticArray, "/diagnostics")
    words = f"the {camera.kind} is 160x120 but the left image 320x240"

    def said():
        camera.send(camera.depth_m[::2, ::2])
        return [status for message in diagnostics for status in message.status if words in status.message]

    assert camera.graph.until(said, f"a diagnostic with {words!r}")[0].level == DiagnosticStatus.ERROR
    camera.objects.clear()
    camera.masks.clear()
    camera.depths.clear()
    assert camera.answers()[0].status == ObjectDistanceArray.OK
