"""stereo_node: a stereo pair of topics in, disparities out; the only one of the separate nodes that hears the cameras.

It announces each frame that it takes before it matches it, so that the nodes after it work on the same frames.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.executor import run_node
from semantic_stereo_ros.nodes.outputs import OutputPublishers, PartialScene, outputs_of
from semantic_stereo_ros.nodes.pair_watch import PairWatch
from semantic_stereo_ros.nodes.stage_node import Settings
from semantic_stereo_ros.nodes.stereo_input import StereoInput, check_inputs, check_not_own
from semantic_stereo_ros.nodes.stream_health import StreamHealth
from semantic_stereo_ros.nodes.stream_node import SECTIONS, StreamNode
from semantic_stereo_ros.nodes.synchroniser import Pair
from semantic_stereo_ros.stages import StereoStage


class StereoNode(StreamNode):
    """Rectifies where asked for, matches, and hands over. Only what somebody listens to is made; without a disparity's listener no
    pair is matched."""

    title = "stereo"

    def __init__(self, **node_options: Any) -> None:
        super().__init__("stereo_node", ("stereo",), SECTIONS, **node_options)
        self._announcements = OutputPublishers(self, outputs_of("announcement"))
        self._outputs = OutputPublishers(self, outputs_of("stereo"))
        self._inputs: StereoInput | None = None
        self._inputs_lock = threading.Lock()  # made and ended on the thread of a transition
        self._last_stamp_ns: int | None = None
        self._pair_watch = PairWatch(self.warn)

    def publishers(self) -> Iterable[OutputPublishers]:
        return (self._announcements, self._outputs)

    def make_stage(self, config: PipelineConfig) -> StereoStage:
        return StereoStage(config)

    def start(self) -> None:
        with self._inputs_lock:
            self._last_stamp_ns = None
            self._pair_watch = PairWatch(self.warn)
            config = dataclasses.replace(self.input, use_pose=False)  # fusion_node's
            self._inputs = StereoInput(self, config, self._on_pair, self.warn)
            self.health = StreamHealth(inputs=self._inputs.inputs, join=self._inputs.join, started_s=time.monotonic())

    def stop(self) -> None:
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.close()
            self._inputs = None

    def check(self, settings: Settings) -> None:
        check_inputs(settings.sections["input"], settings.pipeline.stereo.backend)
        check_not_own(self, settings.sections["input"], (*outputs_of("announcement"), *outputs_of("stereo")))

    def settings_changed(self, before: Settings) -> None:
        if not self.input.listens_as(before.sections["input"]):
            self.restart()
            return
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.configure(dataclasses.replace(self.input, use_pose=False))

    def review(self, now_s: float) -> None:
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.review()
        if self.worker is not None:
            self.health.drops.update(now_s, self.worker.dropped)

    def _on_pair(self, pair: Pair) -> None:
        self.health.wanted = self._disparity_wanted() or self._announcements.wanted()
        if self.health.wanted and self.worker is not None and self.due(pair.stamp_ns):
            self.worker.submit(pair)

    def _disparity_wanted(self) -> bool:
        return self.output.process_idle or self._outputs.wanted()

    def work(self, item: Pair) -> None:
        inputs = self._inputs
        if inputs is None or item.stamp_ns == self._last_stamp_ns:
            return  # switched off; or sent twice
        frame_id, start_s = item.left.header.frame_id, time.monotonic()
        frame = inputs.frame(item)
        self._announcements.publish(PartialScene(frame), frame_id, self.output)
        decoded_s = time.monotonic()
        self.health.took(decoded_s, decoding=decoded_s - start_s)
        if self._disparity_wanted():
            with self.stage_lock:
                disparity = self.stage(frame)
            matched_s = time.monotonic()
            self.health.took(matched_s, stereo=matched_s - decoded_s, processing=matched_s - start_s)
            self.health.saw_disparity(matched_s, disparity)
            if not self.active:
                return
            with self.timed("publishing"):
                self._outputs.publish(PartialScene(frame, disparity), frame_id, self.output)
            self._pair_watch.look(self.health, frame, disparity, self.input, self.settings.sections["diagnostics"], matched_s)
        self._last_stamp_ns = item.stamp_ns
        self.note_published(item.stamp_ns, frame_id)


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros stereo_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(StereoNode, args)


if __name__ == "__main__":
    sys.exit(main())
