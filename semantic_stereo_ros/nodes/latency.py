"""How old the answers of a real graph are: player -> pipeline -> listener as processes, only `objects` subscribed.

Run as `python -m semantic_stereo_ros.nodes.latency [FRAMES] [RATE_HZ]`; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray

from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.nodes import dds
from semantic_stereo_ros.nodes.demo import PROCESSES, DemoError, listening, start_node, stop_nodes, wait_for_start
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import demo_sequence

SIZE_WH = (640, 480)
PLAYED_FRAMES = 12
WARM_UP = 10
PIPELINE = {"stereo.sgbm.num_disparities": 128}


def measure_latency(frames: int = 100, rate_hz: float = 10.0, timeout_s: float = 900.0) -> dict[str, Any]:
    """Ages (capture stamp to objects received) of `frames` answers, and what they consist of; all times in ms.

    excess_ratio: (age p95 - one camera period) / processing p50, to be at most 1.3. processing_*: of the node itself, decoding
    included, from its /diagnostics (medians over the run of its windows of 5 s). stages_p50: the sum of the stages of the same
    frames alone in one process. resident_*_mb: memory of pipeline_node after the warm-up and at the end.
    Raises DemoError when the graph does not answer.
    """
    stages_ms = _stages_alone()
    dds.use_large_segment(PROCESSES)
    reports: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, dds.private_domain() as domain_id, listening(domain_id, None, None) as graph:
        listener, executor = graph
        listener.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)
        path = Path(folder) / "nodes.log"
        with path.open("w", encoding="utf-8") as log:
            pipeline = start_node("pipeline_node", PIPELINE, domain_id, log)
            player = None
            try:
                wait_for_start(listener, executor, pipeline, path)
                player = start_node("player_node", _player_arguments(rate_hz), domain_id, log)
                start_mb = 0.0
                end_s = time.monotonic() + timeout_s
                while len(listener.frames) < frames + WARM_UP:
                    executor.spin_once(timeout_sec=0.5)
                    if not start_mb and len(listener.frames) >= WARM_UP:
                        start_mb = resident_mb(pipeline.pid)
                    ended = next((p for p in (player, pipeline) if p.poll() is not None), None)
                    if ended is not None or time.monotonic() > end_s:
                        raise DemoError(f"{len(listener.frames)} answers, then none: {path.read_text(encoding='utf-8')[-1000:]}")
                sent, end_mb = len(listener.indices), resident_mb(pipeline.pid)
            finally:
                stop_nodes(*(process for process in (player, pipeline) if process is not None))
    ages_ms = np.array([frame.age_s for frame in listener.frames[WARM_UP:]]) * 1e3
    processing_ms = np.array([_processing_ms(report) for report in reports])
    age_p50, age_p95 = np.percentile(ages_ms, (50, 95))
    period_ms = 1e3 / rate_hz
    return {
        "rate_hz": rate_hz,
        "answers": len(ages_ms),
        "sent": sent,
        "age_p50": float(age_p50),
        "age_p95": float(age_p95),
        "processing_p50": float(np.nanmedian(processing_ms[:, 0])),
        "processing_p95": float(np.nanmedian(processing_ms[:, 1])),
        "stages_p50": stages_ms,
        "excess_ratio": float((age_p95 - period_ms) / np.nanmedian(processing_ms[:, 0])),
        "age_p95_over_stages": float(age_p95 / stages_ms),
        "resident_start_mb": start_mb,
        "resident_end_mb": end_mb,
    }


def _processing_ms(report: Any) -> tuple[float, float]:
    """(p50, p95) of one /diagnostics message; NaN before the first frame."""
    values = {item.key: item.value for item in report.status[0].values}
    parts = values["processing p50 / p95 (ms)"].split("/")
    return (float(parts[0]), float(parts[1])) if len(parts) == 2 else (float("nan"), float("nan"))


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
    print(json.dumps({f"{rate:g} Hz": measure_latency(frames, rate) for rate in rates}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
