"""StereoInput over real DDS: what a camera publishes becomes the frame that it means, and what cannot be used is said and survived."""

import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from sensor_msgs.msg import CompressedImage, Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import CalibrationError, ConfigError, ImageError
from semantic_stereo_ros.io.images import decode_image
from semantic_stereo_ros.nodes.inputs.stereo_input import JUMPED, StereoInput, check_inputs, check_not_own
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, depth_to_image, make_header, rig_to_infos
from semantic_stereo_ros.nodes.outputs.publishers import OUTPUTS
from semantic_stereo_ros.nodes.runtime.node_options import InputConfig
from semantic_stereo_ros.types import StereoRig

pytestmark = pytest.mark.xdist_group("dds")

RIG = StereoRig((64, 48), fx=100.0, fy=100.0, cx=31.5, cy=23.5, baseline_m=0.2, doffs_px=3.0)
TOPICS = [output.topic for output in OUTPUTS]
RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.integers(0, 255, (2, 48, 64, 3), np.uint8)
DEPTH_M = RNG.uniform(0.5, 8.0, RIG.shape).astype(np.float32)
DEPTH_M[:5] = np.nan
MS = 1_000_000


class Bench:
    """A StereoInput on a node of its own, and publishers on the tester's node, all spun together."""

    def __init__(self, graph):
        import rclpy

        self.graph = graph
        self.node = rclpy.create_node("listener", context=graph.context)
        graph.executor.add_node(self.node)
        self.input: StereoInput | None = None
        self.pairs, self.said = [], []
        self.stamp_ns = 1_000_000 * MS

    def listen(self, **config):
        if self.input is not None:
            self.input.close()
        self.pairs.clear()
        self.said.clear()
        self.input = StereoInput(self.node, InputConfig(**config), self.pairs.append, self.said.append)
        return self.input

    def publish(self, **messages):
        """Messages by topic, '__' for '/', each with the stamp that is current; once its subscription is there."""
        for name, message in messages.items():
            topic = name.replace("__", "/")
            publisher = self.graph.publisher(type(message), topic)
            self.graph.until(publisher.get_subscription_count, f"a subscription of {topic}")
            message.header = make_header(self.stamp_ns, "left_optical")
            publisher.publish(message)

    def frame(self, *also, **messages):
        """Publish with a new stamp until the pair arrives, and the inputs named in `also`; its frame.

        What is sent before both ends know each other may be lost, so it is sent again.
        """
        assert self.input is not None
        inputs = self.input.inputs
        sent = []
        self.pairs.clear()

        def arrived():
            if not sent or time.monotonic() > sent[-1] + 1.0:
                sent.append(time.monotonic())
                self.stamp_ns += 100 * MS
                self.publish(**messages)
            complete = all(inputs[name].newest_stamp_ns == self.stamp_ns for name in also)
            return [pair for pair in self.pairs if pair.stamp_ns == self.stamp_ns and complete]

        return self.input.frame(self.graph.until(arrived, "a pair")[0])

    def refusal(self, **messages):
        """Send frames until one is refused; the sentence. For a message that is not waited for, and may be lost at first."""

        def refused():
            try:
                self.frame(**messages)
            except CalibrationError as error:
                return str(error)
            return ""

        return self.graph.until(refused, "a refusal")

    def until_said(self, words):
        return self.graph.until(lambda: next((text for text in self.said if words in text), None), f"a sentence with {words!r}")

    def close(self):
        if self.input is not None:
            self.input.close()
        self.graph.executor.remove_node(self.node)
        self.node.destroy_node()


@pytest.fixture(scope="module")
def bench(new_graph):
    bench = Bench(new_graph())
    yield bench
    bench.close()


def image(array, encoding=None):
    return array_to_image(array, make_header(0, ""), encoding)


def infos(rig=RIG):
    left, right = rig_to_infos(rig, make_header(0, ""))
    return {"left__camera_info": left, "right__camera_info": right}


def raw(data, encoding, width=64, height=48):
    message = Image(encoding=encoding, width=width, height=height, step=len(data) // height)
    message.data.frombytes(data)
    return message


def compressed(array, codec, layout):
    message = CompressedImage(format=layout)
    message.data.frombytes(cv2.imencode(codec, array[..., ::-1])[1].tobytes())
    return message


def test_a_pair_is_the_frame_that_was_sent(bench):
    stereo = bench.listen()
    frame = bench.frame(**infos(), left__image_rect=image(LEFT), right__image_rect=image(RIGHT))
    np.testing.assert_array_equal(frame.left, LEFT)
    np.testing.assert_array_equal(frame.right, RIGHT)
    assert frame.rig.doffs_px == pytest.approx(3.0) and frame.stamp_ns == bench.stamp_ns
    assert set(stereo.inputs) == {"left", "right", "left camera_info", "right camera_info"}


@pytest.mark.parametrize(
    ("encoding", "channels", "dtype"),
    [
        ("mono8", 1, np.uint8),
        ("mono16", 1, np.uint16),
        ("bgr8", 3, np.uint8),
        ("rgba8", 4, np.uint8),
        ("bgra8", 4, np.uint8),
        ("bayer_grbg8", 1, np.uint8),
        ("bayer_rggb16", 1, np.uint16),
        ("yuv422", 2, np.uint8),
        ("yuv422_yuy2", 2, np.uint8),
        ("nv12", 1.5, np.uint8),
    ],
)
def test_encodings(bench, encoding, channels, dtype):
    """io.images is tested against OpenCV; here, that what goes through DDS is what it decodes."""
    if bench.input is None or bench.input.inputs["left"].topic != "/left/image_rect":
        bench.listen()
    sent = RNG.integers(0, 255, (2, int(48 * 64 * channels) * np.dtype(dtype).itemsize), np.uint8)
    left, right = (raw(data.tobytes(), encoding) for data in sent)
    if encoding == "nv12":
        left.step = right.step = 64
    frame = bench.frame(**infos(), left__image_rect=left, right__image_rect=right)
    np.testing.assert_array_equal(frame.left, decode_image(sent[0], 64, 48, encoding))
    np.testing.assert_array_equal(frame.right, decode_image(sent[1], 64, 48, encoding))


def test_compressed_images_and_one_that_was_cut(bench):
    bench.listen(transport="compressed")
    topics = ("left__image_rect__compressed", "right__image_rect__compressed")
    pngs = [compressed(array, ".png", "rgb8; png compressed bgr8") for array in (LEFT, RIGHT)]
    frame = bench.frame(**infos(), **dict(zip(topics, pngs)))
    np.testing.assert_array_equal(frame.left, LEFT)
    np.testing.assert_array_equal(frame.right, RIGHT)
    jpegs = [compressed(np.full_like(LEFT, value), ".jpg", "rgb8; jpeg compressed bgr8") for value in (90, 120)]
    whole = jpegs[0].data
    jpegs[0].data = whole[: len(whole) // 2]
    with pytest.raises(ImageError, match="cut short"):
        bench.frame(**dict(zip(topics, jpegs)))
    jpegs[0].data = whole
    frame = bench.frame(**dict(zip(topics, jpegs)))
    assert abs(int(frame.left[20, 20, 1]) - 90) <= 2 and abs(int(frame.right[20, 20, 1]) - 120) <= 2


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1", "compressed"])
def test_depth_of_a_camera_needs_no_right_image(bench, encoding):
    is_compressed = encoding == "compressed"
    bench.listen(external="depth", depth_transport="compressed" if is_compressed else "raw", depth_baseline_m=0.07)
    if is_compressed:
        depth = CompressedImage(format="16UC1; compressedDepth png")
        values = np.nan_to_num(np.rint(DEPTH_M * 1000)).astype(np.uint16)
        depth.data.frombytes(bytes(12) + cv2.imencode(".png", values)[1].tobytes())
        topic = "depth_in__image_rect__compressedDepth"
    else:
        depth, topic = depth_to_image(DEPTH_M, make_header(0, ""), encoding), "depth_in__image_rect"
    frame = bench.frame(left__camera_info=infos()["left__camera_info"], left__image_rect=image(LEFT), **{topic: depth})
    assert frame.right_image is None and frame.measured is not None and frame.measured.depth_m is not None
    np.testing.assert_allclose(frame.measured.depth_m, DEPTH_M, atol=0.0006)
    assert frame.rig.baseline_m == pytest.approx(0.07) and frame.rig.fx == 100.0
    assert not bench.graph.node.count_subscribers("right/image_rect")


def test_a_depth_that_does_not_fit_is_said_and_the_next_one_goes_on(bench):
    bench.listen(external="depth")
    info = infos()["left__camera_info"]
    good = dict(left__camera_info=info, left__image_rect=image(LEFT), depth_in__image_rect=image(DEPTH_M))
    bench.frame(**good)
    with pytest.raises(ImageError, match=r"the depth is 32x24 but the left image 64x48.*align"):
        bench.frame(**{**good, "depth_in__image_rect": image(DEPTH_M[::2, ::2])})
    with pytest.raises(ImageError, match=r"got encoding 'rgb8'"):
        bench.frame(**{**good, "depth_in__image_rect": image(LEFT)})
    other = rig_to_infos(StereoRig((64, 48), 130.0, 130.0, 31.5, 23.5, 0.1), make_header(0, ""))[0]
    assert "the depth's camera_info has fx = 130 px but the left one 100 px" in bench.refusal(depth_in__camera_info=other, **good)
    bench.publish(depth_in__camera_info=rig_to_infos(RIG, make_header(0, ""))[0])
    bench.until_said("the depth camera_info changed")
    assert bench.frame(**good).measured is not None


def test_a_depth_in_another_frame_is_said(bench):
    bench.listen(external="depth")
    bench.frame(left__camera_info=infos()["left__camera_info"], left__image_rect=image(LEFT), depth_in__image_rect=image(DEPTH_M))
    assert not bench.said
    pair = bench.pairs[-1]
    pair.right.header.frame_id = "depth_optical"
    bench.input.frame(pair)
    assert "the depth is in the frame 'depth_optical' but the left image in 'left_optical'" in bench.said[-1]


def disparity_image(f=100.0, t=0.2):
    shifted = np.float32(20.0) / DEPTH_M  # d + doffs of any doffs: bf / Z
    return DisparityImage(image=image(shifted), f=f, t=t, min_disparity=1.0, max_disparity=64.0)


def test_disparity_of_a_camera_brings_its_baseline_along(bench):
    bench.listen(external="disparity")
    left = dict(left__camera_info=infos()["left__camera_info"], left__image_rect=image(LEFT))
    frame = bench.frame(disparity_in=disparity_image(), **left)
    assert frame.measured is not None and frame.measured.disparity_px is not None and frame.rig.baseline_m == pytest.approx(0.2)
    np.testing.assert_allclose(frame.rig.bf / (frame.measured.disparity_px + frame.rig.doffs_px), DEPTH_M, rtol=1e-5)
    with pytest.raises(CalibrationError, match=r"f = 50 px but the left camera_info says fx = 100 px"):
        bench.frame(disparity_in=disparity_image(f=50.0), **left)
    for baseline_m in (0.0, -0.2, np.nan):
        with pytest.raises(CalibrationError, match="baseline t must be above zero"):
            bench.frame(disparity_in=disparity_image(t=baseline_m), **left)


def test_the_cameras_confidence_of_the_same_stamp(bench):
    bench.listen(external="depth", confidence="percent_inverted")
    left = dict(left__camera_info=infos()["left__camera_info"], left__image_rect=image(LEFT), depth_in__image_rect=image(DEPTH_M))
    confidence = image(np.full(RIG.shape, 20.0, np.float32))
    frame = bench.frame("confidence", confidence_in=confidence, **left)
    assert frame.measured is not None and frame.measured.confidence is not None
    np.testing.assert_allclose(frame.measured.confidence, 0.8)
    with pytest.raises(ImageError, match=r"no confidence has come .* on /confidence_in"):
        bench.frame(**left)


def test_a_pair_waits_for_its_camera_info_and_a_change_is_taken(bench):
    stereo = bench.listen()
    bench.stamp_ns += 100 * MS
    for _ in range(3):
        bench.publish(left__image_rect=image(LEFT), right__image_rect=image(RIGHT))
    bench.graph.until(lambda: stereo.inputs["right"].newest_stamp_ns == bench.stamp_ns, "the images")
    assert not bench.pairs and stereo.infos.missing() == ("left", "right")
    frame = bench.frame(**infos(), left__image_rect=image(LEFT), right__image_rect=image(RIGHT))
    assert frame.rig.fx == 100.0
    zoomed = StereoRig((64, 48), 120.0, 120.0, 31.5, 23.5, 0.2)
    bench.publish(**infos(zoomed))
    bench.until_said("the right camera_info changed")
    assert bench.frame(left__image_rect=image(LEFT), right__image_rect=image(RIGHT)).rig.fx == 120.0
    bench.publish(right__camera_info=infos(StereoRig((32, 24), 60.0, 60.0, 15.5, 11.5, 0.2))["right__camera_info"])
    bench.graph.until(lambda: sum("right camera_info changed" in text for text in bench.said) == 2, "the second change")
    with pytest.raises(CalibrationError, match=r"64x48 \(left\) and 32x24 \(right\)"):
        bench.frame(left__image_rect=image(LEFT), right__image_rect=image(RIGHT))


def test_stamps_of_zero_are_refused_in_words_until_they_are_stamped(bench):
    stereo = bench.listen()
    pair = dict(left__image_rect=image(LEFT), right__image_rect=image(RIGHT))
    bench.frame(**infos(), **pair)
    before, bench.stamp_ns = bench.stamp_ns, 0
    bench.pairs.clear()
    bench.publish(**pair)
    assert "/right/image_rect brings the stamp 0" in bench.until_said("/right/image_rect brings")
    stereo.review()
    assert "let its driver stamp" in stereo.join.why and not bench.pairs
    bench.stamp_ns = before
    bench.frame(**pair)
    stereo.review()
    assert stereo.join.why == ""


def test_a_bag_that_loops_is_said_and_goes_on_at_once(bench):
    bench.listen()
    pair = dict(left__image_rect=image(LEFT), right__image_rect=image(RIGHT))
    bench.frame(**infos(), **pair)
    start_ns = bench.stamp_ns
    for _ in range(10):
        bench.frame(**pair)
    assert JUMPED not in bench.said
    bench.stamp_ns = start_ns - 100 * MS
    bench.frame(**pair)
    assert bench.said.count(JUMPED) == 1


def test_stamps_that_drift_apart_are_told_before_they_stop_pairing(bench):
    """The right camera's clock runs 0.25 ms per s fast: 15 ms per minute."""
    stereo = bench.listen()
    bench.frame(**infos(), left__image_rect=image(LEFT), right__image_rect=image(RIGHT))
    start_ns = bench.stamp_ns
    for i in range(1, 41):
        bench.stamp_ns = start_ns + 400 * i * MS
        bench.publish(left__image_rect=image(LEFT))
        bench.stamp_ns += i * MS // 10
        bench.publish(right__image_rect=image(RIGHT))
        bench.graph.until(lambda: stereo.inputs["right"].newest_stamp_ns == bench.stamp_ns, "the right image")
    stereo.review()
    assert "drift apart by 15 ms per minute and are 4 ms apart now" in stereo.join.why


def test_a_remapped_image_takes_its_compressed_topic_along(bench):
    import rclpy

    arguments = ["--ros-args", "-r", "left/image_rect:=/cam/color/image_raw", "-r", "depth_in/image_rect:=/cam/depth/image"]
    node = rclpy.create_node("remapped", context=bench.graph.context, cli_args=arguments)
    stereo = StereoInput(node, InputConfig(transport="compressed", external="depth", depth_transport="compressed"), print, print)
    assert stereo.inputs["left"].topic == "/cam/color/image_raw/compressed"
    assert stereo.inputs["depth"].topic == "/cam/depth/image/compressedDepth"
    bench.graph.until(lambda: bench.graph.node.count_subscribers("/cam/depth/image/compressedDepth"), "the subscription")
    stereo.close()
    node.destroy_node()


def test_a_grey_and_a_colour_camera_become_grey(bench):
    bench.listen()
    frame = bench.frame(**infos(), left__image_rect=image(LEFT), right__image_rect=image(RIGHT[..., 0]))
    np.testing.assert_array_equal(frame.left, cv2.cvtColor(LEFT, cv2.COLOR_RGB2GRAY))
    np.testing.assert_array_equal(frame.right, RIGHT[..., 0])


def test_closing_ends_every_subscription(bench):
    bench.listen(external="depth", confidence="byte", use_pose=True).close()
    for topic in ("left/image_rect", "left/camera_info", "depth_in/image_rect", "depth_in/camera_info", "confidence_in", "pose"):
        bench.graph.until(lambda topic=topic: not bench.graph.node.count_subscribers(topic), f"no subscriber of {topic}")


def test_inputs_and_backend_must_go_together():
    check_inputs(InputConfig(), "sgbm")
    check_inputs(InputConfig(external="depth"), "external")
    with pytest.raises(ConfigError, match="do not go together"):
        check_inputs(InputConfig(), "external")
    with pytest.raises(ConfigError, match="do not go together"):
        check_inputs(InputConfig(external="disparity"), "sgbm")
    with pytest.raises(ConfigError, match="rectified images"):
        check_inputs(InputConfig(external="depth", rectify=True), "external")
    with pytest.raises(ConfigError, match=r"input\.confidence needs"):
        check_inputs(InputConfig(confidence="byte"), "sgbm")


@pytest.mark.parametrize(
    ("remapping", "config"),
    [
        ("disparity_in:=disparity", {"external": "disparity"}),
        ("disparity:=disparity_in", {"external": "disparity"}),
        ("depth_in/image_rect:=depth/image_rect", {"external": "depth"}),
        ("depth_in/camera_info:=depth/camera_info", {"external": "depth"}),
        ("confidence_in:=/robot/confidence", {"external": "depth", "confidence": "fraction"}),
        ("right/image_rect:=overlay", {}),
        ("overlay:=left/image_raw", {"rectify": True}),
        ("overlay:=left/image_rect/compressed", {"transport": "compressed"}),
    ],
)
def test_no_node_may_hear_itself(new_graph, remapping, config):
    import rclpy

    node = rclpy.create_node("deaf", context=new_graph().context, namespace="robot", cli_args=["--ros-args", "-r", remapping])
    try:
        with pytest.raises(ConfigError, match="which this node publishes itself: remap the input"):
            check_not_own(node, InputConfig(**config), TOPICS)
        other = InputConfig() if config.get("external") else InputConfig(external="depth")
        check_not_own(node, other, TOPICS[:3])
    finally:
        node.destroy_node()
