"""What pipeline_node and stereo_node share: they hear the cameras, pair by stamp, and now and then look at the pair itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from semantic_stereo_ros.nodes.health.pair_watch import PairWatch
from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.inputs.stereo_input import StereoInput, check_inputs, check_not_own
from semantic_stereo_ros.nodes.inputs.synchroniser import Pair
from semantic_stereo_ros.nodes.outputs.publishers import Output
from semantic_stereo_ros.nodes.runtime.node_options import InputConfig
from semantic_stereo_ros.nodes.runtime.running_stage import StageT
from semantic_stereo_ros.nodes.stage_node import Settings, StageNode
from semantic_stereo_ros.stream import RateLimit
from semantic_stereo_ros.types import Disparity, StereoFrame


class PairingNode(StageNode[StageT]):
    """Subclasses say who wants an answer (`wanted`) and give it (`answer`)."""

    made: Iterable[Output]
    """What the node publishes: none of it may come in again."""

    def __init__(self, name: str, stages: Iterable[str], **node_options: Any) -> None:
        """stages: whose parameters the node has."""
        super().__init__(name, stages, **node_options)
        self.inputs: StereoInput | None = None
        self._inputs_lock = threading.Lock()  # made and ended on the thread of a transition
        self.forget_stream()

    # What a subclass says ---------------------------------------------------------------------------------------------------

    def wanted(self) -> bool:
        """Somebody wants a result."""
        raise NotImplementedError

    def answer(self, pair: Pair, inputs: StereoInput) -> tuple[StereoFrame, Disparity | None] | None:
        """Work and publish, on the worker's thread: the frame and its disparity, where it was made; None when not active any more."""
        raise NotImplementedError

    def forget_stream(self) -> None:
        """What was kept of a stream that is over, or has not begun."""
        self._answered_ns: int | None = None
        self._rate_limit = RateLimit()
        self._pair_watch = PairWatch(self.warn)

    def heard(self, settings: Settings) -> InputConfig:
        """The part of the input's parameters that this node follows."""
        return settings.input

    # What StageNode asks ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with self._inputs_lock:
            self.forget_stream()
            self.inputs = StereoInput(self, self.heard(self.settings), self.on_pair, self.warn)
            self.health = StreamHealth(inputs=self.inputs.inputs, join=self.inputs.join, started_s=time.monotonic())

    def stop(self) -> None:
        with self._inputs_lock:
            if self.inputs is not None:
                self.inputs.close()
            self.inputs = None
            self.forget_stream()
        super().stop()

    def check(self, settings: Settings) -> None:
        check_inputs(settings.input, settings.pipeline.stereo.backend)
        check_not_own(self, settings.input, [output.topic for output in self.made])

    def settings_changed(self, before: Settings) -> None:
        config = self.heard(self.settings)
        if not config.listens_as(self.heard(before)):
            self.restart()
            return
        with self._inputs_lock:
            if self.inputs is not None:
                self.inputs.configure(config)

    def review(self, now_s: float) -> None:
        with self._inputs_lock:
            if self.inputs is not None:
                self.inputs.review()
        if self.worker is not None:
            self.health.drops.update(now_s, self.worker.dropped)

    # From a pair to an answer -----------------------------------------------------------------------------------------------

    def on_pair(self, pair: Pair) -> None:
        """On the executor's thread."""
        self.health.wanted = self.wanted()
        if self.health.wanted and self.worker is not None and self._rate_limit.lets_pass(pair.stamp_ns, self.output.max_rate_hz):
            self.worker.submit(pair)

    def work(self, item: Pair) -> None:
        inputs = self.inputs
        if inputs is None or item.stamp_ns == self._answered_ns:
            return  # switched off; or sent twice: a player that did not hear of the answer, or two publishers
        done = self.answer(item, inputs)
        if done is None:
            return
        self._answered_ns = item.stamp_ns
        self.note_published(item.stamp_ns, item.left.header.frame_id)
        frame, disparity = done
        if disparity is not None:
            self._pair_watch.look(self.health, frame, disparity, self.input, self.settings.diagnostics, time.monotonic())
