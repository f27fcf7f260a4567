"""segmentation_node: the left images that stereo_node takes, and their disparities where the backend needs them -> masks."""

from __future__ import annotations

import sys
import time
from typing import Any

from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.inputs.joined_inputs import RIG, disparity_of, left_of, rig_of
from semantic_stereo_ros.nodes.inputs.prompt_inputs import PromptInputs
from semantic_stereo_ros.nodes.inputs.stamp_join import Joined
from semantic_stereo_ros.nodes.joining_node import JoiningNode
from semantic_stereo_ros.nodes.messages.prompt_messages import PromptView
from semantic_stereo_ros.nodes.messages.scene_messages import LEFT_OUT, frame_of
from semantic_stereo_ros.nodes.outputs.publishers import PartialScene
from semantic_stereo_ros.nodes.runtime.executor import run_node
from semantic_stereo_ros.stages import SegmentationStage


class SegmentationNode(JoiningNode[SegmentationStage]):
    """Masks of the frames that stereo_node announces; of the newest one whenever it is free."""

    title = "segmentation"

    def __init__(self, **node_options: Any) -> None:
        super().__init__("segmentation_node", "segmentation", ("segmentation",), **node_options)
        self._view: PromptView | None = None
        self._prompts = PromptInputs(self, lambda: self.stage, lambda: self._view, lambda: self.input.prompt_max_age_s, self.warn)

    def start(self) -> None:
        self._view = None
        super().start()

    def review(self, now_s: float) -> None:
        super().review(now_s)
        self._prompts.review(self.health, now_s)

    def make_stage(self, config: PipelineConfig) -> SegmentationStage:
        return SegmentationStage(config)

    def required(self) -> frozenset[str]:
        needs_disparity = self.stage is not None and self.stage.needs_disparity
        return RIG | {"left"} | ({"disparity", "sigma", "confidence"} if needs_disparity else set())

    def work(self, item: Joined) -> None:
        start_s = time.monotonic()
        rig = rig_of(item)
        disparity = disparity_of(item, rig)
        frame = frame_of(rig, item.stamp_ns, left=left_of(item), disparity=disparity)
        decoded_s = time.monotonic()
        with self.using_stage() as segment:
            segmentation = segment(frame, disparity)
        done_s = time.monotonic()
        self.health.took(done_s, decoding=decoded_s - start_s, segmentation=done_s - decoded_s, processing=done_s - start_s)
        if not self.active:
            return
        frame_id = item.items["left"].header.frame_id
        if segmentation is not None:
            self._view = PromptView(item.stamp_ns, frame_id, rig, segmentation)
        with self.timed("publishing"):
            self.outputs.publish(PartialScene(frame, segmentation=segmentation or LEFT_OUT), frame_id, self.output)
        self.note_published(item.stamp_ns, frame_id)


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros segmentation_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(SegmentationNode, args)


if __name__ == "__main__":
    sys.exit(main())
