"""What is published of a Scene, and that nobody computes what nobody wants. One node in this process, real DDS."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from semantic_stereo_ros.nodes.messages import conversions
from semantic_stereo_ros.nodes.messages.conversions import make_header
from semantic_stereo_ros.nodes.messages.object_messages import marker_array, masks_message, objects_message
from semantic_stereo_ros.nodes.outputs import publishers
from semantic_stereo_ros.nodes.runtime.node_options import OutputConfig
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity, LabelLayer, ObjectState, SceneStatus, Segmentation

HEADER = make_header(5_000_000_000, "left_optical")


@pytest.fixture(scope="module")
def scene():
    sequence, pipeline = random_sequence(5, 2, (320, 240)), Pipeline()
    pipeline(sequence[0].frame)
    return pipeline(sequence[1].frame)


def blind(scene):
    """The same scene with nothing measured."""
    shape = scene.frame.shape
    nothing = np.full(shape, np.nan, np.float32)
    empty = Segmentation((LabelLayer(np.zeros(shape, np.uint16)),), ())
    disparity = Disparity(nothing, nothing, np.zeros(shape, np.float32), scene.frame.rig)
    return dataclasses.replace(
        scene, disparity=disparity, segmentation=empty, objects=(), status=SceneStatus.CANNOT_TELL, reason="it is dark"
    )


@pytest.mark.xdist_group("dds")
def test_only_what_somebody_subscribes_to_is_computed(scene, new_graph, monkeypatch):
    computed = []

    def spied(output):
        return dataclasses.replace(output, make=lambda view: computed.append(output.topic) or output.make(view))

    monkeypatch.setattr(publishers, "OUTPUTS", tuple(map(spied, publishers.OUTPUTS)))
    graph = new_graph()
    published = publishers.OutputPublishers(graph.node)
    assert not published.wanted() and published.publish(scene, "left", OutputConfig()) == () and computed == []
    received = graph.subscribe(Image, "confidence")
    graph.until(published.wanted, "the subscription")
    assert published.publish(scene, "left", OutputConfig(stride=2)) == ("confidence",) and computed == ["confidence"]
    graph.until(lambda: received, "the image")
    assert (received[0].width, received[0].height, received[0].encoding) == (160, 120, "32FC1")


@pytest.mark.xdist_group("dds")
def test_output_that_fails_does_not_keep_the_others_back(scene, new_graph, monkeypatch):
    def fail(view):
        raise RuntimeError("broken output")

    broken = dataclasses.replace(publishers.OUTPUTS[0], make=fail)
    monkeypatch.setattr(publishers, "OUTPUTS", (broken, *publishers.OUTPUTS[1:]))
    graph = new_graph()
    published = publishers.OutputPublishers(graph.node)
    received = graph.subscribe(CameraInfo, "depth/camera_info")
    graph.subscribe(broken.kind, broken.topic)
    counts = [publisher for _, publisher in published._publishers]
    graph.until(lambda: sum(p.get_subscription_count() for p in counts) == 2, "both subscriptions")
    with pytest.raises(RuntimeError, match="broken output"):
        published.publish(scene, "left", OutputConfig())
    graph.until(lambda: received, "the output after the broken one")
    assert received[0].p[3] == 0.0 and received[0].width == 320


def test_every_output_can_be_made_with_and_without_objects(scene):
    for shown in (scene, blind(scene)):
        view = publishers.View(shown, HEADER, OutputConfig())
        for output in publishers.OUTPUTS:
            message = output.make(view)
            assert message is None or isinstance(message, output.kind)


def test_obstacles_are_withheld_when_nothing_can_be_told_and_empty_when_nothing_is_there(scene):
    make = {output.topic: output.make for output in publishers.OUTPUTS}
    assert make["obstacles"](publishers.View(blind(scene), HEADER, OutputConfig())) is None
    assert make["clearing"](publishers.View(blind(scene), HEADER, OutputConfig())) is None
    high = OutputConfig(obstacle_min_height_m=9.0, obstacle_max_height_m=10.0)
    nothing = make["obstacles"](publishers.View(scene, HEADER, high))
    assert isinstance(nothing, PointCloud2) and nothing.width == 0
    assert make["obstacles"](publishers.View(scene, HEADER, OutputConfig())).width > 50


def test_objects_message_says_what_the_scene_says(scene):
    message = objects_message(scene, HEADER)
    assert len(message.objects) == len(scene.objects) > 2
    for item, said in zip(scene.objects, message.objects):
        assert (said.object_id, said.state, said.class_name) == (item.object_id, item.state, item.class_name)
        assert said.distance_m == pytest.approx(item.distance_m, nan_ok=True)
        assert said.nearest_sigma_m == pytest.approx(item.nearest_sigma_m, nan_ok=True)
        assert (said.position.x, said.position.y, said.position.z) == tuple(item.position_m)
        assert np.array_equal(said.position_covariance.reshape(3, 3), item.position_covariance_m2)
        if item.measurement is not None:
            assert tuple(said.box_xyxy) == tuple(item.measurement.box_xyxy) and said.pixels == item.measurement.pixels
        if item.box is not None:
            assert said.box_size.x == item.box.size_m[0] and said.box_pose.orientation.w == item.box.orientation_xyzw[3]


def test_predicted_object_has_no_mask_and_no_made_up_numbers(scene):
    item = dataclasses.replace(scene.objects[0], state=ObjectState.LOST, label=None, measurement=None, box=None)
    said = objects_message(dataclasses.replace(scene, objects=(item,)), HEADER).objects[0]
    assert said.state == said.LOST and said.label == 0 and said.pixels == 0 and tuple(said.box_xyxy) == (0, 0, 0, 0)
    assert np.isnan(said.nearest_m) and np.isnan(said.box_size.x) and np.isnan(said.box_pose.position.z)
    assert said.distance_m == pytest.approx(float(np.linalg.norm(item.position_m)))


def test_cannot_tell_differs_from_no_objects(scene):
    message = objects_message(blind(scene), HEADER)
    assert message.status == message.CANNOT_TELL and message.reason == "it is dark"
    message = objects_message(dataclasses.replace(scene, objects=(), status=SceneStatus.NO_OBJECTS), HEADER)
    assert message.status == message.NO_OBJECTS and message.reason == ""


def test_masks_and_class_image(scene):
    message = masks_message(scene.segmentation, HEADER)
    assert [layer.level for layer in message.layers] == [layer.level for layer in scene.segmentation.layers]
    assert len(message.instances) == len(scene.segmentation.instances)


def test_the_class_image_tells_what_the_cloud_tells_ground_included(scene):
    """nvblox and Nav2 read mask/class beside points: pixel for pixel the same classes."""
    for stride in (1, 2):
        view = publishers.View(scene, HEADER, OutputConfig(stride=stride))
        np.testing.assert_array_equal(view.class_image, view.cloud.class_id)
    classes, labels = publishers.View(scene, HEADER, OutputConfig()).class_image, scene.segmentation.labels
    for instance in scene.segmentation.object_instances:
        assert set(np.unique(classes[labels == instance.label])) == {instance.class_id}
    assert set(np.unique(classes[labels == 0])) <= {0, 1}


def test_markers_begin_by_deleting_the_old_ones(scene):
    markers = list(marker_array(scene, HEADER).markers)
    assert markers[0].action == markers[0].DELETEALL
    texts = [m.text for m in markers if m.ns == "labels"]
    assert len(texts) == len(scene.objects) and all(" m" in text or "unknown" in text for text in texts)
    assert all(m.header == HEADER for m in markers)


def test_depth_camera_info_is_the_left_camera(scene):
    view = publishers.View(scene, HEADER, OutputConfig())
    info = next(o for o in publishers.OUTPUTS if o.topic == "depth/camera_info").make(view)
    rig = scene.frame.rig
    assert np.asarray(info.p, np.float64).tolist() == [rig.fx, 0, rig.cx, 0, 0, rig.fy, rig.cy, 0, 0, 0, 1, 0]
    with pytest.raises(ValueError, match="baseline"):
        conversions.infos_to_rig(info, info)
