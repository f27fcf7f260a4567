"""What the nodes of both graphs share beyond StageNode: a stream that comes in and answers that go out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from semantic_stereo_ros.nodes.runtime.node_options import InputConfig, OutputConfig
from semantic_stereo_ros.nodes.stage_node import StageNode

SECTIONS = ("input", "output")


class StreamNode(StageNode):
    """A subclass keeps `health` up to date, once a second in `review`."""

    @property
    def input(self) -> InputConfig:
        return self.settings.sections["input"]

    @property
    def output(self) -> OutputConfig:
        return self.settings.sections["output"]

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Tell how long what is done inside takes, as one of the stages."""
        start_s = time.monotonic()
        yield
        now_s = time.monotonic()
        self.health.took(now_s, **{stage: now_s - start_s})

    def note_published(self, stamp_ns: int, frame_id: str) -> None:
        """An answer of this stamp and frame went out."""
        self.health.camera = frame_id
        self.health.published(time.monotonic(), (self.get_clock().now().nanoseconds - stamp_ns) / 1e9)
