"""fusion_node: disparities and masks of equal stamps -> objects, clouds and pictures.

However late a mask comes, its objects are measured in the disparity of its own moment.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from nav_msgs.msg import Odometry

from semantic_stereo_ros.checks import CalibrationError
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.inputs.joined_inputs import RIG, disparity_of, left_of, rig_of
from semantic_stereo_ros.nodes.inputs.poses import PoseBuffer
from semantic_stereo_ros.nodes.inputs.stamp_join import Joined
from semantic_stereo_ros.nodes.joining_node import JoiningNode
from semantic_stereo_ros.nodes.messages.scene_messages import frame_of, message_to_segmentation
from semantic_stereo_ros.nodes.outputs.snapshots import write_snapshot
from semantic_stereo_ros.nodes.runtime.executor import run_node
from semantic_stereo_ros.nodes.runtime.qos import SUBSCRIPTION_OVERRIDES, own
from semantic_stereo_ros.pipeline import fuse
from semantic_stereo_ros.srv import SaveSnapshot
from semantic_stereo_ros.stages import FusionStage
from semantic_stereo_ros.types import Scene

PICTURES = frozenset({"left", "confidence"})
"""Parts that only clouds, pictures and snapshots read."""

SNAPSHOT_TIMEOUT_S = 10.0


class FusionNode(JoiningNode[FusionStage]):
    """Measures and tracks what segmentation_node finds in what stereo_node measured."""

    title = "fusion"

    def __init__(self, **node_options: Any) -> None:
        super().__init__("fusion_node", "fusion", ("fusion", "tracking"), **node_options)
        self._poses = PoseBuffer()
        self._pose_subscription: Any = None
        self._snapshot = threading.Condition()
        self._snapshots_wanted = 0
        self._whole_scene: Scene | None = None
        self.create_service(SaveSnapshot, "save_snapshot", self._save_snapshot, callback_group=self.slow_group)

    def make_stage(self, config: PipelineConfig) -> FusionStage:
        return FusionStage(config)

    def required(self) -> frozenset[str]:
        return RIG | {"disparity", "sigma", "masks"}

    def extras(self) -> frozenset[str]:
        return PICTURES if self._snapshots_wanted else self.outputs.needs()

    def wanted(self) -> bool:
        return bool(self._snapshots_wanted) or super().wanted()

    def start(self) -> None:
        super().start()
        self._poses = PoseBuffer()
        if self.input.use_pose:
            self._pose_subscription = self.create_subscription(
                Odometry, "pose", self._on_pose, own(), qos_overriding_options=SUBSCRIPTION_OVERRIDES
            )

    def stop(self) -> None:
        if self._pose_subscription is not None:
            self.destroy_subscription(self._pose_subscription)
        self._pose_subscription = None
        super().stop()

    def _on_pose(self, message: Odometry) -> None:
        try:
            self._poses.add_message(message)
        except CalibrationError as error:
            self.warn(str(error))

    # What the worker thread does --------------------------------------------------------------------------------------------

    def work(self, item: Joined) -> None:
        start_s = time.monotonic()
        rig = rig_of(item)
        disparity = disparity_of(item, rig)
        assert disparity is not None, "a frame is joined with its disparity"
        pose = self._poses.at(item.stamp_ns) if self.input.use_pose else None
        frame = frame_of(rig, item.stamp_ns, left=left_of(item), disparity=disparity, pose_world_camera=pose)
        segmentation = message_to_segmentation(item.items["masks"])
        with self.using_stage() as stage:
            scene = fuse(stage, frame, disparity, segmentation, {"decoding": time.monotonic() - start_s})
        done_s = time.monotonic()
        self.health.saw_scene(done_s, scene)
        self.health.took(done_s, processing=done_s - start_s)
        lacking = PICTURES - item.items.keys()
        if self.active:
            frame_id = item.items["disparity"].header.frame_id
            with self.timed("publishing"):
                self.outputs.publish(scene, frame_id, self.output, lacking)
            self.note_published(item.stamp_ns, frame_id)
        if not lacking:
            with self._snapshot:
                self._whole_scene = scene if self._snapshots_wanted else None
                self._snapshot.notify_all()

    # Services ---------------------------------------------------------------------------------------------------------------

    def _save_snapshot(self, request: SaveSnapshot.Request, response: SaveSnapshot.Response) -> SaveSnapshot.Response:
        """Write the next frame, for which image and confidence are asked for, whoever else listens."""
        why = f"none came within {SNAPSHOT_TIMEOUT_S:g} s" if self.active else "the node is not active"
        return write_snapshot(request, response, self._next_whole_scene, self.output, lambda: f"{why}: {self.verdict()[1]}")

    def _next_whole_scene(self) -> Scene | None:
        if not self.active:
            return None
        with self._snapshot:
            self._snapshots_wanted += 1
            self._snapshot.wait_for(lambda: self._whole_scene is not None, SNAPSHOT_TIMEOUT_S)
            scene, self._whole_scene = self._whole_scene, None
            self._snapshots_wanted -= 1
        return scene


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros fusion_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(FusionNode, args)


if __name__ == "__main__":
    sys.exit(main())
