"""stereo_node: a stereo pair of topics in, disparities out; the only one of the separate nodes that hears the cameras.

It announces each frame that it takes before it matches it, so that the nodes after it work on the same frames.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable
from typing import Any

from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.inputs.stereo_input import StereoInput
from semantic_stereo_ros.nodes.inputs.synchroniser import Pair
from semantic_stereo_ros.nodes.outputs.publishers import OutputPublishers, PartialScene, outputs_of
from semantic_stereo_ros.nodes.pairing_node import PairingNode
from semantic_stereo_ros.nodes.runtime.executor import run_node
from semantic_stereo_ros.nodes.runtime.node_options import InputConfig
from semantic_stereo_ros.nodes.stage_node import Settings
from semantic_stereo_ros.stages import StereoStage
from semantic_stereo_ros.types import Disparity, StereoFrame


class StereoNode(PairingNode[StereoStage]):
    """Rectifies where asked for, matches, and hands over. Only what somebody listens to is made; without a disparity's listener no
    pair is matched."""

    title = "stereo"
    made = (*outputs_of("announcement"), *outputs_of("stereo"))

    def __init__(self, **node_options: Any) -> None:
        super().__init__("stereo_node", ("stereo",), **node_options)
        self._announcements = OutputPublishers(self, outputs_of("announcement"))
        self._outputs = OutputPublishers(self, outputs_of("stereo"))

    def publishers(self) -> Iterable[OutputPublishers]:
        return (self._announcements, self._outputs)

    def make_stage(self, config: PipelineConfig) -> StereoStage:
        return StereoStage(config)

    def heard(self, settings: Settings) -> InputConfig:
        return dataclasses.replace(super().heard(settings), use_pose=False)  # fusion_node's

    def wanted(self) -> bool:
        return self._disparity_wanted() or self._announcements.wanted()

    def _disparity_wanted(self) -> bool:
        return self.output.process_idle or self._outputs.wanted()

    def answer(self, pair: Pair, inputs: StereoInput) -> tuple[StereoFrame, Disparity | None] | None:
        frame_id, start_s = pair.left.header.frame_id, time.monotonic()
        frame = inputs.frame(pair)
        self._announcements.publish(PartialScene(frame), frame_id, self.output)
        decoded_s = time.monotonic()
        self.health.took(decoded_s, decoding=decoded_s - start_s)
        if not self._disparity_wanted():
            return frame, None
        with self.using_stage() as match:
            disparity = match(frame)
        matched_s = time.monotonic()
        self.health.took(matched_s, stereo=matched_s - decoded_s, processing=matched_s - start_s)
        self.health.saw_disparity(matched_s, disparity)
        if not self.active:
            return None
        with self.timed("publishing"):
            self._outputs.publish(PartialScene(frame, disparity), frame_id, self.output)
        return frame, disparity


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros stereo_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(StereoNode, args)


if __name__ == "__main__":
    sys.exit(main())
