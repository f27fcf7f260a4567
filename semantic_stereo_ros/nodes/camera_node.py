"""camera_node: a USB stereo camera, or two video devices, as raw stereo topics.

Publishes left/image_raw, right/image_raw and, with a calibration, left/camera_info and right/camera_info. Both sides carry one stamp:
the time at which the frame was grabbed. A thread of its own reads the camera, so that the executor is never blocked; a camera that
is lost is opened again.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.geometry.calibration import StereoCalibration
from semantic_stereo_ros.io.calibration_files import load_calibration
from semantic_stereo_ros.io.video_devices import Config, StereoCapture, VideoEndedError
from semantic_stereo_ros.nodes.health.diagnostics import diagnostic_array
from semantic_stereo_ros.nodes.health.health_messages import ERROR, OK, WARN
from semantic_stereo_ros.nodes.health.windows import Window
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, calibration_to_infos, make_header, rig_to_infos
from semantic_stereo_ros.nodes.runtime.executor import run_node
from semantic_stereo_ros.nodes.runtime.node_options import build_section, section_schema
from semantic_stereo_ros.nodes.runtime.parameters import NODE_FLAGS, NodeParameters
from semantic_stereo_ros.nodes.runtime.ros_logging import Throttle, bridge_logging, unbridge_logging

SIDES = ("left", "right")
QUEUE_DEPTH = 5
SILENT_S = 3.0
"""A camera that gives no frame for so long is said to be silent. OpenCV itself waits 10 s for one."""
FILE_RATE_HZ = 30.0
"""Of a video file that does not say its own."""


class CameraNode(Node):
    """The publishers, the thread that feeds them, and what is said of it on /diagnostics."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("camera_node", **NODE_FLAGS, **node_options)
        self._log_handler = bridge_logging(self)
        self._throttle = Throttle()
        self.config = Config()
        NodeParameters(self, section_schema("camera"), self._apply)
        reliable = self.config.reliability == "reliable"
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH, reliability=reliability)
        self._images = [self.create_publisher(Image, f"{side}/image_raw", qos) for side in SIDES]
        self._infos = [self.create_publisher(CameraInfo, f"{side}/camera_info", 10) for side in SIDES] if self.config.calibration else []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._grabbed, self._spread_s = Window(), Window()
        self._newest_s = time.monotonic()
        self._mode = "not open"
        self._trouble = ""
        self._ended = False
        self._frames = self._losses = 0
        self.create_timer(1.0, self._every_second, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
        self._reader.start()

    def _apply(self, values: dict[str, Any]) -> None:
        self.config = build_section("camera", values)

    # What the camera's thread does ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Open, read until something fails, wait, open again."""
        while not self._stop.is_set():
            try:
                self._read_until_lost()
            except VideoEndedError as error:
                if not self.config.loop:
                    self._ended = True
                    self.get_logger().info(str(error))
                    return
            except Exception as error:
                self._lost(error)
                self._stop.wait(self.config.reconnect_s)

    def _lost(self, error: Exception) -> None:
        known = isinstance(error, SemanticStereoError)
        self._losses += self._mode != "not open"
        self._mode = "not open"
        self._trouble = str(error) if known else f"{type(error).__name__}: {error}"
        if self._throttle(self._trouble) and not self._stop.is_set():
            more = "" if known else "\n" + "".join(traceback.format_exception(error))
            self.get_logger().error(f"{self._trouble}; trying again every {self.config.reconnect_s:g} s{more}")

    def _read_until_lost(self) -> None:
        capture = StereoCapture(self.config)
        try:
            infos = self._load_infos(capture.size_wh)
            if self._mode != capture.mode:
                self.get_logger().info(f"camera {self.config.device}: {capture.mode}")
            self._mode = capture.mode
            due_s = time.monotonic()
            period_s = 1.0 / (self.config.fps or capture.rate_hz or FILE_RATE_HZ) if capture.is_file else 0.0
            while not self._stop.wait(max(due_s - time.monotonic(), 0.0)):
                due_s = max(due_s + period_s, time.monotonic() - period_s)
                self._send(capture, infos)
        finally:
            capture.close()

    def _load_infos(self, size_wh: tuple[int, int]) -> tuple[CameraInfo, ...]:
        if not self.config.calibration:
            return ()
        calibration = load_calibration(self.config.calibration, image_size_wh=size_wh)
        header = make_header(0, self.config.frame_id)
        if isinstance(calibration, StereoCalibration):
            return calibration_to_infos(calibration, header)
        return rig_to_infos(calibration, header)

    def _send(self, capture: StereoCapture, infos: tuple[CameraInfo, ...]) -> None:
        """Grab, stamp and publish one frame. It is decoded only when somebody wants to see it."""
        spread_s = capture.grab()
        header = make_header(self.get_clock().now().nanoseconds, self.config.frame_id)
        self._newest_s = time.monotonic()
        self._grabbed.add(self._newest_s)
        self._spread_s.add(self._newest_s, spread_s)
        self._frames += 1
        for publisher, info in zip(self._infos, infos):
            info.header = header
            publisher.publish(info)
        if any(publisher.get_subscription_count() for publisher in self._images):
            for publisher, image in zip(self._images, capture.retrieve()):
                publisher.publish(array_to_image(image, header, "mono8" if image.ndim == 2 else "bgr8"))
        self._trouble = ""

    # What the executor does -------------------------------------------------------------------------------------------------

    def verdict(self, now_s: float) -> tuple[int, str]:
        """(level, one sentence) of the camera at `now_s` of time.monotonic()."""
        config = self.config
        if self._trouble:
            return ERROR, self._trouble
        if self._ended:
            return OK, f"the video {config.device} has ended after {self._frames} frames"
        if now_s - self._newest_s > SILENT_S:
            return ERROR, f"camera {config.device} has given no frame for {now_s - self._newest_s:.0f} s: unplugged, or its link is stuck"
        spread = self._spread_s.percentiles(now_s)
        if spread is not None and spread[1] * 1e3 > config.max_spread_ms:
            return WARN, (
                f"the two devices give their frames {spread[1] * 1e3:.1f} ms apart, more than camera.max_spread_ms = "
                f"{config.max_spread_ms:g}: distances of whatever moves are wrong; use cameras with a common trigger"
            )
        if not config.calibration:
            return WARN, "no camera_info is published: set camera.calibration"
        return OK, f"running at {self._grabbed.rate(now_s):.1f} Hz" if self._frames else f"starting: opening camera {config.device}"

    def _every_second(self) -> None:
        now_s = time.monotonic()
        spread = self._spread_s.percentiles(now_s)
        values = {
            "device": " and ".join(filter(None, (self.config.device, self.config.right_device))),
            "mode": self._mode,
            "rate (Hz)": f"{self._grabbed.rate(now_s):.2f}",
            "frames": str(self._frames),
            "times lost": str(self._losses),
            "spread p50 / p95 (ms)": "none" if spread is None else f"{spread[0] * 1e3:.1f} / {spread[1] * 1e3:.1f}",
        }
        name = f"{self.get_fully_qualified_name().strip('/')}: camera"
        self._diagnostics.publish(diagnostic_array(name, self.get_clock().now().to_msg(), self.verdict(now_s), values))

    def destroy_node(self) -> None:
        """Stop the reading first; a thread that waits inside OpenCV for a dead camera is left behind."""
        self._stop.set()
        self._reader.join(1.0)
        unbridge_logging(self._log_handler)
        super().destroy_node()


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros camera_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
