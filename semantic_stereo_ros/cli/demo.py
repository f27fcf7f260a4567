"""`semantic-stereo demo`: the synthetic scene with exact truth, measured live by real nodes, and a table of what came out."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from semantic_stereo_ros.checks import MissingDependencyError
from semantic_stereo_ros.cli import common
from semantic_stereo_ros.io.paths import output_directory
from semantic_stereo_ros.synthetic import SyntheticSequence, demo_sequence
from semantic_stereo_ros.synthetic.scoring import Estimate, ObjectScore, score

TRUTH_EVERY = 3  # rendering the truth costs as much as the scene itself, so only every third frame is scored


def demo(
    output: Path = typer.Option(Path("outputs/demo"), "--output", "-o", help="Folder for pictures, video, cloud and bag."),
    frames: int = typer.Option(90, min=10, help="Length of the synthetic sequence."),
    ros: Optional[bool] = typer.Option(None, "--ros/--no-ros", help="Over DDS between processes (default with rclpy), or in this process."),
) -> None:
    """Play a synthetic stereo sequence with known truth through the pipeline and compare: true distance, measured, sigma, error.

    With ROS: player_node in one process, pipeline_node in another, every topic recorded to a rosbag2 (MCAP) that Foxglove opens.
    """
    have_ros = all(map(_importable, ("rclpy", "semantic_stereo_ros.msg")))
    if ros and not have_ros:
        raise MissingDependencyError("the demo over ROS needs rclpy and this package's messages: run 'make demo', or pass --no-ros")
    console = Console()
    directory = output_directory(output)
    sequence = demo_sequence(frames)
    if have_ros and ros is not False:
        answers, summary = _over_ros(directory, frames)
    else:
        console.print("measuring in this process" + ("" if have_ros else ": rclpy or the messages are not installed"))
        answers, summary = _in_process(directory, sequence)
    with console.status("rendering the truth"):
        scores = _score(sequence, answers)
    console.print(_score_table(scores))
    for name, value in summary.items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    _write_report(directory / "report.json", scores, summary)
    console.print(f"written: {directory}", soft_wrap=True)


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _over_ros(directory: Path, frames: int) -> tuple[dict[int, list[Estimate]], dict[str, str]]:
    """The graph of processes; the summary is what the listener measured."""
    from semantic_stereo_ros.nodes.harness.demo_files import estimates_of, write_demo_files
    from semantic_stereo_ros.nodes.harness.demo_graph import DemoFrame, run_demo

    with common.progress_bar() as progress:
        task = progress.add_task("player_node -> pipeline_node", total=frames, note="rendering the scene")

        def show(frame: DemoFrame) -> None:
            progress.update(task, advance=1, note=f"{len(frame.objects.objects)} objects, {frame.age_s * 1e3:.0f} ms old")

        result = run_demo(directory, frames, on_frame=show)
    with Console(stderr=True).status("writing pictures, video and cloud from the bag"):
        files = write_demo_files(result, directory)
    p50_ms, p95_ms = result.age_percentile_s(50) * 1e3, result.age_percentile_s(95) * 1e3
    summary = {
        "rate": f"{result.rate_hz:.1f} frames/s end to end",
        "latency": f"p50 {p50_ms:.0f} ms, p95 {p95_ms:.0f} ms, capture to objects received",
        "drops": f"{result.dropped} of {result.sent} frames",
        "transport": result.profile,
        "bag": f"{result.bag} ({sum(result.recorded.values())} messages of {len(result.recorded)} topics)",
        "files": ", ".join(str(file.relative_to(directory)) for file in files),
    }
    return {frame.index: estimates_of(frame.objects) for frame in result.frames}, summary


def _in_process(directory: Path, sequence: SyntheticSequence) -> tuple[dict[int, list[Estimate]], dict[str, str]]:
    """The same frames without ROS."""
    from semantic_stereo_ros.io.writers import ResultWriter
    from semantic_stereo_ros.pipeline import Pipeline

    pipeline, writer = Pipeline(), ResultWriter(directory, sequence=True, compact=True)
    answers: dict[int, list[Estimate]] = {}
    seconds = []
    with common.progress_bar() as progress:
        task = progress.add_task("measuring", total=len(sequence), note="")
        for index in range(len(sequence)):
            scene = pipeline(sequence[index].frame)
            writer.write(scene, str(index))
            seconds.append(sum(scene.timings_s.values()))
            answers[index] = [
                Estimate(
                    o.object_id,
                    o.state.name,
                    o.measurement.box_xyxy if o.measurement is not None else None,
                    o.distance_m,
                    o.distance_sigma_m,
                )
                for o in scene.objects
            ]
            progress.update(task, advance=1, note=f"{len(scene.objects)} objects")
    pipeline.close()
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return answers, {"processing": f"p50 {p50:.0f} ms, p95 {p95:.0f} ms per frame"}


def _score(sequence: SyntheticSequence, answers: Mapping[int, list[Estimate]]) -> dict[int, ObjectScore]:
    indices = [index for index in sorted(answers) if index % TRUTH_EVERY == 0]
    return score((sequence[index].objects, answers[index]) for index in indices)


def _score_table(scores: Mapping[int, ObjectScore]) -> Table:
    """Distances of the last frame in which the object was measured; error statistics over all scored frames."""
    table = Table(
        title="Distances in m (last frame); median |error|, share in 1 sigma (all frames)",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("object", no_wrap=True)
    for column in ("true", "measured", "sigma", "error", "median", "in sigma", "seen", "switches"):
        table.add_column(column, justify="right", min_width=len(column), no_wrap=True)
    for item in sorted(scores.values(), key=lambda s: s.true_m[-1] if s.true_m else float("inf")):
        if not item.frames_measured:
            table.add_row(item.name, *["-"] * 6, f"0/{item.frames_visible}", "-")
            continue
        last = (item.true_m[-1], item.measured_m[-1], item.sigma_m[-1])
        table.add_row(
            item.name,
            *map(common.metres, last),
            f"{item.errors_m[-1]:+.3f}",
            f"{np.median(np.abs(item.errors_m)):.3f}",
            f"{item.within_sigma:.0%}",
            f"{item.frames_measured}/{item.frames_visible}",
            str(item.id_switches),
        )
    return table


def _write_report(path: Path, scores: Mapping[int, ObjectScore], summary: Mapping[str, str]) -> None:
    objects = [
        {
            "name": item.name,
            "frames_visible": item.frames_visible,
            "ids": item.ids,
            "true_m": item.true_m,
            "measured_m": item.measured_m,
            "sigma_m": item.sigma_m,
        }
        for item in scores.values()
    ]
    path.write_text(json.dumps({"summary": dict(summary), "objects": objects}, indent=2) + "\n", encoding="utf-8")
