"""pipeline_node: a stereo pair of topics in, distances out. The ROS shell around pipeline.Pipeline and nothing more.

The executor only receives and pairs; decoding, inference and publishing run on the worker thread of StageNode.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.executor import run_node
from semantic_stereo_ros.nodes.outputs import OPTIONAL_OUTPUTS, OUTPUTS, OutputPublishers
from semantic_stereo_ros.nodes.pair_watch import PairWatch
from semantic_stereo_ros.nodes.prompt_inputs import PromptInputs
from semantic_stereo_ros.nodes.prompt_messages import PromptView
from semantic_stereo_ros.nodes.snapshots import write_snapshot
from semantic_stereo_ros.nodes.stage_node import Settings
from semantic_stereo_ros.nodes.stereo_input import StereoInput, check_inputs, check_not_own
from semantic_stereo_ros.nodes.stream_health import StreamHealth
from semantic_stereo_ros.nodes.stream_node import SECTIONS, StreamNode
from semantic_stereo_ros.nodes.synchroniser import Pair
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.srv import SaveSnapshot
from semantic_stereo_ros.types import Scene


class PipelineNode(StreamNode):
    """See README for the topics and `ros2 param list` for the parameters."""

    title = "stereo pipeline"

    def __init__(self, **node_options: Any) -> None:
        stages = ("stereo", "segmentation", "fusion", "tracking")
        super().__init__("pipeline_node", stages, SECTIONS, **node_options)
        self._outputs = OutputPublishers(self)
        self._inputs: StereoInput | None = None
        self._inputs_lock = threading.Lock()  # subscriptions come and go on the thread of a transition
        self._forget_stream()
        self._prompts = PromptInputs(self, lambda: None if self.stage is None else self.stage.segmentation, lambda: self._view)
        self.create_service(SaveSnapshot, "save_snapshot", self._save_snapshot, callback_group=self.slow_group)

    def _forget_stream(self) -> None:
        """What was kept of a stream that is over, or has not begun."""
        self._newest_job: Pair | None = None
        self._last_scene: Scene | None = None
        self._view: PromptView | None = None
        self._last_stamp_ns: int | None = None
        self._pair_watch = PairWatch(self.warn)

    # What StageNode asks ----------------------------------------------------------------------------------------------------

    def make_stage(self, config: PipelineConfig) -> Pipeline:
        return Pipeline(config)

    def publishers(self) -> Iterable[OutputPublishers]:
        return (self._outputs,)

    def start(self) -> None:
        with self._inputs_lock:
            self._forget_stream()
            self._inputs = StereoInput(self, self.input, self._on_pair, self.warn)
            self.health = StreamHealth(inputs=self._inputs.inputs, join=self._inputs.join, started_s=time.monotonic())

    def stop(self) -> None:
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.close()
            self._inputs = None
            self._forget_stream()

    def check(self, settings: Settings) -> None:
        check_inputs(settings.sections["input"], settings.pipeline.stereo.backend)
        check_not_own(self, settings.sections["input"], (*OUTPUTS, *OPTIONAL_OUTPUTS))

    def settings_changed(self, before: Settings) -> None:
        if not self.input.listens_as(before.sections["input"]):
            self.restart()
            return
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.configure(self.input)

    def review(self, now_s: float) -> None:
        self._prompts.review(now_s)
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.review()
        if self.worker is not None:
            self.health.drops.update(now_s, self.worker.dropped)

    # What the executor does -------------------------------------------------------------------------------------------------

    def _on_pair(self, pair: Pair) -> None:
        self._newest_job = pair
        self.health.wanted = self.output.process_idle or self._outputs.wanted()
        if self.health.wanted and self.worker is not None and self.due(pair.stamp_ns):
            self.worker.submit(pair)

    # What the worker thread does --------------------------------------------------------------------------------------------

    def work(self, item: Pair) -> None:
        if item.stamp_ns == self._last_stamp_ns:
            return  # sent twice: a player that did not hear of the answer, or two publishers
        start_s = time.monotonic()
        with self.stage_lock:
            scene = self._process(item)
        if scene is None or not self.active:
            return
        self._last_stamp_ns = item.stamp_ns
        processed_s = time.monotonic()
        self.health.saw_scene(processed_s, scene)
        self.health.took(processed_s, processing=processed_s - start_s)
        with self.timed("publishing"):
            self._outputs.publish(scene, item.left.header.frame_id, self.output)
        self.note_published(item.stamp_ns, item.left.header.frame_id)
        self._pair_watch.look(self.health, scene.frame, scene.disparity, self.input, self.settings.sections["diagnostics"], processed_s)

    def _process(self, pair: Pair) -> Scene | None:
        """The scene of one pair; None when the node was deactivated meanwhile."""
        inputs = self._inputs
        if inputs is None:
            return None
        scene = self._last_scene = self.stage(inputs.frame(pair))
        if "fusion" in scene.timings_s:  # not one between two masks
            self._view = PromptView(pair.stamp_ns, pair.left.header.frame_id, scene.frame.rig, scene.segmentation)
        return scene

    # Services ---------------------------------------------------------------------------------------------------------------

    def _save_snapshot(self, request: SaveSnapshot.Request, response: SaveSnapshot.Response) -> SaveSnapshot.Response:
        """Write the newest scene; while idle, process the newest pair for it. Takes a second, in which frames may be dropped."""
        return write_snapshot(request, response, self._newest_scene, self.output, lambda: self.judge()[1])

    def _newest_scene(self) -> Scene | None:
        with self.stage_lock:
            scene, newest = self._last_scene if self.health.wanted else None, self._newest_job
            if scene is None and newest is not None and self.stage is not None:
                scene = self._process(newest)
        return scene


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run semantic_stereo_ros pipeline_node`. 0 after Ctrl-C, 1 for parameters that cannot be."""
    return run_node(PipelineNode, args)


if __name__ == "__main__":
    sys.exit(main())
