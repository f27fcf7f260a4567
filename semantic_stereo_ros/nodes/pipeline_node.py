"""pipeline_node: a stereo pair of topics in, distances out. The ROS shell around pipeline.Pipeline and nothing more.

The executor only receives and pairs; decoding, inference and publishing run on the worker thread of StageNode.
"""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from semantic_stereo_ros.checks import CalibrationError, SemanticStereoError
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.geometry.epipolar import check_pair
from semantic_stereo_ros.io.writers import ResultWriter
from semantic_stereo_ros.nodes.camera_infos import CameraInfoCache
from semantic_stereo_ros.nodes.conversions import image_to_array, stamp_to_ns
from semantic_stereo_ros.nodes.diagnostics import health_values
from semantic_stereo_ros.nodes.executor import run_node
from semantic_stereo_ros.nodes.health import Health, SideHealth
from semantic_stereo_ros.nodes.image_input import ImageInput
from semantic_stereo_ros.nodes.node_options import InputConfig, OutputConfig
from semantic_stereo_ros.nodes.outputs import OutputPublishers
from semantic_stereo_ros.nodes.poses import PoseBuffer
from semantic_stereo_ros.nodes.stage_node import Settings, StageNode
from semantic_stereo_ros.nodes.synchroniser import Pair, PairSynchroniser
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.srv import SaveSnapshot
from semantic_stereo_ros.types import Scene, SceneStatus, StereoFrame

SIDES = ("left", "right")


class PipelineNode(StageNode):
    """See README for the topics and `ros2 param list` for the parameters."""

    title = "stereo pipeline"

    def __init__(self, **node_options: Any) -> None:
        stages = ("stereo", "segmentation", "fusion", "tracking")
        super().__init__("pipeline_node", stages, ("input", "output"), **node_options)
        self._outputs = OutputPublishers(self)
        self._inputs_lock = threading.Lock()  # subscriptions come and go on the thread of a transition
        self._forget_stream()
        self.health = self._make_health()
        self.create_service(SaveSnapshot, "save_snapshot", self._save_snapshot, callback_group=self.slow_group)

    @property
    def input(self) -> InputConfig:
        return self.settings.sections["input"]

    @property
    def output(self) -> OutputConfig:
        return self.settings.sections["output"]

    # What StageNode asks ----------------------------------------------------------------------------------------------------

    def make_stage(self, config: PipelineConfig) -> Pipeline:
        return Pipeline(config)

    def start(self) -> None:
        with self._inputs_lock:
            self._forget_stream()
            self.health = self._make_health()
            config = self.input
            for side in SIDES:
                topic, on_info = f"{side}/camera_info", partial(self._on_info, side)
                self._inputs[side] = ImageInput(self, f"{side}/{_image(config)}", partial(self._on_image, side), config.reliability)
                self._subscriptions_made.append(self.create_subscription(CameraInfo, topic, on_info, qos_profile_sensor_data))
            if config.use_pose:
                self._subscriptions_made.append(self.create_subscription(Odometry, "pose", self._on_pose, qos_profile_sensor_data))

    def stop(self) -> None:
        with self._inputs_lock:
            for image_input in self._inputs.values():
                image_input.close()
            for subscription in self._subscriptions_made:
                self.destroy_subscription(subscription)
            self._forget_stream()

    def settings_changed(self, before: Settings) -> None:
        self._synchroniser.tolerance_ns = _tolerance_ns(self.input)

    def verdict(self) -> tuple[int, str]:
        return self.health.verdict(time.monotonic())

    def status_values(self) -> dict[str, str]:
        with self._inputs_lock:
            for side, image_input in self._inputs.items():
                side_health = getattr(self.health, side)
                side_health.publishers = image_input.review()
                side_health.qos_mismatch = image_input.mismatch
            reliable = {side: image_input.reliable for side, image_input in self._inputs.items()}
        self.health.tolerance_ms = self.input.sync_tolerance_ms
        self.health.missing_infos = self._infos.missing()
        counts = {**vars(self._synchroniser.counts), "dropped": self.worker.dropped if self.worker else 0}
        config = self.stage.config if self.stage else self.settings.pipeline
        backends = {"stereo": config.stereo.backend, "segmentation": config.segmentation.backend}
        return health_values(self.health, counts, backends, reliable, time.monotonic())

    def note_refused(self, text: str) -> None:
        self.health.last_error = text

    def _forget_stream(self) -> None:
        """What was received and kept of a stream that is over, or has not begun."""
        self._infos = CameraInfoCache(self.input.rectify)
        self._synchroniser = PairSynchroniser(_tolerance_ns(self.input))
        self._poses = PoseBuffer()
        self._inputs: dict[str, ImageInput] = {}
        self._subscriptions_made: list[Any] = []
        self._uncalibrated: Pair | None = None
        self._newest_job: Pair | None = None
        self._last_scene: Scene | None = None
        self._last_stamp_ns: int | None = None
        self._checked_s = float("-inf")

    def _make_health(self) -> Health:
        left, right = (SideHealth(self.resolve_topic_name(f"{side}/{_image(self.input)}")) for side in SIDES)
        health = Health(left, right, started_s=time.monotonic())
        health.info_topics = {side: self.resolve_topic_name(f"{side}/camera_info") for side in SIDES}
        return health

    # What the executor does -------------------------------------------------------------------------------------------------

    def _on_image(self, side: str, message: Image) -> None:
        stamp_ns, now_s = stamp_to_ns(message.header.stamp), time.monotonic()
        side_health = getattr(self.health, side)
        side_health.received.add(now_s)
        side_health.newest_stamp_ns = stamp_ns
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
        self.health.wanted = self.output.process_idle or self._outputs.wanted()
        if self.health.wanted and self.worker is not None:
            self.worker.submit(pair)

    def _on_info(self, side: str, message: CameraInfo) -> None:
        if self._infos.update(side, message):
            self.get_logger().info(f"the {side} camera_info changed")
        if self._uncalibrated is not None:
            self._hand_over()

    def _on_pose(self, message: Odometry) -> None:
        try:
            self._poses.add_message(message)
        except CalibrationError as error:
            self.warn(str(error))

    # What the worker thread does --------------------------------------------------------------------------------------------

    def work(self, pair: Pair) -> None:
        if pair.stamp_ns == self._last_stamp_ns:
            return  # sent twice: a player that did not hear of the answer, or two publishers
        with self.stage_lock:
            scene = self._process(pair)
        if not self.active:
            return
        self._last_stamp_ns = pair.stamp_ns
        frame_id = pair.left.header.frame_id
        self._outputs.publish(scene, frame_id, self.output)
        now_s = time.monotonic()
        self.health.output.add(now_s)
        self.health.age_s.add(now_s, (self.get_clock().now().nanoseconds - pair.stamp_ns) / 1e9)
        self.health.last_error = ""
        self.health.scene_reason = scene.reason if scene.status == SceneStatus.CANNOT_TELL else ""
        self._check_rows(scene, now_s)

    def _check_rows(self, scene: Scene, now_s: float) -> None:
        """Now and then: are rows aligned, is left left? After publishing, so that no answer waits for it."""
        period_s = self.input.health_period_s
        if period_s > 0 and now_s >= self._checked_s + period_s:
            self._checked_s = now_s
            found = check_pair(scene.frame, scene.disparity.max_px)
            self.health.pair_finding = " ".join(finding.message for finding in found)
            if found:
                self.warn(self.health.pair_finding)

    def _process(self, pair: Pair) -> Scene:
        start_s = time.monotonic()
        left, right, rig = self._infos.rectified(image_to_array(pair.left), image_to_array(pair.right))
        pose = self._poses.at(pair.stamp_ns) if self.input.use_pose else None
        scene = self.stage(StereoFrame(left, right, rig, pair.stamp_ns, pose))
        self._last_scene = scene
        now_s = time.monotonic()
        self.health.processing_s.add(now_s, now_s - start_s)
        return scene

    # Services ---------------------------------------------------------------------------------------------------------------

    def _save_snapshot(self, request: SaveSnapshot.Request, response: SaveSnapshot.Response) -> SaveSnapshot.Response:
        """Write the newest scene; while idle, process the newest pair for it. Takes a second, in which frames may be dropped."""
        try:
            with self.stage_lock:
                scene, newest = self._last_scene if self.health.wanted else None, self._newest_job
                if scene is None and newest is not None:
                    scene = self._process(newest)
            if scene is None:
                response.message = f"there is no frame to save yet: {self.judge()[1]}"
                return response
            writer = ResultWriter(request.directory or self.output.snapshot_directory)
            files = writer.write(scene)
        except (SemanticStereoError, OSError) as error:
            response.message = str(error)
            return response
        response.success, response.directory = True, str(writer.directory.resolve())
        response.message = f"{len(files)} files written"
        return response


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros pipeline_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(PipelineNode, args)


def _image(config: InputConfig) -> str:
    return "image_raw" if config.rectify else "image_rect"


def _tolerance_ns(config: InputConfig) -> int:
    return round(config.sync_tolerance_ms * 1e6)


if __name__ == "__main__":
    sys.exit(main())
