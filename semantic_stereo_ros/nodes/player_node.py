"""player_node: folders, videos and synthetic scenes as stereo topics, at a rate or as fast as they are consumed.

Publishes left/image_rect, right/image_rect, left/camera_info, right/camera_info; `pose` (nav_msgs/Odometry, camera in the world)
where the source knows it; and `frame` (std_msgs/Header: the images' stamp, and the frame's name in frame_id), which tells whoever
knows the truth which frame a stamp is. Stamps are the time of sending.
"""

from __future__ import annotations

import dataclasses
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import rclpy
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from semantic_stereo_ros.checks import ConfigError, SemanticStereoError
from semantic_stereo_ros.io.sequences import open_pairs
from semantic_stereo_ros.msg import ObjectDistanceArray
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, make_header, matrix_to_pose, rig_to_infos, stamp_to_ns
from semantic_stereo_ros.nodes.runtime import dds
from semantic_stereo_ros.nodes.runtime.executor import leave, leave_interrupts_to_rclpy, uninterrupted, until_shutdown
from semantic_stereo_ros.nodes.runtime.node_options import PlayerConfig, build_section, section_schema
from semantic_stereo_ros.nodes.runtime.parameters import NODE_FLAGS, NodeParameters
from semantic_stereo_ros.nodes.runtime.ros_logging import bridge_logging, unbridge_logging
from semantic_stereo_ros.types import StereoFrame

SYNTHETIC_FRAMES = 90
QUEUE_DEPTH = 5
FRAME_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


class PlayerNode(Node):
    """The publishers and the acknowledgement. `play` does the work and returns the number of frames sent."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("player_node", **NODE_FLAGS, **node_options)
        self._log_handler = bridge_logging(self)
        self.config = PlayerConfig()
        NodeParameters(self, section_schema("player"), self._apply)
        reliable = self.config.reliability == "reliable"
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH, reliability=reliability)
        keep = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self._images = [self.create_publisher(Image, f"{side}/image_rect", qos) for side in ("left", "right")]
        self._infos = [self.create_publisher(CameraInfo, f"{side}/camera_info", keep) for side in ("left", "right")]
        self._pose = self.create_publisher(Odometry, "pose", keep)
        self._frame = self.create_publisher(Header, "frame", FRAME_QOS)
        self._answered = threading.Condition()
        self._answered_ns = -1
        if self.config.wait:
            self.create_subscription(ObjectDistanceArray, "objects", self._on_objects, 10)

    def _apply(self, values: dict[str, Any]) -> None:
        self.config = build_section("player", values)

    def _on_objects(self, message: ObjectDistanceArray) -> None:
        with self._answered:
            self._answered_ns = max(self._answered_ns, stamp_to_ns(message.header.stamp))
            self._answered.notify_all()

    def play(self) -> int:
        """Send all frames; returns how many. Raises SemanticStereoError for a source that cannot be read."""
        config, sent, unanswered = self.config, 0, 0
        frames = prefetched(config, lambda: rclpy.ok(context=self.context))
        first = list(itertools.islice(frames, 1))  # a source that cannot be is said before anybody is waited for
        self._wait_for_subscribers()
        period_s = 1.0 / config.rate_hz if config.rate_hz > 0 else 0.0
        due_s = time.monotonic()
        for frame, name in itertools.chain(first, frames):
            while (remaining_s := due_s - time.monotonic()) > 0 and rclpy.ok(context=self.context):
                time.sleep(min(remaining_s, 0.1))
            if not rclpy.ok(context=self.context):
                break
            due_s = max(due_s + period_s, time.monotonic() - period_s)  # a late frame does not make the next ones hurry
            stamp_ns = self._send(frame, name)
            sent += 1
            if config.wait and not self._wait_for_answer(stamp_ns):
                unanswered += 1
                self.get_logger().warning(f"no objects came for frame {name} within {config.wait_timeout_s:g} s; going on")
        if rclpy.ok(context=self.context):
            for publisher in self._images:
                publisher.wait_for_all_acked(Duration(seconds=2.0))
            self.get_logger().info(f"{sent} frames sent" + (f", {unanswered} without an answer" if unanswered else ""))
        return sent

    def _wait_for_subscribers(self) -> None:
        wanted, publishers, said = self.config.subscribers, (*self._images, *self._infos), False
        while rclpy.ok(context=self.context):
            lacking = [p.topic_name for p in publishers if p.get_subscription_count() < wanted]
            if not lacking:
                return
            if not said:
                said = True
                self.get_logger().info(f"waiting for {wanted} subscriber(s) of {', '.join(lacking)}; player.subscribers:=0 starts at once")
            time.sleep(0.05)

    def _send(self, frame: StereoFrame, name: str) -> int:
        """Publish one frame, the images last, so that whatever explains them is there first. Returns the stamp in ns."""
        messages = [array_to_image(image, make_header(0, self.config.frame_id)) for image in (frame.left, frame.right)]
        stamp_ns = self.get_clock().now().nanoseconds
        header = make_header(stamp_ns, self.config.frame_id)
        self._frame.publish(Header(stamp=header.stamp, frame_id=name))
        if frame.pose_world_camera is not None:
            odometry = Odometry(child_frame_id=self.config.frame_id)
            odometry.header = make_header(stamp_ns, self.config.world_frame_id)
            odometry.pose.pose = matrix_to_pose(frame.pose_world_camera)
            self._pose.publish(odometry)
        for publisher, info in zip(self._infos, rig_to_infos(frame.rig, header)):
            publisher.publish(info)
        for publisher, message in zip(self._images, messages):
            message.header = header
            publisher.publish(message)
        return stamp_ns

    def _wait_for_answer(self, stamp_ns: int) -> bool:
        end_s = time.monotonic() + self.config.wait_timeout_s
        with self._answered:
            while self._answered_ns < stamp_ns and time.monotonic() < end_s and rclpy.ok(context=self.context):
                self._answered.wait(0.2)
            return self._answered_ns >= stamp_ns

    def destroy_node(self) -> None:
        unbridge_logging(self._log_handler)
        super().destroy_node()


def source_frames(config: PlayerConfig) -> Iterator[tuple[StereoFrame, str]]:
    """The frames of `config.source`, again and again with loop, with their names (a synthetic frame's is its number)."""
    make_pass = _synthetic_pass if config.source.split(":")[0] == "synthetic" else _recorded_pass
    while True:
        yield from make_pass(config)
        if not config.loop:
            return


def _synthetic_pass(config: PlayerConfig) -> Iterator[tuple[StereoFrame, str]]:
    from semantic_stereo_ros.synthetic import demo_sequence, random_sequence

    _, _, seed = config.source.partition(":")
    count, size_wh = config.frames or SYNTHETIC_FRAMES, (config.width, config.height)
    if seed and not seed.isdecimal():
        raise ConfigError(f"player.source must be 'synthetic' or 'synthetic:<seed>' with a number as seed, got {config.source!r}")
    sequence = random_sequence(int(seed), count, size_wh) if seed else demo_sequence(count, size_wh)
    return ((sequence[i].frame, str(i)) for i in range(count))


def _recorded_pass(config: PlayerConfig) -> Iterator[tuple[StereoFrame, str]]:
    left, comma, right = config.source.partition(",")
    if not comma:
        raise ConfigError(f"player.source must be 'synthetic', 'synthetic:<seed>' or 'LEFT,RIGHT', got {config.source!r}")
    if not config.calibration:
        raise ConfigError("player.calibration must name a calibration file for recorded images, got an empty text")
    sequence = open_pairs(left.strip(), right.strip(), config.calibration)
    for number, item in enumerate(sequence):
        if config.frames and number >= config.frames:
            return
        yield item


def prefetched(config: PlayerConfig, goes_on: Callable[[], bool]) -> Iterator[tuple[StereoFrame, str]]:
    """The frames of the source, read ahead in a thread; with preload, the first pass is read to its end before anything is given out.

    They end early when `goes_on` is false, however long the next one takes.
    """
    if config.preload:
        one_pass = list(itertools.takewhile(lambda _: goes_on(), source_frames(dataclasses.replace(config, loop=False))))
        yield from itertools.cycle(one_pass) if config.loop else one_pass
        return
    ahead: queue.Queue[tuple[StereoFrame, str] | Exception | None] = queue.Queue(maxsize=4)

    def read() -> None:
        try:
            for item in source_frames(config):
                ahead.put(item)
            ahead.put(None)
        except Exception as error:  # raised again where the frames are used
            ahead.put(error)

    threading.Thread(target=read, name="reader", daemon=True).start()
    while goes_on():
        try:
            item = ahead.get(timeout=0.2)
        except queue.Empty:
            continue
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        yield item


def main(args: list[str] | None = None) -> NoReturn:
    """Entry point of `ros2 run semantic_stereo_ros player_node`. Exits 0 at the end and after Ctrl-C, 1 for a source that cannot be."""
    profile = dds.use_large_segment()
    leave_interrupts_to_rclpy()
    rclpy.init(args=args)
    node, executor, spinner, code = None, SingleThreadedExecutor(), None, 0
    try:
        with until_shutdown():
            node = PlayerNode()
            node.get_logger().info(profile)
            executor.add_node(node)
            spinner = threading.Thread(target=_spin, args=(executor,), name="executor", daemon=True)
            spinner.start()
            node.play()
    except SemanticStereoError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    finally:
        with uninterrupted():
            rclpy.try_shutdown()
            executor.wake()  # rclpy's own signal handler wakes it before it shuts the context down: it may have gone back to sleep
            if spinner is not None:
                spinner.join(5.0)
            if node is not None:
                node.destroy_node()
            executor.shutdown(timeout_sec=0.0)
            rclpy.get_default_context().destroy()  # takes the shared memory away; a process that leaves at once would not
    leave(code)  # left in the middleware's static destructors, a process may abort


def _spin(executor: SingleThreadedExecutor) -> None:
    with until_shutdown():
        executor.spin()


if __name__ == "__main__":
    main()
