"""What stereo_node, segmentation_node and fusion_node share beyond StageNode: their StreamHealth, told to /diagnostics."""

from __future__ import annotations

import time

from semantic_stereo_ros.nodes.assessment import Assessment, assess
from semantic_stereo_ros.nodes.node_options import InputConfig, OutputConfig
from semantic_stereo_ros.nodes.stage_node import StageNode
from semantic_stereo_ros.nodes.stream_health import StreamHealth

SECTIONS = ("input", "output", "diagnostics")


class StreamNode(StageNode):
    """A subclass keeps `health` up to date, once a second in `review`."""

    health = StreamHealth()

    @property
    def input(self) -> InputConfig:
        return self.settings.sections["input"]

    @property
    def output(self) -> OutputConfig:
        return self.settings.sections["output"]

    def review(self, now_s: float) -> None:
        """Once a second, before `health` is judged."""

    def verdict(self) -> tuple[int, str]:
        assessment = self._assess()
        return assessment.level, assessment.message

    def status_values(self) -> dict[str, str]:
        self.review(time.monotonic())
        config = self.stage.config if self.stage is not None else self.settings.pipeline
        self.health.backends = {stage: getattr(config, stage).backend for stage in ("stereo", "segmentation") if stage in self._stages}
        return {f"{status.name}: {key}": value for status in self._assess().statuses for key, value in status.values.items()}

    def note_refused(self, text: str) -> None:
        self.health.last_error = text

    def note_published(self, stamp_ns: int) -> None:
        """An answer of this stamp went out."""
        self.health.published(time.monotonic(), (self.get_clock().now().nanoseconds - stamp_ns) / 1e9)

    def _assess(self) -> Assessment:
        return assess(self.health, self.settings.sections["diagnostics"], time.monotonic())
