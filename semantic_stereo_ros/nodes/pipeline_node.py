"""pipeline_node: a stereo pair of topics in, distances out. The ROS shell around pipeline.Pipeline and nothing more.

The executor only receives and pairs; decoding, inference and publishing run on one worker thread that always takes the newest pair.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from semantic_stereo_ros.checks import CalibrationError, SemanticStereoError
from semantic_stereo_ros.config import from_flat, schema
from semantic_stereo_ros.geometry.epipolar import check_pair
from semantic_stereo_ros.io.writers import ResultWriter
from semantic_stereo_ros.nodes import dds
from semantic_stereo_ros.nodes.camera_infos import CameraInfoCache
from semantic_stereo_ros.nodes.conversions import image_to_array, stamp_to_ns
from semantic_stereo_ros.nodes.diagnostics import diagnostic_array
from semantic_stereo_ros.nodes.health import Health, SideHealth
from semantic_stereo_ros.nodes.image_input import ImageInput
from semantic_stereo_ros.nodes.node_options import InputConfig, OutputConfig, build_section, section_schema
from semantic_stereo_ros.nodes.outputs import OutputPublishers
from semantic_stereo_ros.nodes.parameters import NODE_FLAGS, NodeParameters
from semantic_stereo_ros.nodes.poses import PoseBuffer
from semantic_stereo_ros.nodes.ros_logging import Throttle, bridge_logging, unbridge_logging
from semantic_stereo_ros.nodes.synchroniser import Pair, PairSynchroniser
from semantic_stereo_ros.nodes.worker import LatestOnlyWorker
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.srv import SaveSnapshot
from semantic_stereo_ros.types import Scene, SceneStatus, StereoFrame

SIDES = ("left", "right")


@dataclass(frozen=True)
class _Settings:
    """Swapped as a whole, so that one frame never sees two of them."""

    pipeline: Any
    input: InputConfig
    output: OutputConfig


class PipelineNode(Node):
    """See README for the topics and `ros2 param list` for the parameters."""

    def __init__(self, **node_options: Any) -> None:
        super().__init__("pipeline_node", **NODE_FLAGS, **node_options)
        self._log_handler = bridge_logging(self)
        self._throttle = Throttle()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        options = {**schema(), **section_schema("input"), **section_schema("output")}
        self._settings: _Settings
        self._synchroniser: PairSynchroniser | None = None
        self._uncalibrated: Pair | None = None
        self.parameters = NodeParameters(self, options, self._apply)
        settings = self._settings
        self._pipeline = Pipeline(settings.pipeline)
        self._pipeline.load()
        self._pipeline_lock = threading.Lock()
        self._infos = CameraInfoCache(settings.input.rectify)
        self._poses = PoseBuffer()
        self._newest_job: Pair | None = None
        self._last_scene: Scene | None = None
        self._last_stamp_ns: int | None = None
        self._checked_s = float("-inf")
        self._outputs = OutputPublishers(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._synchroniser = PairSynchroniser(round(settings.input.sync_tolerance_ms * 1e6))
        self._worker: LatestOnlyWorker[Pair] = LatestOnlyWorker(self._work, self._refuse, "pipeline")
        self._inputs = self._subscribe(settings.input)
        self.health = self._make_health()
        self.create_service(SaveSnapshot, "save_snapshot", self._save_snapshot)
        self.create_timer(1.0, self._every_second, clock=self._steady)

    def _subscribe(self, config: InputConfig) -> dict[str, ImageInput]:
        image = "image_raw" if config.rectify else "image_rect"
        inputs = {}
        for side in SIDES:

            def on_info(message: CameraInfo, side: str = side) -> None:
                self._on_info(side, message)

            inputs[side] = ImageInput(self, f"{side}/{image}", partial(self._on_image, side), config.reliability)
            self.create_subscription(CameraInfo, f"{side}/camera_info", on_info, qos_profile_sensor_data)
        if config.use_pose:
            self.create_subscription(Odometry, "pose", self._on_pose, qos_profile_sensor_data)
        return inputs

    def _make_health(self) -> Health:
        health = Health(SideHealth(self._inputs["left"].topic), SideHealth(self._inputs["right"].topic), started_s=time.monotonic())
        health.info_topics = {side: self.resolve_topic_name(f"{side}/camera_info") for side in SIDES}
        return health

    def _apply(self, values: dict[str, Any]) -> None:
        """Take accepted parameters; the worker swaps them in between two frames. Raises ConfigError."""
        pipeline = from_flat({key: value for key, value in values.items() if key in schema()})
        self._settings = _Settings(pipeline, build_section("input", values), build_section("output", values))
        if self._synchroniser is not None:
            self._synchroniser.tolerance_ns = round(self._settings.input.sync_tolerance_ms * 1e6)

    # What the executor does -------------------------------------------------------------------------------------------------

    def _on_image(self, side: str, message: Image) -> None:
        stamp_ns, now_s = stamp_to_ns(message.header.stamp), time.monotonic()
        side_health = getattr(self.health, side)
        side_health.received.add(now_s)
        side_health.newest_stamp_ns = stamp_ns
        assert self._synchroniser is not None
        pair = self._synchroniser.add(side, stamp_ns, message)
        if pair is None:
            return
        self.health.pairs.add(now_s)
        self.health.skew_s.add(now_s, abs(pair.skew_ns) / 1e9)
        self._uncalibrated = pair
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the newest pair to the worker once both camera_infos are there: images may overtake the infos sent before them."""
        self.health.missing_infos = self._infos.missing()
        if self.health.missing_infos or self._uncalibrated is None:
            return
        pair, self._uncalibrated = self._uncalibrated, None
        self._newest_job = pair
        self.health.wanted = self._settings.output.process_idle or self._outputs.wanted()
        if self.health.wanted:
            self._worker.submit(pair)

    def _on_info(self, side: str, message: CameraInfo) -> None:
        if self._infos.update(side, message):
            self.get_logger().info(f"the {side} camera_info changed")
        if self._uncalibrated is not None:
            self._hand_over()

    def _on_pose(self, message: Odometry) -> None:
        try:
            self._poses.add_message(message)
        except CalibrationError as error:
            self._warn(str(error))

    def _every_second(self) -> None:
        for side in SIDES:
            side_health, image_input = getattr(self.health, side), self._inputs[side]
            side_health.publishers = image_input.review()
            side_health.qos_mismatch = image_input.mismatch
        self.health.tolerance_ms = self._settings.input.sync_tolerance_ms
        self.health.missing_infos = self._infos.missing()
        now_s = time.monotonic()
        level, text = self.health.verdict(now_s)
        if level:
            self._warn(text)
        assert self._synchroniser is not None
        stamp = self.get_clock().now().to_msg()
        counts = {**vars(self._synchroniser.counts), "dropped": self._worker.dropped}
        config = self._settings.pipeline
        backends = {"stereo": config.stereo.backend, "segmentation": config.segmentation.backend}
        reliable = {side: self._inputs[side].reliable for side in SIDES}
        name = self.get_fully_qualified_name().strip("/")
        self._diagnostics.publish(diagnostic_array(name, stamp, (level, text), self.health, counts, backends, reliable, now_s))

    # What the worker thread does --------------------------------------------------------------------------------------------

    def _work(self, pair: Pair) -> None:
        if pair.stamp_ns == self._last_stamp_ns:
            return  # sent twice: a player that did not hear of the answer, or two publishers
        with self._pipeline_lock:
            scene = self._process(pair)
        self._last_stamp_ns = pair.stamp_ns
        frame_id = pair.left.header.frame_id
        self._outputs.publish(scene, frame_id, self._settings.output)
        now_s = time.monotonic()
        self.health.output.add(now_s)
        self.health.age_s.add(now_s, (self.get_clock().now().nanoseconds - pair.stamp_ns) / 1e9)
        self.health.last_error = ""
        self.health.scene_reason = scene.reason if scene.status == SceneStatus.CANNOT_TELL else ""
        self._check_rows(scene, now_s)

    def _check_rows(self, scene: Scene, now_s: float) -> None:
        """Now and then: are rows aligned, is left left? After publishing, so that no answer waits for it."""
        period_s = self._settings.input.health_period_s
        if period_s > 0 and now_s >= self._checked_s + period_s:
            self._checked_s = now_s
            found = check_pair(scene.frame, scene.disparity.max_px)
            self.health.pair_finding = " ".join(finding.message for finding in found)
            if found:
                self._warn(self.health.pair_finding)

    def _process(self, pair: Pair) -> Scene:
        settings, start_s = self._settings, time.monotonic()
        if settings.pipeline != self._pipeline.config:
            self._pipeline.reconfigure(settings.pipeline)
        left, right, rig = self._infos.rectified(image_to_array(pair.left), image_to_array(pair.right))
        pose = self._poses.at(pair.stamp_ns) if settings.input.use_pose else None
        scene = self._pipeline(StereoFrame(left, right, rig, pair.stamp_ns, pose))
        self._last_scene = scene
        now_s = time.monotonic()
        self.health.processing_s.add(now_s, now_s - start_s)
        return scene

    def _refuse(self, error: Exception) -> None:
        """A frame could not be processed: say why; the next one may be better."""
        if isinstance(error, SemanticStereoError):
            self.health.last_error = str(error)
            self._warn(str(error))
            return
        import traceback

        self.health.last_error = f"{type(error).__name__}: {error}"
        if rclpy.ok(context=self.context) and self._throttle(self.health.last_error):
            self.get_logger().error("a frame failed:\n" + "".join(traceback.format_exception(error)))

    def _warn(self, text: str) -> None:
        if self._throttle(text):
            self.get_logger().warning(text)

    # Services ---------------------------------------------------------------------------------------------------------------

    def _save_snapshot(self, request: SaveSnapshot.Request, response: SaveSnapshot.Response) -> SaveSnapshot.Response:
        """Write the newest scene; while idle, process the newest pair for it. Takes a second, in which frames may be dropped."""
        try:
            with self._pipeline_lock:
                scene = self._last_scene if self.health.wanted else None
                if scene is None and self._newest_job is not None:
                    scene = self._process(self._newest_job)
            if scene is None:
                response.message = f"there is no frame to save yet: {self.health.verdict(time.monotonic())[1]}"
                return response
            writer = ResultWriter(request.directory or self._settings.output.snapshot_directory)
            files = writer.write(scene)
        except (SemanticStereoError, OSError) as error:
            response.message = str(error)
            return response
        response.success, response.directory = True, str(writer.directory.resolve())
        response.message = f"{len(files)} files written"
        return response

    def destroy_node(self) -> None:
        """Stop the worker before anything it uses goes away."""
        if not self._worker.stop():
            self.get_logger().error("the worker did not end in time")
        self._pipeline.close()
        unbridge_logging(self._log_handler)
        super().destroy_node()


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros pipeline_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(PipelineNode, args)


def run_node(make_node, args: list[str] | None = None) -> int:
    """Init, spin and shut down one node of this package."""
    profile = dds.use_large_segment()
    rclpy.init(args=args)
    node, executor = None, SingleThreadedExecutor()
    try:
        node = make_node()
        node.get_logger().info(profile)
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except SemanticStereoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
