"""pipeline_node: a stereo pair of topics in, distances out. The ROS shell around pipeline.Pipeline and nothing more.

The executor only receives and pairs; decoding, inference and publishing run on the worker thread of StageNode.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.inputs.prompt_inputs import PromptInputs
from semantic_stereo_ros.nodes.inputs.stereo_input import StereoInput
from semantic_stereo_ros.nodes.inputs.synchroniser import Pair
from semantic_stereo_ros.nodes.messages.prompt_messages import PromptView
from semantic_stereo_ros.nodes.outputs.publishers import OPTIONAL_OUTPUTS, OUTPUTS, OutputPublishers
from semantic_stereo_ros.nodes.outputs.snapshots import write_snapshot
from semantic_stereo_ros.nodes.pairing_node import PairingNode
from semantic_stereo_ros.nodes.runtime.executor import run_node
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.srv import SaveSnapshot
from semantic_stereo_ros.stages import SegmentationStage
from semantic_stereo_ros.types import Disparity, Scene, StereoFrame


class PipelineNode(PairingNode[Pipeline]):
    """See README for the topics and `ros2 param list` for the parameters."""

    title = "stereo pipeline"
    made = (*OUTPUTS, *OPTIONAL_OUTPUTS)

    def __init__(self, **node_options: Any) -> None:
        super().__init__("pipeline_node", ("stereo", "segmentation", "fusion", "tracking"), **node_options)
        self._outputs = OutputPublishers(self)
        self._prompts = PromptInputs(self, self._segmentation, lambda: self._view, lambda: self.input.prompt_max_age_s, self.warn)
        self.create_service(SaveSnapshot, "save_snapshot", self._save_snapshot, callback_group=self.slow_group)

    def publishers(self) -> Iterable[OutputPublishers]:
        return (self._outputs,)

    def make_stage(self, config: PipelineConfig) -> Pipeline:
        return Pipeline(config)

    def _segmentation(self) -> SegmentationStage | None:
        return None if self.stage is None else self.stage.segmentation

    def forget_stream(self) -> None:
        super().forget_stream()
        self._newest_pair: Pair | None = None
        self._last_scene: Scene | None = None
        self._view: PromptView | None = None

    def review(self, now_s: float) -> None:
        super().review(now_s)
        self._prompts.review(self.health, now_s)

    def wanted(self) -> bool:
        return self.output.process_idle or self._outputs.wanted()

    def on_pair(self, pair: Pair) -> None:
        self._newest_pair = pair
        super().on_pair(pair)

    def answer(self, pair: Pair, inputs: StereoInput) -> tuple[StereoFrame, Disparity | None] | None:
        start_s = time.monotonic()
        with self.using_stage() as pipeline:
            scene = self._process(pipeline, pair, inputs)
        if not self.active:
            return None
        processed_s = time.monotonic()
        self.health.saw_scene(processed_s, scene)
        self.health.took(processed_s, processing=processed_s - start_s)
        with self.timed("publishing"):
            self._outputs.publish(scene, pair.left.header.frame_id, self.output)
        return scene.frame, scene.disparity

    def _process(self, pipeline: Pipeline, pair: Pair, inputs: StereoInput) -> Scene:
        scene = self._last_scene = pipeline(inputs.frame(pair))
        if "fusion" in scene.timings_s:  # not one between two masks
            self._view = PromptView(pair.stamp_ns, pair.left.header.frame_id, scene.frame.rig, scene.segmentation)
        return scene

    # Services ---------------------------------------------------------------------------------------------------------------

    def _save_snapshot(self, request: SaveSnapshot.Request, response: SaveSnapshot.Response) -> SaveSnapshot.Response:
        """Write the newest scene; while idle, process the newest pair for it. Takes a second, in which frames may be dropped."""
        return write_snapshot(request, response, self._newest_scene, self.output, lambda: self.verdict()[1])

    def _newest_scene(self) -> Scene | None:
        if self.stage is None:
            return None
        with self.using_stage() as pipeline:
            scene, newest, inputs = self._last_scene if self.health.wanted else None, self._newest_pair, self.inputs
            if scene is None and newest is not None and inputs is not None:
                scene = self._process(pipeline, newest, inputs)
        return scene


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros pipeline_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(PipelineNode, args)


if __name__ == "__main__":
    sys.exit(main())
