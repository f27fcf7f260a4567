"""Whole graphs of processes: player -> pipeline -> listener with a recording, best-effort images, wrong starts, clean ends."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from semantic_stereo_ros.msg import ObjectDistanceArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from semantic_stereo_ros.nodes.harness.demo_graph import run_demo
from semantic_stereo_ros.nodes.harness.recording import typestore
from semantic_stereo_ros.nodes.messages.conversions import image_to_array, stamp_to_ns
from semantic_stereo_ros.nodes.outputs.publishers import OUTPUTS
from semantic_stereo_ros.nodes.player_node import FRAME_QOS
from semantic_stereo_ros.synthetic import demo_sequence

pytestmark = pytest.mark.xdist_group("dds")

FRAMES = 8
SIZE_WH = (320, 240)


@pytest.fixture(scope="module")
def demo(dds_environment, tmp_path_factory):
    """(its result, the frames as they were told, how long all of it took in seconds)"""
    seen, start_s = [], time.monotonic()
    result = run_demo(tmp_path_factory.mktemp("demo"), FRAMES, size_wh=SIZE_WH, rate_hz=15.0, on_frame=seen.append)
    return result, seen, time.monotonic() - start_s


def test_every_frame_is_answered_in_order_with_its_own_stamp(demo):
    result, seen, whole_s = demo
    assert [frame.index for frame in result.frames] == list(range(FRAMES)) and len(seen) == FRAMES
    assert result.sent == FRAMES and result.dropped == 0 and result.rate_hz > 0
    assert all(stamp_to_ns(f.objects.header.stamp) == f.stamp_ns and 0 < f.age_s < whole_s for f in result.frames)
    assert result.age_percentile_s(50) <= result.age_percentile_s(95)


def test_poses_make_velocities_relative_to_the_world(demo):
    objects = demo[0].frames[-1].objects.objects
    assert objects and {o.velocity_frame for o in objects} == {"world"}


def test_bag_holds_every_topic_of_every_frame_and_can_be_read_without_ros(demo):
    result = demo[0]
    with AnyReader([result.bag], default_typestore=typestore()) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        for output in OUTPUTS:
            assert counts[f"/{output.topic}"] == FRAMES, output.topic
        for topic in ("/left/image_rect", "/right/image_rect", "/left/camera_info", "/right/camera_info", "/pose", "/frame"):
            assert counts[topic] == FRAMES, topic
        stamps = {}
        for connection, _, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            if hasattr(message, "header") and connection.topic != "/diagnostics":
                stamps.setdefault(connection.topic, []).append(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
            if connection.topic == "/objects":
                assert len(message.objects) >= 0 and message.header.frame_id == "camera_left_optical_frame"
            if connection.topic == "/points":
                assert message.data.size == message.width * message.height * message.point_step
    expected = [frame.stamp_ns for frame in result.frames]
    assert all(sorted(found) == expected for found in stamps.values())


def test_recorded_images_are_the_rendered_ones(demo):
    first = demo_sequence(FRAMES, SIZE_WH)[0].frame
    with AnyReader([demo[0].bag], default_typestore=typestore()) as reader:
        connection = next(c for c in reader.connections if c.topic == "/left/image_rect")
        _, _, raw = next(reader.messages([connection]))
        message: Any = reader.deserialize(raw, connection.msgtype)
    assert np.array_equal(message.data.reshape(message.height, message.width, 3), first.left)


def test_best_effort_images_are_not_lost_with_the_profile(new_graph):
    """640x480 colour from a player in another process at 15 Hz; without the profile about half are lost."""
    graph = new_graph()
    best_effort = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)  # none is lost because this process waits for a core
    left = graph.subscribe(Image, "left/image_rect", best_effort)
    right = graph.subscribe(Image, "right/image_rect", best_effort)
    sent = graph.subscribe(Header, "frame", FRAME_QOS)
    parameters = {"player.frames": 3, "player.preload": True, "player.loop": True, "player.subscribers": 0}
    player = graph.start("player_node", **parameters, **{"player.reliability": "best_effort"})
    graph.until(lambda: left and right, "the first images")
    first_ns = max(stamp_to_ns(left[-1].header.stamp), stamp_to_ns(right[-1].header.stamp))
    graph.until(lambda: sum(stamp_to_ns(h.stamp) > first_ns for h in sent) >= 40, "40 frames")
    player.send_signal(signal.SIGINT)
    assert graph.ended(player) == 0
    stamps = {stamp_to_ns(h.stamp) for h in sent if first_ns < stamp_to_ns(h.stamp)}
    graph.until(lambda: stamp_to_ns(left[-1].header.stamp) >= max(stamps) - 200_000_000, "the last images")
    for images in (left, right):
        arrived = {stamp_to_ns(m.header.stamp) for m in images} & stamps
        assert len(stamps - arrived) <= 2, "the last ones may fall into the interrupt, no other may be lost"


def test_best_effort_camera_is_heard_and_raw_images_are_rectified(new_graph, make_camera):
    """A best-effort driver with image_raw: the node was there first, and still hears it; distortion is taken out."""
    from semantic_stereo_ros.synthetic import plane

    graph = new_graph()
    truth = plane(3.0, SIZE_WH)
    objects = graph.subscribe(ObjectDistanceArray, "objects")
    depth = graph.subscribe(Image, "depth/image_rect")
    node = graph.start("pipeline_node", input__rectify=True)
    graph.until(lambda: graph.node.count_publishers("objects"), "pipeline_node")
    camera = make_camera(graph, reliable=False, image="image_raw")
    camera.wait_for_subscribers()
    stamps = []

    def sent_and_answered():
        if not stamps or time.monotonic() - stamps[-1] > 1.0:
            stamps.append(time.monotonic())
            camera.send(truth.frame.left, truth.frame.right, truth.rig, round(stamps[-1] * 1e9))
        return objects and depth

    graph.until(sent_and_answered, "an answer to raw images")
    shown = np.frombuffer(depth[-1].data, np.float32)
    assert np.nanmedian(shown) == pytest.approx(3.0, rel=0.02)
    node.send_signal(signal.SIGINT)
    assert graph.ended(node) == 0


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("pipeline_node", {"stereo.bakend": "sgbm"}, "unknown parameter 'stereo.bakend'; did you mean stereo.backend"),
        ("pipeline_node", {"output.stride": 0}, "output.stride must lie in [1, 32]"),
        ("player_node", {"player.source": "left_only"}, "'LEFT,RIGHT'"),
        ("player_node", {"player.source": "no_such_folder,other", "player.calibration": "x"}, "no_such_folder does not exist"),
    ],
)
def test_wrong_start_says_why_and_fails(new_graph, name, parameters, words):
    graph = new_graph()
    process = graph.start(name, **parameters)
    assert graph.ended(process) == 1
    assert words in graph.log(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["pipeline_node", "stereo_node"])
def test_a_node_that_would_hear_itself_does_not_start(new_graph, name):
    graph = new_graph()
    values = ["-p", "stereo.backend:=external", "-p", "input.external:=disparity", "-r", "disparity_in:=disparity"]
    process = subprocess.run(
        [sys.executable, "-m", f"semantic_stereo_ros.nodes.{name}", "--ros-args", *values],
        env={**os.environ, "ROS_DOMAIN_ID": str(graph.domain_id)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert "the input disparity_in is /disparity, which this node publishes itself" in process.stderr
    assert "Traceback" not in process.stderr


SHUTDOWN_WITHIN = """
import os, signal, sys, time
import rclpy
from rclpy.node import Node
from std_msgs.msg import Empty
from semantic_stereo_ros.nodes.runtime.executor import run_node

class Late(Node):
    def __init__(self):
        super().__init__("late")
        self.publisher = self.create_publisher(Empty, "late", 1)
        self.create_timer(0.01, self.on_timer)

    def on_timer(self):
        {before}
        self.publisher.publish(Empty())

sys.exit(run_node(Late))
"""


@pytest.mark.parametrize(
    ("before", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)\n        while rclpy.ok(): time.sleep(0.001)", 0),  # the publisher has no context any more
        ("self.destroy_publisher(self.publisher)", 1),  # an error of rclpy's that no shutdown explains
    ],
)
def test_a_shutdown_in_the_midst_of_a_callback_is_no_error(new_graph, before, code):
    graph = new_graph()
    process = subprocess.run(
        [sys.executable, "-c", SHUTDOWN_WITHIN.format(before=before)],
        env={**os.environ, "ROS_DOMAIN_ID": str(graph.domain_id)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == code, process.stderr
    assert ("Traceback" in process.stderr) == bool(code)


def test_player_is_interrupted_while_it_publishes_and_while_it_renders(new_graph):
    graph = new_graph()
    fast = graph.start("player_node", **{"player.subscribers": 0, "player.frames": 2, "player.loop": True, "player.rate_hz": 0.0})
    frames = graph.subscribe(Header, "frame", FRAME_QOS)
    graph.until(lambda: len(frames) > 3, "frames")
    fast.send_signal(signal.SIGINT)
    assert graph.ended(fast) == 0
    rendering = graph.start("player_node", **{"player.preload": True, "player.frames": 100_000})
    graph.until(lambda: graph.log("player_node").read_text(encoding="utf-8").count("Fast DDS profile") == 2, "the second player")
    rendering.send_signal(signal.SIGINT)
    assert graph.ended(rendering) == 0
    assert "Traceback" not in graph.log("player_node").read_text(encoding="utf-8")


def test_player_ends_by_itself_and_by_interrupt(new_graph):
    graph = new_graph()
    small = {"player.frames": 2, "player.width": 160, "player.height": 120}
    finished = graph.start("player_node", **small, **{"player.subscribers": 0})
    waiting = graph.start("player_node", **small, **{"player.subscribers": 5})
    assert graph.ended(finished) == 0
    graph.until(lambda: "waiting for 5 subscriber" in graph.log("player_node").read_text(encoding="utf-8"), "a waiting player")
    waiting.send_signal(signal.SIGINT)
    assert graph.ended(waiting) == 0
    assert "Traceback" not in graph.log("player_node").read_text(encoding="utf-8")


def test_recorded_folders_are_played(new_graph, tmp_path):
    import cv2

    from semantic_stereo_ros.synthetic import random_sequence

    sequence = random_sequence(3, 2, SIZE_WH)
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for i in range(2):
            image = getattr(sequence[i].frame, side)
            cv2.imwrite(str(tmp_path / side / f"{i:03d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    rig = sequence.rig
    (tmp_path / "K.txt").write_text(f"{rig.fx} 0 {rig.cx} 0 {rig.fy} {rig.cy} 0 0 1\n{rig.baseline_m}\n", encoding="utf-8")
    graph = new_graph()
    images = graph.subscribe(Image, "left/image_rect")
    graph.subscribe(Image, "right/image_rect")
    for side in ("left", "right"):
        graph.subscribe(CameraInfo, f"{side}/camera_info")
    names = graph.subscribe(Header, "frame", FRAME_QOS)
    source = f"{tmp_path / 'left'},{tmp_path / 'right'}"
    graph.start("player_node", **{"player.source": source, "player.calibration": str(tmp_path / "K.txt"), "player.rate_hz": 0.0})
    graph.until(lambda: len(names) == 2 and images and stamp_to_ns(images[-1].header.stamp) == stamp_to_ns(names[-1].stamp), "two frames")
    assert [h.frame_id for h in names] == ["000", "001"]
    assert np.array_equal(image_to_array(images[-1]), sequence[1].frame.left)
