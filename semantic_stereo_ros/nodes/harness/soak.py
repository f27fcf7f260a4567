"""Thousands of frames over real DDS: does it keep its rate, and does anything grow? `semantic-stereo soak` prints what this finds.

player -> pipeline -> listener as processes. The player sends the next frame when the answer to the last one came, so a frame without
an answer is a real loss. Every output is subscribed, so every line that publishes runs. Memory is the private, resident one (/proc).
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from semantic_stereo_ros.nodes.harness.demo_graph import (
    LARGE,
    PROCESSES,
    DemoError,
    DemoFrame,
    listening,
    start_node,
    stop_nodes,
    wait_for_start,
)
from semantic_stereo_ros.nodes.harness.latency import resident_mb
from semantic_stereo_ros.nodes.outputs.publishers import OUTPUTS
from semantic_stereo_ros.nodes.runtime import dds

SIZE_WH = (160, 120)
PLAYED_FRAMES = 12
SPLIT = ("stereo_node", "segmentation_node", "fusion_node")
WARM_UP_FRACTION = 0.1
LEAST_WARM_UP = 200
ANSWER_TIMEOUT_S = 30.0
SAMPLES = 200


@dataclass(frozen=True)
class Usage:
    """What a process holds at one moment. answers: how many frames were answered by then."""

    answers: int
    memory_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """Of one process, medians over the first and the last tenth of the samples after the warm-up."""

    process: str
    start: Usage
    end: Usage

    @property
    def memory(self) -> float:
        """Growth as a fraction of the start."""
        return self.end.memory_mb / self.start.memory_mb - 1.0

    def excess(self, max_growth: float) -> list[str]:
        """One sentence per thing that grew more than it may.

        Without a leak memory settles in steps of up to 0.4 MB: of the nodes (70 to 90 MB) that is 0.5 %, and no smaller limit can be told.
        """
        found = []
        if self.memory > max_growth:
            found.append(
                f"the memory of {self.process} grew by {self.memory:.2%}, from {self.start.memory_mb:.2f} to {self.end.memory_mb:.2f} MB, "
                f"more than {max_growth:.2%}"
            )
        for name in ("descriptors", "threads"):
            before, after = getattr(self.start, name), getattr(self.end, name)
            if after > before:
                found.append(f"the {name} of {self.process} grew from {before} to {after}")
        return found


@dataclass
class SoakReport:
    """ages_s: capture to objects received, of the frames after the warm-up. sent, answered: likewise."""

    profile: str = ""
    sent: int = 0
    answered: int = 0
    seconds: float = 0.0
    ages_s: list[float] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)

    @property
    def rate_hz(self) -> float:
        return self.answered / self.seconds if self.seconds else math.nan

    @property
    def dropped(self) -> int:
        return self.sent - self.answered

    def failures(self, max_growth: float) -> list[str]:
        """What must not be: loss or growth, one sentence each."""
        lost = [f"{self.dropped} of {self.sent} frames had no answer"] if self.dropped else []
        return lost + [text for growth in self.growths for text in growth.excess(max_growth)]

    def figures(self) -> dict[str, Any]:
        """Everything as plain numbers, times in ms, memory in MB."""
        p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(self.ages_s, (50, 95, 99)))
        values: dict[str, Any] = {"frames": self.answered, "rate_hz": self.rate_hz, "dropped": self.dropped, "seconds": self.seconds}
        values.update({"age_p50": p50, "age_p95": p95, "age_p99": p99, "transport": self.profile})
        for growth in self.growths:
            values[growth.process] = {
                "memory_start_mb": growth.start.memory_mb,
                "memory_end_mb": growth.end.memory_mb,
                "memory_growth_percent": 100 * growth.memory,
                "descriptors": [growth.start.descriptors, growth.end.descriptors],
                "threads": [growth.start.threads, growth.end.threads],
            }
        return values


def run_soak(
    frames: int = 10_000,
    *,
    warm_up: int | None = None,
    size_wh: tuple[int, int] = SIZE_WH,
    rate_hz: float = 0.0,
    parameters: dict[str, Any] | None = None,
    nodes: tuple[str, ...] = ("pipeline_node",),
    on_answer: Callable[[int, int], None] | None = None,
    keep: Path | None = None,
) -> SoakReport:
    """Play `frames` frames through `nodes`; before them the `warm_up`, a tenth of them and 200 at least unless told.

    rate_hz: upper limit, 0 = as fast as answers come. parameters: of the nodes. on_answer: called with the answers so far and their
    final number.
    keep: a folder for the nodes' logs. Raises DemoError when a process ends or no answer comes for 30 s; all processes are ended.
    """
    warm_up = max(LEAST_WARM_UP, round(WARM_UP_FRACTION * frames)) if warm_up is None else warm_up
    report = SoakReport(profile=dds.use_large_segment(PROCESSES + len(nodes) - 1))
    samples: dict[str, list[Usage]] = {}
    answers = _Answers(warm_up, frames, on_answer)
    with tempfile.TemporaryDirectory() as folder, dds.private_domain() as domain_id, listening(domain_id, None, answers) as graph:
        listener, executor = graph
        for output in OUTPUTS:
            if output.topic != "objects":
                listener.create_subscription(output.kind, output.topic, _discard, LARGE, raw=True)
        path = (keep or Path(folder)) / "nodes.log"
        with path.open("w", encoding="utf-8") as log:
            running = {name: start_node(name, {"input.reliability": "reliable", **(parameters or {})}, domain_id, log) for name in nodes}
            try:
                wait_for_start(listener, executor, running[nodes[-1]], path)
                running["player_node"] = start_node("player_node", _player_arguments(size_wh, rate_hz), domain_id, log)
                step = max(1, frames // SAMPLES)
                while answers.count < frames + warm_up:
                    executor.spin_once(timeout_sec=0.5)
                    listener.frames.clear()
                    now_s = time.monotonic()
                    ended = [name for name, process in running.items() if process.poll() is not None]
                    if ended or now_s - answers.newest_s > ANSWER_TIMEOUT_S:
                        why = f"{', '.join(ended)} ended" if ended else f"no answer came for {ANSWER_TIMEOUT_S:g} s"
                        raise DemoError(f"{why} after {answers.count} frames: {path.read_text(encoding='utf-8', errors='replace')[-1000:]}")
                    if answers.count >= warm_up + step * len(samples.get("player_node", ())):
                        for name, process in running.items():
                            samples.setdefault(name, []).append(usage_of(process.pid, answers.count))
                stamps = [stamp for stamp in listener.indices if answers.first_ns <= stamp <= answers.last_ns]
            finally:
                stop_nodes(*running.values())
    report.sent, report.answered, report.ages_s = len(stamps), len(answers.ages_s), answers.ages_s
    report.seconds = answers.newest_s - answers.first_s
    report.growths = [growth_of(name, found) for name, found in samples.items()]
    return report


class _Answers:
    """Counts what comes; remembers ages once the warm-up is over."""

    def __init__(self, warm_up: int, frames: int, on_answer: Callable[[int, int], None] | None) -> None:
        self._warm_up = warm_up
        self._frames = frames
        self._on_answer = on_answer
        self.count = 0
        self.first_ns = self.last_ns = 0
        self.first_s = self.newest_s = time.monotonic()
        self.ages_s: list[float] = []

    def __call__(self, frame: DemoFrame) -> None:
        self.count += 1
        self.newest_s = time.monotonic()
        if self.count <= self._warm_up:
            self.first_s = self.newest_s
        else:
            self.first_ns, self.last_ns = self.first_ns or frame.stamp_ns, frame.stamp_ns
            self.ages_s.append(frame.age_s)
        if self._on_answer is not None:
            self._on_answer(self.count, self._warm_up + self._frames)


def usage_of(pid: int, answers: int) -> Usage:
    """Private memory, open files and threads of a process; NaN and 0 where /proc is missing."""
    folder = Path(f"/proc/{pid}")
    counts = [len(list(part.iterdir())) if part.is_dir() else 0 for part in (folder / "fd", folder / "task")]
    return Usage(answers, resident_mb(pid), *counts)


def growth_of(process: str, samples: list[Usage]) -> Growth:
    """The medians of the first and of the last tenth of the samples, five at least. Raises DemoError when there are fewer than ten."""
    if len(samples) < 10:
        raise DemoError(f"{len(samples)} samples of {process} are too few to tell a growth: play more frames")
    part = max(5, len(samples) // 10)
    return Growth(process, _median(samples[:part]), _median(samples[-part:]))


def _median(samples: list[Usage]) -> Usage:
    def of(name: str) -> float:
        return float(np.median([getattr(sample, name) for sample in samples]))

    return Usage(round(of("answers")), of("memory_mb"), round(of("descriptors")), round(of("threads")))


def _player_arguments(size_wh: tuple[int, int], rate_hz: float) -> dict[str, Any]:
    return {
        "player.frames": PLAYED_FRAMES,
        "player.width": size_wh[0],
        "player.height": size_wh[1],
        "player.rate_hz": float(rate_hz),
        "player.preload": True,
        "player.loop": True,
        "player.wait": True,
        "player.wait_timeout_s": ANSWER_TIMEOUT_S / 3,
    }


def _discard(data: bytes) -> None:
    """Somebody listens, so that it is made and sent; nobody reads it."""
