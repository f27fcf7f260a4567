"""What segmentation_node and fusion_node share: they hear stereo_node, join by stamp, and work only while somebody listens to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from semantic_stereo_ros.nodes.health.stream_health import JoinHealth, StreamHealth
from semantic_stereo_ros.nodes.inputs.joined_inputs import JoinedInputs
from semantic_stereo_ros.nodes.inputs.stamp_join import Joined
from semantic_stereo_ros.nodes.outputs.publishers import OutputPublishers, outputs_of
from semantic_stereo_ros.nodes.runtime.running_stage import StageT
from semantic_stereo_ros.nodes.stage_node import Settings, StageNode

DEMAND_PERIOD_S = 0.1
"""How soon a new subscriber is noticed."""


class JoiningNode(StageNode[StageT]):
    """Subclasses say what they need of a frame (`required`, `extras`) and do the work on a `Joined` one."""

    def __init__(self, name: str, stage: str, stages: Iterable[str], **node_options: Any) -> None:
        """stage: whose outputs the node publishes; stages: whose parameters it has."""
        super().__init__(name, stages, ("join",), **node_options)
        self.outputs = OutputPublishers(self, outputs_of(stage))
        self.health = StreamHealth(wanted=False)
        self._join_health = JoinHealth()
        self._inputs: JoinedInputs | None = None
        self._inputs_lock = threading.Lock()  # made and ended on the thread of a transition
        self.create_timer(DEMAND_PERIOD_S, self._review_demand, clock=self.steady_clock)

    # What a subclass says ---------------------------------------------------------------------------------------------------

    def required(self) -> frozenset[str]:
        """The parts without which a frame cannot be worked on."""
        raise NotImplementedError

    def extras(self) -> frozenset[str]:
        """The parts that are wanted beside them now."""
        return frozenset()

    def wanted(self) -> bool:
        """Somebody wants a result."""
        return self.output.process_idle or self.outputs.wanted()

    # What StageNode asks ----------------------------------------------------------------------------------------------------

    def publishers(self) -> Iterable[OutputPublishers]:
        return (self.outputs,)

    def start(self) -> None:
        with self._inputs_lock:
            self.health, self._join_health = StreamHealth(wanted=False), JoinHealth()
            self._inputs = JoinedInputs(self, self._on_joined, self.settings.join, self.input.reliability)
            self.health.inputs = self._inputs.health

    def stop(self) -> None:
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.close()
            self._inputs = None
        super().stop()

    def settings_changed(self, before: Settings) -> None:
        if not self.input.listens_as(before.input):
            self.restart()
            return
        config = self.settings.join
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.join.seconds, self._inputs.join.megabytes = config.seconds, config.megabytes

    def review(self, now_s: float) -> None:
        with self._inputs_lock:
            if self._inputs is not None:
                self._inputs.review()
                self._tell_join(self._inputs, now_s)

    def _tell_join(self, inputs: JoinedInputs, now_s: float) -> None:
        counts, told = inputs.join.counts, self._join_health
        lone = {f"no {part} came": number for part, number in counts.missing.items()}
        lone.update({f"{part} came too late": number for part, number in counts.too_late.items()})
        slower = counts.missing.get("masks", 0)  # a segmentation that is slower than stereo is no loss
        told.lone.update(now_s, sum(lone.values()) - slower)
        told.why = inputs.join.last_miss
        told.jumps.update(now_s, counts.jumps)
        frames, megabytes = inputs.join.waiting
        told.totals = {
            "joined": counts.joined,
            **lone,
            "left the ring": counts.evicted,
            "stamp jumps": counts.jumps,
            "waiting frames": frames,
            "waiting (MB)": f"{megabytes:.1f}",
            "last miss": inputs.join.last_miss,
        }
        if self.worker is not None:
            self.health.drops.update(now_s, self.worker.dropped + counts.superseded)

    # What the executor does -------------------------------------------------------------------------------------------------

    def _review_demand(self) -> None:
        with self._inputs_lock:
            if self._inputs is None or self.stage is None:
                return
            wanted, health = self.enabled and self.wanted(), self.health
            if wanted and not health.wanted:
                health.started_s = time.monotonic()  # its inputs have just been asked for
            health.wanted, health.join = wanted, self._join_health if wanted else None
            if wanted:
                self._inputs.demand(self.required(), self.extras())
            else:
                self._inputs.demand(())

    def _on_joined(self, joined: Joined) -> None:
        self._join_health.joined.add(time.monotonic())
        if self.health.wanted and self.worker is not None:
            self.worker.submit(joined)
