"""What is published of a Scene, and that nobody computes what nobody wants. One node in this process, real DDS."""

import array
import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.msg import ObjectDistanceArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from semantic_stereo_ros.nodes.messages import conversions
from semantic_stereo_ros.nodes.messages.conversions import make_header
from semantic_stereo_ros.nodes.messages.object_messages import marker_array, masks_message, objects_message
from semantic_stereo_ros.nodes.outputs import publishers
from semantic_stereo_ros.nodes.runtime.node_options import OutputConfig
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity, HiddenSpace, LabelLayer, ObjectState, SceneStatus, Segmentation

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


def without_objects(scene):
    """The same view, measured as well, with nothing segmented in it."""
    empty = Segmentation((LabelLayer(np.zeros(scene.frame.shape, np.uint16)),), (), scene.segmentation.ground)
    return dataclasses.replace(scene, segmentation=empty, objects=(), status=SceneStatus.NO_OBJECTS)


WITHHELD_WHEN_BLIND = {"obstacles", "clearing"}


@pytest.mark.parametrize("change", [lambda scene: scene, without_objects, blind], ids=["objects", "no objects", "blind"])
def test_every_output_is_a_message_but_for_what_cannot_be_told(scene, change):
    """Only clouds that would say 'free' are withheld, and only when nothing is measured: silence there, an answer everywhere else."""
    view = publishers.View(change(scene), HEADER, OutputConfig())
    made = {output.topic: output.make(view) for output in publishers.OUTPUTS}
    withheld = {topic for topic, message in made.items() if message is None}
    assert withheld == (WITHHELD_WHEN_BLIND if change is blind else set())
    for output in publishers.OUTPUTS:
        assert output.topic in withheld or isinstance(made[output.topic], output.kind), output.topic


def content(value):
    """All that a message says, comparable: NaN equals NaN. (Serialised messages differ in what lies between their fields.)"""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: content(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if isinstance(value, (array.array, np.ndarray)):
        return value.tobytes()
    if isinstance(value, (list, tuple)):
        return [content(item) for item in value]
    return repr(value)


def spoiled(scene, part):
    """The scene of a node that did not get one part of it: frame_of and message_to_disparity put black and NaN there."""
    if part == "left":
        return dataclasses.replace(scene, frame=dataclasses.replace(scene.frame, left=np.zeros_like(scene.frame.left)))
    unknown = np.full(scene.frame.shape, np.nan, np.float32)
    return dataclasses.replace(scene, disparity=dataclasses.replace(scene.disparity, confidence=unknown))


@pytest.mark.parametrize("output", publishers.outputs_of("fusion"), ids=lambda output: output.topic)
def test_needs_names_every_part_that_an_output_reads(scene, output):
    """What fusion_node can make without a part is the same message; what it cannot is not."""
    whole = content(output.make(publishers.View(scene, HEADER, OutputConfig())))
    for part in ("left", "confidence"):
        message = output.make(publishers.View(spoiled(scene, part), HEADER, OutputConfig()))
        assert (content(message) == whole) == (part not in output.needs), part


@pytest.mark.xdist_group("dds")
@pytest.mark.parametrize(
    ("lacking", "topics"),
    [
        (set(), ("objects", "points", "overlay")),
        ({"confidence"}, ("objects", "overlay")),
        ({"left"}, ("objects",)),
        ({"left", "confidence"}, ("objects",)),
    ],
)
def test_what_lacks_a_part_is_withheld_and_the_rest_published(scene, heard, lacking, topics):
    assert heard.publish(scene, "left", OutputConfig(), frozenset(lacking)) == topics


@pytest.fixture(scope="module")
def heard(new_graph):
    """The outputs of fusion_node, of which three are subscribed to."""
    graph = new_graph()
    published = publishers.OutputPublishers(graph.node, publishers.outputs_of("fusion"))
    for topic, kind in (("objects", ObjectDistanceArray), ("points", PointCloud2), ("overlay", Image)):
        graph.subscribe(kind, topic)
    counts = [publisher for _, publisher in published._publishers]
    graph.until(lambda: sum(p.get_subscription_count() for p in counts) == 3, "three subscriptions")
    assert published.needs() == {"left", "confidence"}
    return published


def test_a_node_of_one_stage_makes_its_outputs_of_what_it_has(scene):
    """stereo_node announces before anything is matched, and matches before anything is segmented; segmentation_node has masks alone."""
    has = {
        "announcement": publishers.PartialScene(scene.frame),
        "stereo": publishers.PartialScene(scene.frame, scene.disparity),
        "segmentation": publishers.PartialScene(scene.frame, segmentation=scene.segmentation),
    }
    whole = publishers.View(scene, HEADER, OutputConfig())
    for stage, partial_scene in has.items():
        outputs = publishers.outputs_of(stage)
        assert outputs, stage
        for output in outputs:
            message = output.make(publishers.View(partial_scene, HEADER, OutputConfig()))
            assert content(message) == content(output.make(whole)), output.topic


def test_obstacles_are_withheld_when_nothing_can_be_told_and_empty_when_nothing_is_there(scene):
    make = {output.topic: output.make for output in publishers.OUTPUTS}
    assert make["obstacles"](publishers.View(blind(scene), HEADER, OutputConfig())) is None
    assert make["clearing"](publishers.View(blind(scene), HEADER, OutputConfig())) is None
    high = OutputConfig(obstacle_min_height_m=9.0, obstacle_max_height_m=10.0)
    nothing = make["obstacles"](publishers.View(dataclasses.replace(scene, hidden=None), HEADER, high))
    assert isinstance(nothing, PointCloud2) and nothing.width == 0
    assert make["obstacles"](publishers.View(scene, HEADER, OutputConfig())).width > 50


def test_clearing_is_withheld_when_an_object_could_stand_unseen(scene):
    """What stands before a hole in the view is still an obstacle; what is seen around it clears nothing."""
    make = {output.topic: output.make for output in publishers.OUTPUTS}
    hidden = HiddenSpace(0.4, "in the middle", 0.3)
    unsure = dataclasses.replace(without_objects(scene), status=SceneStatus.CANNOT_TELL, hidden=hidden)
    assert make["clearing"](publishers.View(unsure, HEADER, OutputConfig())) is None
    assert make["obstacles"](publishers.View(unsure, HEADER, OutputConfig())).width > 50
    high = OutputConfig(obstacle_min_height_m=9.0, obstacle_max_height_m=10.0)
    assert make["obstacles"](publishers.View(unsure, HEADER, high)) is None


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
    message = objects_message(dataclasses.replace(scene, objects=(), status=SceneStatus.NO_OBJECTS, reason=""), HEADER)
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
