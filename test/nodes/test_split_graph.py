"""stereo_node, segmentation_node and fusion_node over real DDS: the same results as pipeline_node, late masks, laziness, missing nodes."""

import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from semantic_stereo_ros.msg import InstanceMasks, ObjectDistance, ObjectDistanceArray
from semantic_stereo_ros.srv import SaveSnapshot
from sensor_msgs.msg import Image, PointCloud2

from semantic_stereo_ros.nodes.messages.conversions import make_header, matrix_to_pose, stamp_to_ns
from semantic_stereo_ros.nodes.messages.object_messages import masks_message
from semantic_stereo_ros.synthetic import default_rig, random_sequence
from semantic_stereo_ros.types import Segmentation

pytestmark = pytest.mark.xdist_group("dds")

SIZE_WH = (320, 240)
FRAMES = 6
STEP_NS = 100_000_000
NUMBERS = (
    "score",
    "valid_fraction",
    "depth_m",
    "depth_sigma_m",
    "distance_m",
    "distance_sigma_m",
    "nearest_m",
    "nearest_sigma_m",
    "position_covariance",
    "velocity_covariance",
)
NAMES = ("object_id", "state", "class_id", "class_name", "label", "pixels", "reason", "velocity_frame", "first_seen", "last_seen")


@pytest.fixture(scope="module")
def sequence():
    return random_sequence(5, FRAMES, rig=default_rig(SIZE_WH, baseline_m=0.3, doffs_px=6.5))


class Split:
    """A graph with some of the three nodes, a camera, and a clock that only goes on."""

    def __init__(self, graph, camera, sequence, nodes=("stereo_node", "segmentation_node", "fusion_node"), **parameters):
        self.graph, self.camera, self.sequence = graph, camera, sequence
        self.processes = {name: graph.start(name, **parameters) for name in nodes}
        self.objects = graph.subscribe(ObjectDistanceArray, "objects")
        self.diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics", 50)
        self.stamp_ns = 1_000 * 1_000_000_000
        self.poses = graph.publisher(Odometry, "pose", 50)

    def send(self, index=0):
        self.stamp_ns += STEP_NS
        frame = self.sequence[index].frame
        if frame.pose_world_camera is not None:
            pose = Odometry(header=make_header(self.stamp_ns, "world"), child_frame_id="left_optical")
            pose.pose.pose = matrix_to_pose(frame.pose_world_camera)
            self.poses.publish(pose)
        self.camera.send(frame.left, frame.right, frame.rig, self.stamp_ns)
        return self.stamp_ns

    def answer(self, received, stamp_ns, what="an answer"):
        return self.graph.until(lambda: next((m for m in received if stamp_to_ns(m.header.stamp) == stamp_ns), None), what)

    def until_answered(self, received, what="an answer"):
        """Send a frame twice a second until one of them is answered; the answer."""
        received.clear()
        stamps = []

        def answered():
            now_ns = self.graph.node.get_clock().now().nanoseconds
            if not stamps or now_ns - stamps[-1][0] > 500_000_000:
                stamps.append((now_ns, self.send()))
            return [m for m in received if stamp_to_ns(m.header.stamp) in {stamp_ns for _, stamp_ns in stamps}]

        return self.graph.until(answered, what)[0]

    def status(self, name, part="summary"):
        """The newest status of one node: (level, message, values), or None."""
        for message in reversed(self.diagnostics):
            for status in message.status:
                if status.name == f"{name}: {part}":
                    return status.level[0], status.message, {v.key: v.value for v in status.values}
        return None


PARAMETERS = {"input__use_pose": True, "segmentation__every_n": 2}


@pytest.fixture(scope="module")
def split(new_graph, make_camera, sequence, tmp_path_factory):
    graph = new_graph()
    snapshots = str(tmp_path_factory.mktemp("snapshots"))
    split = Split(graph, make_camera(graph), sequence, **PARAMETERS, output__snapshot_directory=snapshots)
    split.until_answered(split.objects, "the first answer")
    return split


@pytest.fixture(scope="module")
def single(new_graph, make_camera, sequence):
    graph = new_graph()
    single = Split(graph, make_camera(graph), sequence, nodes=("pipeline_node",), **PARAMETERS)
    single.until_answered(single.objects, "pipeline_node's first answer")
    return single


def begin_anew(*graphs):
    """A gap in time, after which all of them go on with the same stamps: trackers forget, ids begin at 1."""
    start_ns = max(graph.stamp_ns for graph in graphs) + 100 * 1_000_000_000
    for graph in graphs:
        graph.stamp_ns = start_ns


def test_both_graphs_give_the_same_objects(single, split):
    """Every frame of the sequence passes through both, from the first one on."""
    begin_anew(single, split)
    states = []
    for index in range(FRAMES):
        ours, theirs = (graph.answer(graph.objects, graph.send(index), f"frame {index}") for graph in (split, single))
        assert (ours.header, ours.status, ours.reason) == (theirs.header, theirs.status, theirs.reason)
        assert len(ours.objects) == len(theirs.objects)
        for one, other in zip(ours.objects, theirs.objects):
            assert [getattr(one, name) for name in NAMES] == [getattr(other, name) for name in NAMES]
            assert list(one.box_xyxy) == list(other.box_xyxy)
            for name in NUMBERS:
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5, err_msg=name)
            for field in ("position", "velocity"):
                a, b = ([getattr(getattr(o, field), axis) for axis in "xyz"] for o in (one, other))
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=field)
            assert one.distance_sigma_m > 0 and one.velocity_frame == "world"
            states.append(one.state)
    assert states.count(ObjectDistance.VISIBLE) >= FRAMES, "the scene has at least three objects in view"
    assert states.count(ObjectDistance.PREDICTED) >= FRAMES, "every second frame is left out by segmentation.every_n"


@pytest.mark.parametrize(
    ("topic", "kind"), [("points", PointCloud2), ("obstacles", PointCloud2), ("mask/class", Image), ("overlay", Image)]
)
def test_every_output_of_the_last_node_comes_and_is_the_same(single, split, topic, kind):
    """What needs image and confidence is there as soon as somebody asks for it; the answers go on meanwhile."""
    lists = [graph.graph.subscribe(kind, topic) for graph in (split, single)]
    for graph, received in zip((split, single), lists):
        graph.until_answered(received, topic)
    begin_anew(split, single)
    ours, theirs = (graph.answer(received, graph.send(), topic) for graph, received in zip((split, single), lists))
    assert ours.header == theirs.header and (ours.width, ours.height) == (theirs.width, theirs.height)
    dtype = np.float32 if kind is PointCloud2 else np.uint8
    a, b = (np.frombuffer(message.data, dtype) for message in (ours, theirs))
    assert a.size and np.mean(np.isclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)) > 0.9999
    for graph in (split, single):
        graph.graph.unsubscribe(topic)


def test_snapshot_has_its_picture_though_only_objects_are_listened_to(split):
    client = split.graph.node.create_client(SaveSnapshot, "save_snapshot")
    split.graph.until(client.service_is_ready, "the snapshot service")
    future = client.call_async(SaveSnapshot.Request(directory="snapshot"))

    def done():
        if split.stamp_ns in {stamp_to_ns(m.header.stamp) for m in split.objects}:
            split.send()
        return future.done()

    split.send()
    split.graph.until(done, "the snapshot")
    split.graph.node.destroy_client(client)
    response = future.result()
    assert response.success, response.message
    written = Path(response.directory)
    assert (written / "fusion" / "objects.json").is_file()
    from semantic_stereo_ros.io.images import read_image

    picture = read_image(written / "segmentation" / "overlay.png")
    assert np.mean(picture == split.sequence[0].frame.left) > 0.2, "the camera's picture is under the masks"


def test_a_looped_bag_and_another_image_size_start_again(split):
    split.answer(split.objects, split.send())
    split.stamp_ns -= 500 * 1_000_000_000
    message = split.until_answered(split.objects, "an answer to stamps that jumped back")
    assert min(item.object_id for item in message.objects) == 1
    whole, split.sequence = split.sequence, random_sequence(5, 1, (160, 120))
    masks = split.graph.subscribe(InstanceMasks, "masks")
    split.until_answered(masks, "masks of the small images")
    split.until_answered(split.objects, "an answer to small images")
    assert {(layer.labels.width, layer.labels.height) for layer in masks[-1].layers} <= {(160, 120)}
    split.graph.unsubscribe("masks")
    split.sequence = whole
    split.until_answered(split.objects, "an answer to large images again")


def test_a_missing_segmentation_node_is_named_and_its_return_is_enough(split):
    process = split.processes["segmentation_node"]
    process.send_signal(signal.SIGINT)
    assert split.graph.ended(process) == 0

    def named():
        split.send()
        status = split.status("fusion_node")
        return status is not None and "nobody publishes /masks: start segmentation_node" in status[1] and status

    assert split.graph.until(named, "fusion_node to name /masks")[0] in (0, 1)
    split.processes["segmentation_node"] = split.graph.start("segmentation_node")
    split.until_answered(split.objects, "an answer after segmentation_node's return")


def test_nodes_idle_when_nobody_listens_at_the_end(split):
    split.graph.unsubscribe("objects")
    split.graph.until(lambda: not split.graph.node.count_subscribers("disparity"), "no subscriber of disparity any more")
    split.diagnostics.clear()

    def idle():
        split.send()
        statuses = [split.status(name) for name in split.processes]
        return all(status is not None and "idle: nobody subscribes" in status[1] for status in statuses)

    split.graph.until(idle, "three idle nodes")
    split.objects = split.graph.subscribe(ObjectDistanceArray, "objects")
    split.until_answered(split.objects, "an answer after idleness")


def test_interrupt_ends_all_three_cleanly(split):
    """Last of the module fixture's tests."""
    for name, process in split.processes.items():
        process.send_signal(signal.SIGINT)
        assert split.graph.ended(process) == 0
        assert "Traceback" not in split.graph.log(name).read_text(encoding="utf-8")


class OwnMasks(Split):
    """stereo_node and fusion_node; the masks are the test's own, of the exact truth."""

    def __init__(self, graph, camera, sequence):
        super().__init__(graph, camera, sequence, nodes=("fusion_node", "stereo_node"))
        self.masks = graph.publisher(InstanceMasks, "masks")
        self.matched = graph.subscribe(Image, "disparity_sigma", 50)
        self.until_answered(self.matched, "a disparity")
        graph.until(self.masks.get_subscription_count, "fusion_node's subscription to masks")

        def answered():
            self.publish_masks(0, self.match(0))
            return self.objects

        graph.until(answered, "the first answer")

    def match(self, index):
        """Send one frame and wait until it is matched; its stamp."""
        stamp_ns = self.send(index)
        self.answer(self.matched, stamp_ns, "a disparity")
        return stamp_ns

    def publish_masks(self, index, stamp_ns):
        segmentation = Segmentation.from_labels(self.sequence[index].instance_ids)
        self.masks.publish(masks_message(segmentation, make_header(stamp_ns, "left_optical")))


@pytest.fixture(scope="module")
def pair(new_graph, make_camera, sequence):
    graph = new_graph()
    return OwnMasks(graph, make_camera(graph), sequence)


def test_late_masks_are_measured_in_their_own_disparity(pair):
    """Masks come when eleven newer frames, of another scene's moment, have been matched: a second later by stamp."""
    from semantic_stereo_ros.fusion.measure import measure
    from semantic_stereo_ros.pipeline import Pipeline

    stamps = [pair.match(index) for index in [0, *[FRAMES - 1] * 11]]
    pair.publish_masks(0, stamps[0])
    came = pair.answer(pair.objects, stamps[0], "an answer to the late masks")
    pipeline = Pipeline()
    frame = pair.sequence[0].frame
    masks = Segmentation.from_labels(pair.sequence[0].instance_ids)
    right, wrong = (
        {m.label: m for m in measure(pipeline.stereo(f), masks, pipeline.config.fusion)} for f in (frame, pair.sequence[FRAMES - 1].frame)
    )
    shown = [o for o in came.objects if o.label]
    assert len(shown) >= 3
    for item in shown:
        np.testing.assert_allclose(item.distance_m, right[item.label].distance_m, rtol=1e-4)
    assert any(abs(wrong[o.label].distance_m - o.distance_m) > 1e-3 * o.distance_m for o in shown), "the moments can be told apart"
    pair.publish_masks(FRAMES - 1, stamps[-1])
    pair.answer(pair.objects, stamps[-1], "an answer to the newest masks")


def test_masks_that_come_too_late_are_counted_with_the_reason(pair):
    first = pair.match(0)
    second = pair.match(1)
    pair.publish_masks(1, second)
    pair.answer(pair.objects, second)
    pair.publish_masks(1, second)
    pair.publish_masks(0, first)
    pair.diagnostics.clear()

    def told():
        status = pair.status("fusion_node", "pairing")
        return status is not None and status[2].get("masks came too late") and status[2]

    values = pair.graph.until(told, "the count of late masks")
    assert "results go up in stamp" in values["last miss"] and int(values["no masks came"]) >= 1
    stamps = [stamp_to_ns(m.header.stamp) for m in pair.objects]
    assert stamps == sorted(stamps)


def test_only_what_is_needed_is_transferred(pair):
    """objects need neither picture nor confidence; the overlay needs the picture; and nothing stays when nobody listens."""
    node = pair.graph.node

    def readers(*topics):
        return [node.count_subscribers(topic) for topic in topics]

    assert readers("stereo/left/image_rect", "stereo/confidence", "confidence") == [0, 0, 0]
    pair.graph.subscribe(Image, "overlay")
    pair.graph.until(lambda: readers("stereo/left/image_rect") == [1], "fusion_node's subscription to the picture")
    assert readers("stereo/confidence") == [0]
    pair.graph.unsubscribe("overlay")
    pair.graph.until(lambda: readers("stereo/left/image_rect") == [0], "the end of that subscription")
    pair.graph.subscribe(PointCloud2, "points")
    pair.graph.until(lambda: readers("stereo/left/image_rect", "stereo/confidence") == [1, 1], "the subscriptions for points")
    pair.graph.unsubscribe("points", "objects", "disparity_sigma")
    topics = ("stereo/left/image_rect", "stereo/confidence", "disparity", "disparity_sigma", "masks", "stereo/left/camera_info")
    pair.graph.until(lambda: not any(readers(*topics)), "no reader of anything")


def test_nodes_start_in_any_order_and_rectify_once(new_graph, make_camera):
    """fusion first, while a camera with raw images already plays; stereo_node last, which alone rectifies. Strides are for clouds only."""
    from semantic_stereo_ros.synthetic import plane

    graph = new_graph()
    truth = plane(3.0, SIZE_WH)
    camera = make_camera(graph, reliable=False, image="image_raw")
    order = ("fusion_node", "segmentation_node", "stereo_node")
    split = Split(graph, camera, [truth], nodes=order, input__rectify=True, output__stride=2)
    points, confidence = graph.subscribe(PointCloud2, "points"), graph.subscribe(Image, "confidence")
    picture, depth = graph.subscribe(Image, "stereo/left/image_rect"), graph.subscribe(Image, "depth/image_rect")
    split.until_answered(split.objects, "an answer")
    split.until_answered(points, "points")
    graph.until(lambda: confidence and picture and depth, "the other topics")
    assert (points[-1].width, points[-1].height) == (confidence[-1].width, confidence[-1].height) == (SIZE_WH[0] // 2, SIZE_WH[1] // 2)
    assert (picture[-1].width, picture[-1].height) == SIZE_WH and picture[-1].encoding == "rgb8"
    assert np.nanmedian(np.frombuffer(depth[-1].data, np.float32)) == pytest.approx(3.0, rel=0.02)
    z = np.frombuffer(points[-1].data, np.float32).reshape(points[-1].height, points[-1].width, -1)[..., 2]
    assert np.nanmedian(z) == pytest.approx(3.0, rel=0.02)
