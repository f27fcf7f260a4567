"""How old the answers of a real graph are: player -> node or nodes -> listener as processes, only `objects` subscribed.

Run as `python -m semantic_stereo_ros.nodes.harness.latency [FRAMES] [RATE_HZ...]`; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray

from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.nodes.harness.demo_graph import PROCESSES, DemoError, listening, start_node, stop_nodes, wait_for_start
from semantic_stereo_ros.nodes.runtime import dds
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import demo_sequence

SIZE_WH = (640, 480)
PLAYED_FRAMES = 12
WARM_UP = 10
PIPELINE = {"stereo.sgbm.num_disparities": 128}
GRAPHS = {"single": ("pipeline_node",), "split": ("stereo_node", "segmentation_node", "fusion_node")}
COMPARED_RATE_HZ = 5.0
COMPARED_LOAD = 0.25
"""Graphs are compared at this rate, or at which the stages alone are busy for this share of the time on a slower machine: no frame waits
for the one before it, and the ages are the way itself. Where frames overlap, the separate nodes work on several at once, and each takes
longer."""
ROUNDS = 3


def measure_latency(frames: int = 100, rate_hz: float = 10.0, graph: str = "single", timeout_s: float = 900.0) -> dict[str, Any]:
    """Ages (capture stamp to objects received) of `frames` answers, and what they consist of; all times in ms.

    graph: 'single' (pipeline_node) or 'split' (stereo_node, segmentation_node, fusion_node). excess_ratio: (age p95 - one camera
    period) / processing p50, to be at most 1.3. processing_*: of the nodes themselves, decoding included, from their /diagnostics
    (medians over the run of their windows of 5 s, summed over the nodes). stages_p50: the sum of the stages of the same frames alone in
    one process. resident_*_mb: memory of the nodes after the warm-up and at the end. Raises DemoError when the graph does not answer.
    """
    stages_ms = _stages_alone()
    played = _play(frames, rate_hz, GRAPHS[graph], timeout_s)
    processing_ms = [_processing_ms(played.reports, name) for name in GRAPHS[graph]]
    age_p50, age_p95 = np.percentile(played.ages_ms, (50, 95))
    processing_p50, processing_p95 = (sum(times[i] for times in processing_ms) for i in (0, 1))
    return {
        "rate_hz": rate_hz,
        "answers": len(played.ages_ms),
        "sent": played.sent,
        "age_p50": float(age_p50),
        "age_p95": float(age_p95),
        "processing_p50": processing_p50,
        "processing_p95": processing_p95,
        "stages_p50": stages_ms,
        "excess_ratio": float((age_p95 - 1e3 / rate_hz) / processing_p50),
        "age_p95_over_stages": float(age_p95 / stages_ms),
        "resident_start_mb": played.start_mb,
        "resident_end_mb": played.end_mb,
    }


def compare_graphs(frames: int = 100, rate_hz: float | None = None, rounds: int = ROUNDS) -> dict[str, float]:
    """Ages (ms) of the answers of both graphs, which take turns, and split / single, to be at most 1.6. Raises DemoError.

    rate_hz: None for one that this machine has time for, see COMPARED_LOAD.
    """
    if rate_hz is None:
        rate_hz = min(COMPARED_RATE_HZ, 1e3 * COMPARED_LOAD / _stages_alone())
    ages: dict[str, list[np.ndarray]] = {graph: [] for graph in GRAPHS}
    for _ in range(rounds):
        for graph, nodes in GRAPHS.items():
            ages[graph].append(_play(max(5, frames // rounds), rate_hz, nodes, timeout_s=300.0).ages_ms)
    percentiles = {graph: np.percentile(np.concatenate(parts), (50, 95)) for graph, parts in ages.items()}
    result = {f"{graph}_age_p{percent}": float(percentiles[graph][i]) for graph in GRAPHS for i, percent in enumerate((50, 95))}
    ratios = percentiles["split"] / percentiles["single"]
    return {"rate_hz": rate_hz, **result, "split_over_single_p50": float(ratios[0]), "split_over_single_p95": float(ratios[1])}


@dataclass(frozen=True)
class _Played:
    """What one run of a graph gave after its warm-up. reports: all DiagnosticArrays."""

    ages_ms: np.ndarray
    sent: int
    start_mb: float
    end_mb: float
    reports: list[DiagnosticArray]


def _play(frames: int, rate_hz: float, nodes: tuple[str, ...], timeout_s: float) -> _Played:
    """Start the nodes and a player; end them when `frames` answers have come beyond the warm-up."""
    dds.use_large_segment(PROCESSES + len(nodes) - 1)
    reports: list[DiagnosticArray] = []
    with tempfile.TemporaryDirectory() as folder, dds.private_domain() as domain_id, listening(domain_id, None, None) as graph:
        listener, executor = graph
        listener.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)
        path = Path(folder) / "nodes.log"
        with path.open("w", encoding="utf-8") as log:
            running = [start_node(name, PIPELINE, domain_id, log) for name in nodes]
            try:
                wait_for_start(listener, executor, running[-1], path)
                started = list(running)
                running.append(start_node("player_node", _player_arguments(rate_hz), domain_id, log))
                start_mb = 0.0
                end_s = time.monotonic() + timeout_s
                while len(listener.frames) < frames + WARM_UP:
                    executor.spin_once(timeout_sec=0.5)
                    if not start_mb and len(listener.frames) >= WARM_UP:
                        start_mb = sum(resident_mb(process.pid) for process in started)
                    if any(process.poll() is not None for process in running) or time.monotonic() > end_s:
                        raise DemoError(f"{len(listener.frames)} answers, then none: {path.read_text(encoding='utf-8')[-1000:]}")
                sent, end_mb = len(listener.indices), sum(resident_mb(process.pid) for process in started)
            finally:
                stop_nodes(*running)
    ages_ms = np.array([frame.age_s for frame in listener.frames[WARM_UP:]]) * 1e3
    return _Played(ages_ms, sent, start_mb, end_mb, reports)


def _processing_ms(reports: list[DiagnosticArray], node: str) -> tuple[float, float]:
    """(p50, p95) of one node: medians of what its reports say; NaN when none says anything."""
    texts = [
        item.value
        for report in reports
        for status in report.status
        if status.name.startswith(f"{node}:")
        for item in status.values
        if item.key == "processing p50 / p95 (ms)" and "/" in item.value
    ]
    if not texts:
        return float("nan"), float("nan")
    p50, p95 = np.median([[float(part) for part in text.split("/")] for text in texts], axis=0)
    return float(p50), float(p95)


def _player_arguments(rate_hz: float) -> dict[str, Any]:
    return {
        "player.rate_hz": rate_hz,
        "player.frames": PLAYED_FRAMES,
        "player.width": SIZE_WH[0],
        "player.height": SIZE_WH[1],
        "player.preload": True,
        "player.loop": True,
    }


def _stages_alone() -> float:
    """Median sum of the stages, ms, over two passes of the frames; the first pass warms up."""
    sequence = demo_sequence(PLAYED_FRAMES, SIZE_WH)
    frames = [sequence[i].frame for i in range(PLAYED_FRAMES)]
    pipeline = Pipeline(from_flat(PIPELINE))
    sums = [sum(pipeline(frame).timings_s.values()) for _ in range(2) for frame in frames]
    pipeline.close()
    return float(np.median(sums[len(frames) :])) * 1e3


def resident_mb(pid: int) -> float:
    """Resident memory of a process without shared memory, MB; NaN where /proc is missing."""
    try:
        pages = [int(n) for n in Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()]
    except OSError:
        return float("nan")
    import resource

    return (pages[1] - pages[2]) * resource.getpagesize() / 1e6


def main(arguments: list[str]) -> int:
    frames = int(arguments[0]) if arguments else 100
    rates = [float(text) for text in arguments[1:]] or [10.0, 30.0]
    result: dict[str, Any] = {f"{rate:g} Hz": measure_latency(frames, rate) for rate in rates}
    print(json.dumps({**result, "separate nodes": compare_graphs(frames)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
