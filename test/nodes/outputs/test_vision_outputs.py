"""detections_3d and label_info over DDS where vision_msgs is installed, and what is said where it is not."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.msg import ObjectDistance, ObjectDistanceArray

INSTALLED = importlib.util.find_spec("vision_msgs") is not None


@pytest.mark.skipif(INSTALLED, reason="vision_msgs is installed")
def test_without_vision_msgs_it_is_said_once(new_graph):
    graph = new_graph()
    graph.start("pipeline_node")
    graph.until(lambda: graph.node.count_publishers("objects"), "pipeline_node")
    said = "vision_msgs is not installed: detections_3d and label_info are not published"
    graph.until(lambda: said in graph.log("pipeline_node").read_text(encoding="utf-8"), "the line that says so")
    assert graph.log("pipeline_node").read_text(encoding="utf-8").count(said) == 1
    assert graph.node.count_publishers("detections_3d") == graph.node.count_publishers("label_info") == 0


@pytest.mark.skipif(not INSTALLED, reason="vision_msgs is not installed")
@pytest.mark.parametrize("nodes", [("pipeline_node",), ("stereo_node", "segmentation_node", "fusion_node")], ids=["single", "split"])
def test_detections_are_the_measured_objects(new_graph, nodes):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from vision_msgs.msg import Detection3DArray, LabelInfo  # pyright: ignore[reportMissingImports]

    graph = new_graph()
    answers = graph.subscribe(ObjectDistanceArray, "objects")
    detections = graph.subscribe(Detection3DArray, "detections_3d")
    for name in nodes:
        graph.start(name)
    graph.start("player_node", player__width=320, player__height=240, player__rate_hz=3.0, player__loop=True)

    def both():
        found = {str(message.header): message for message in answers}
        return [(found[str(d.header)], d) for d in detections if d.detections and str(d.header) in found]

    answer, detected = graph.until(both, "objects and detections of one frame", 90.0)[0]
    measured = [item for item in answer.objects if item.state == ObjectDistance.VISIBLE]
    assert [d.id for d in detected.detections] == [str(item.object_id) for item in measured] and measured
    for detection, item in zip(detected.detections, measured):
        (result,) = detection.results
        assert result.hypothesis.class_id == item.class_name and result.hypothesis.score == pytest.approx(item.score, abs=1e-6)
        assert result.pose.pose.position == item.position
        covariance = np.reshape(result.pose.covariance, (6, 6))
        assert np.allclose(covariance[:3, :3], np.reshape(item.position_covariance, (3, 3)), rtol=1e-6)
        assert np.array_equal(np.diag(covariance)[3:], [np.pi**2] * 3) and not covariance[:3, 3:].any()
        if np.isfinite(item.box_size.x):
            assert detection.bbox.center == item.box_pose and detection.bbox.size == item.box_size

    late = graph.subscribe(LabelInfo, "label_info", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    graph.until(lambda: late, "label_info for one who comes late")
    names = {entry.class_id: entry.class_name for entry in late[0].class_map}
    assert names[0] == "background" and names[1] == "ground" and names[measured[0].class_id] == measured[0].class_name
