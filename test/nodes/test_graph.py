"""pipeline_node over real DDS between processes, against exact synthetic truth."""

import dataclasses
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from semantic_stereo_ros.msg import InstanceMasks, ObjectDistance, ObjectDistanceArray
from semantic_stereo_ros.srv import SaveSnapshot
from sensor_msgs.msg import Image, PointCloud2
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.nodes.messages.conversions import image_to_array, stamp_to_ns
from semantic_stereo_ros.synthetic import default_rig, random_sequence

pytestmark = pytest.mark.xdist_group("dds")

SIZE_WH = (320, 240)
STEP_NS = 100_000_000


class Rig:
    """One pipeline_node, one camera with doffs, and a clock that only goes on."""

    def __init__(self, graph, camera, tmp_path):
        self.graph = graph
        self.snapshots = tmp_path
        self.process = graph.start("pipeline_node", output__snapshot_directory=str(tmp_path))
        self.sequence = random_sequence(5, 4, rig=default_rig(SIZE_WH, baseline_m=0.3, doffs_px=6.5))
        self.truth = self.sequence[0]
        self.camera = camera
        self.objects = graph.subscribe(ObjectDistanceArray, "objects")
        self.diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
        self.stamp_ns = 1_000 * 1_000_000_000
        self.camera.wait_for_subscribers()
        graph.until(lambda: graph.node.count_publishers("objects"), "pipeline_node's publishers")

    def send(self, index=0, **options):
        """Send one frame with the next stamp; returns the stamp."""
        self.stamp_ns += STEP_NS
        frame = self.truth.frame if index == 0 else self.sequence[index].frame
        self.camera.send(frame.left, frame.right, frame.rig, self.stamp_ns, **options)
        return self.stamp_ns

    def answer(self, received, stamp_ns, what="an answer"):
        return self.graph.until(lambda: next((m for m in received if stamp_to_ns(m.header.stamp) == stamp_ns), None), what)

    def ask(self, topic, kind):
        """Subscribe, send frames until the topic answers one of them, unsubscribe; the message."""
        received, stamps = self.graph.subscribe(kind, topic), []
        self.graph.until(lambda: self.graph.node.count_publishers(topic), f"a publisher of {topic}")

        def sent_and_answered():
            answered = {stamp_to_ns(m.header.stamp) for m in self.objects}
            if not stamps or stamps[-1] in answered:
                stamps.append(self.send())
            return [m for m in received if stamp_to_ns(m.header.stamp) in stamps]

        message = self.graph.until(sent_and_answered, topic)[0]
        self.graph.unsubscribe(topic)
        return message

    def verdict(self, words):
        """Wait for a diagnostic sentence that holds `words`; its level."""
        self.diagnostics.clear()
        status = self.graph.until(
            lambda: next((m.status[0] for m in self.diagnostics if words in m.status[0].message), None), f"a diagnostic with {words!r}"
        )
        return status


@pytest.fixture(scope="module")
def rig(new_graph, make_camera, tmp_path_factory):
    graph = new_graph()
    rig = Rig(graph, make_camera(graph), tmp_path_factory.mktemp("snapshots"))
    sent = []

    def answered():
        """What is sent before both ends know each other may be lost: send again after a while."""
        if not sent or rig.graph.node.get_clock().now().nanoseconds - sent[-1] > 2_000_000_000:
            sent.append(rig.graph.node.get_clock().now().nanoseconds)
            rig.send()
        return rig.objects

    rig.graph.until(answered, "the first answer")
    return rig


def test_objects_carry_the_left_stamp_and_frame(rig):
    for index in (1, 2, 3):
        message = rig.answer(rig.objects, rig.send(index))
        assert message.header.frame_id == "left_optical" and message.status == ObjectDistanceArray.OK


def test_distances_are_right(rig):
    """Objects against the exact truth of the instance that fills most of their mask."""
    masks = rig.ask("masks", InstanceMasks)
    objects = rig.answer(rig.objects, stamp_to_ns(masks.header.stamp))
    labels = image_to_array(masks.layers[0].labels)
    errors = []
    for true in rig.truth.visible_objects:
        inside = rig.truth.instance_ids == true.object_id
        for item in objects.objects:
            mask = labels == item.label
            if item.state == ObjectDistance.VISIBLE and item.label and np.sum(mask & inside) > 0.5 * np.sum(mask | inside):
                errors.append((item.distance_m - true.distance_m) / true.distance_m)
                assert abs(item.distance_m - true.distance_m) < 5 * item.distance_sigma_m + 0.02 * true.distance_m
                assert item.nearest_m < item.distance_m + item.distance_sigma_m and item.depth_m <= item.distance_m
    assert len(errors) >= 3 and np.median(np.abs(errors)) < 0.03


def test_masks_agree_with_objects(rig):
    masks = rig.ask("masks", InstanceMasks)
    objects = rig.answer(rig.objects, stamp_to_ns(masks.header.stamp))
    labels = image_to_array(masks.layers[0].labels)
    records = {r.label: r for r in masks.instances if r.layer == 0}
    assert records and set(np.unique(labels)) - {0} == set(records)
    for label, record in records.items():
        rows, columns = np.nonzero(labels == label)
        assert tuple(record.box_xyxy) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    for item in objects.objects:
        if item.label:
            assert item.pixels == np.count_nonzero(labels == item.label) and tuple(item.box_xyxy) == tuple(records[item.label].box_xyxy)


def test_disparity_image_gives_the_true_depth_with_doffs(rig):
    message = rig.ask("disparity", DisparityImage)
    shown = np.frombuffer(message.image.data, np.float32).reshape(SIZE_WH[::-1])
    known = np.isfinite(shown)
    true_m = rig.truth.rig.bf / (rig.truth.disparity_px + rig.truth.rig.doffs_px)
    relative = np.abs(message.f * message.t / shown[known] - true_m[known]) / true_m[known]
    assert known.mean() > 0.5 and np.median(relative) < 0.01
    assert message.max_disparity > np.nanpercentile(shown, 99) > message.min_disparity
    assert message.image.header == message.header


def test_points_are_organised_and_lie_on_the_true_surfaces(rig):
    message = rig.ask("points", PointCloud2)
    assert (message.width, message.height, message.is_dense) == (*SIZE_WH, False)
    assert [f.name for f in message.fields] == ["x", "y", "z", "rgb", "label", "instance", "confidence"]
    z = np.frombuffer(message.data, np.float32).reshape(SIZE_WH[1], SIZE_WH[0], -1)[..., 2]
    true_m = rig.truth.rig.bf / (rig.truth.disparity_px + rig.truth.rig.doffs_px)
    known = np.isfinite(z)
    assert np.median(np.abs(z - true_m)[known] / true_m[known]) < 0.01


def test_overlay_shows_the_left_image(rig):
    message = rig.ask("overlay", Image)
    assert message.encoding == "rgb8" and (message.width, message.height) == SIZE_WH
    assert np.mean(image_to_array(message) == rig.truth.frame.left) > 0.2


def set_parameter(rig, name, value):
    client = rig.graph.node.create_client(SetParameters, "pipeline_node/set_parameters")
    rig.graph.until(client.service_is_ready, "the parameter service")
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    future = client.call_async(request)
    rig.graph.until(future.done, "the parameter service's answer")
    rig.graph.node.destroy_client(client)
    return future.result().results[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("output.stride", 0, "range"),
        ("output.depth_encoding", "8UC1", "one of 32FC1, 16UC1"),
        ("stereo.backend", "other", "must be one of"),
        ("stereo.bakend", "sgbm", "did you mean stereo.backend"),
        ("output.stride", "two", "type"),
    ],
)
def test_impossible_parameters_are_refused_with_a_reason(rig, name, value, words):
    result = set_parameter(rig, name, value)
    assert not result.successful and words in result.reason


def test_parameters_change_while_running(rig):
    assert set_parameter(rig, "output.depth_encoding", "16UC1").successful
    message = rig.ask("depth/image_rect", Image)
    assert message.encoding == "16UC1"
    depth = np.frombuffer(message.data, np.uint16).reshape(SIZE_WH[::-1]) / 1000.0
    true_m = rig.truth.rig.bf / (rig.truth.disparity_px + rig.truth.rig.doffs_px)
    assert np.median(np.abs(depth - true_m)[depth > 0]) < 0.05
    assert set_parameter(rig, "output.depth_encoding", "32FC1").successful


def searched_px(rig) -> float:
    message = rig.ask("disparity", DisparityImage)
    return round(message.max_disparity - message.min_disparity, 3)


def test_algorithm_parameters_change_while_running_and_ids_survive(rig):
    ids = {o.object_id for o in rig.answer(rig.objects, rig.send()).objects}
    assert set_parameter(rig, "stereo.sgbm.num_disparities", 96).successful
    rig.graph.until(lambda: searched_px(rig) == 96, "the given range")
    assert ids & {o.object_id for o in rig.answer(rig.objects, rig.send()).objects}
    assert set_parameter(rig, "stereo.sgbm.num_disparities", 0).successful


def test_every_parameter_has_a_description(rig):
    from semantic_stereo_ros.config import schema

    client = rig.graph.node.create_client(DescribeParameters, "pipeline_node/describe_parameters")
    rig.graph.until(client.service_is_ready, "the parameter service")
    future = client.call_async(DescribeParameters.Request(names=list(schema())))
    rig.graph.until(future.done, "descriptions")
    descriptors = future.result().descriptors
    rig.graph.node.destroy_client(client)
    assert len(descriptors) == len(schema()) and all(d.description for d in descriptors)
    for descriptor, option in zip(descriptors, schema().values()):
        assert descriptor.read_only == (not option.dynamic)
        if option.minimum is not None and option.type is int:
            assert descriptor.integer_range[0].from_value == option.minimum
    assert isinstance(ParameterMessage().name, str)


def spoil_encoding(left, right, left_info, right_info):
    left.encoding = "h264"


def spoil_baseline(left, right, left_info, right_info):
    right_info.p = left_info.p


def spoil_size(left, right, left_info, right_info):
    for info in (left_info, right_info):
        info.width, info.height = 640, 480


def spoil_order(left, right, left_info, right_info):
    left_info.p, right_info.p = right_info.p.copy(), left_info.p.copy()


def spoil_numbers(left, right, left_info, right_info):
    left_info.p = np.full(12, np.nan)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil_encoding, "unknown image encoding 'h264'"),
        (spoil_baseline, "baseline must be above zero"),
        (spoil_size, "the images are 320x240 but the calibration is for 640x480"),
        (spoil_order, "swap left and right"),
        (spoil_numbers, "must be finite"),
    ],
)
def test_bad_input_is_said_and_survived(rig, change, words):
    rig.send(change=change)
    assert rig.verdict(words).level == b"\x02"
    assert rig.process.poll() is None
    stamp_ns = rig.send()
    assert rig.answer(rig.objects, stamp_ns, "an answer after bad input").status == ObjectDistanceArray.OK


def test_images_of_two_sizes_are_said_and_survived(rig):
    rig.stamp_ns += STEP_NS
    frame = rig.truth.frame
    rig.camera.send(frame.left, frame.right[:100], frame.rig, rig.stamp_ns)
    assert "one shape" in rig.verdict("must have one shape").message
    rig.answer(rig.objects, rig.send())


def test_swapped_images_are_detected(rig):
    """The infos are right but the images are exchanged: said in the diagnostics, which check now and then."""
    assert set_parameter(rig, "input.health_period_s", 0.5).successful
    frame, sent = rig.truth.frame, []

    def said():
        answered = {stamp_to_ns(m.header.stamp) for m in rig.objects}
        if not sent or sent[-1] in answered:
            rig.stamp_ns += STEP_NS
            sent.append(rig.stamp_ns)
            rig.camera.send(frame.right, frame.left, dataclasses.replace(frame.rig, doffs_px=0.0), rig.stamp_ns)
        return [m for m in rig.diagnostics if "swapped" in m.status[0].message]

    rig.diagnostics.clear()
    rig.graph.until(said, "a diagnostic that says 'swapped'")
    assert set_parameter(rig, "input.health_period_s", 0.0).successful
    rig.answer(rig.objects, rig.send())


def test_one_silent_camera_is_named(rig):
    rig.diagnostics.clear()

    def said():
        rig.stamp_ns += STEP_NS
        frame = rig.truth.frame
        from semantic_stereo_ros.nodes.messages.conversions import array_to_image, make_header

        rig.camera.images[0].publish(array_to_image(frame.left, make_header(rig.stamp_ns, "left_optical")))
        return [m for m in rig.diagnostics if "no image has come on /right/image_rect" in m.status[0].message]

    rig.graph.until(said, "a diagnostic that names the silent camera")
    rig.answer(rig.objects, rig.send())


def test_stamps_that_jump_back_start_again(rig):
    """A bag that is looped: the node goes on with the older stamps, and ids begin anew."""
    rig.answer(rig.objects, rig.send())
    rig.stamp_ns -= 500 * 1_000_000_000
    message = rig.answer(rig.objects, rig.send())
    assert message.objects and min(o.object_id for o in message.objects) == 1


def test_reliable_publishers_get_a_reliable_subscription(rig):
    def values():
        return {v.key: v.value for s in rig.diagnostics[-1].status for v in s.values} if rig.diagnostics else {}

    rig.graph.until(lambda: values().get("left reliability") == values().get("right reliability") == "reliable", "reliable inputs")


def test_idle_node_does_nothing_and_still_takes_a_snapshot(rig):
    rig.graph.unsubscribe("objects")
    rig.diagnostics.clear()

    def idle():
        if not rig.graph.node.count_subscribers("objects"):
            rig.send()
        return [m for m in rig.diagnostics if "idle: nobody subscribes" in m.status[0].message]

    rig.graph.until(idle, "an idle node")
    client = rig.graph.node.create_client(SaveSnapshot, "save_snapshot")
    rig.graph.until(client.service_is_ready, "the snapshot service")

    def saved(directory):
        future = client.call_async(SaveSnapshot.Request(directory=directory))
        rig.graph.until(future.done, "the snapshot")
        return future.result()

    response = saved("now/here")
    assert response.success and (rig.snapshots / "now" / "here" / "fusion" / "objects.json").is_file(), response.message
    assert response.directory == str((rig.snapshots / "now" / "here").resolve())
    for elsewhere in ("../out", "a/../../out", "/tmp/out"):
        response = saved(elsewhere)
        assert not response.success and "below output.snapshot_directory" in response.message and not response.directory
    rig.graph.node.destroy_client(client)
    rig.objects = rig.graph.subscribe(ObjectDistanceArray, "objects")


def test_interrupt_ends_it_cleanly(rig):
    """Last in this module: exit code 0, nothing said on the way out."""
    rig.process.send_signal(signal.SIGINT)
    assert rig.graph.ended(rig.process) == 0
    assert "Traceback" not in rig.graph.log("pipeline_node").read_text(encoding="utf-8")
