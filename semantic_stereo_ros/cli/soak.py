"""`semantic-stereo soak`: thousands of frames over real DDS, and whether anything grew."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from semantic_stereo_ros.checks import MissingDependencyError, SemanticStereoError
from semantic_stereo_ros.cli import common
from semantic_stereo_ros.io.paths import output_file


def soak(
    frames: int = typer.Option(10_000, min=100, help="Frames to count, after a warm-up of a tenth (200 at least)."),
    width: int = typer.Option(160, min=32, help="Image width."),
    height: int = typer.Option(120, min=32, help="Image height."),
    rate_hz: float = typer.Option(0.0, min=0.0, help="Upper limit of the rate; 0: the next frame goes when the answer to the last came."),
    max_growth: float = typer.Option(0.01, min=0.0, help="Largest growth of a process's memory, as a fraction, that is not a failure."),
    split: bool = typer.Option(False, "--split", help="Through stereo_node, segmentation_node and fusion_node."),
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="Write the figures as JSON to this file."),
) -> None:
    """Play frames through player_node and pipeline_node, every output subscribed: rate, losses, latency, memory, open files, threads.

    Exit status 1 when a frame had no answer or something grew: memory by more than --max-growth, open files or threads at all.
    """
    for module in ("rclpy", "semantic_stereo_ros.msg"):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f"a soak over ROS needs the Python module {module!r}: run 'make build'")
    from semantic_stereo_ros.nodes.harness.soak import SPLIT, run_soak

    if output is not None:
        output_file(output)
    console = Console()
    with common.progress_bar() as progress:
        task = progress.add_task("player_node -> pipeline_node", total=None, note="")
        report = run_soak(
            frames,
            size_wh=(width, height),
            rate_hz=rate_hz,
            nodes=SPLIT if split else ("pipeline_node",),
            on_answer=lambda count, total: progress.update(task, completed=count, total=total),
        )
    figures = report.figures()
    console.print(_figures_table(figures))
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        console.print(f"written: {output}", soft_wrap=True)
    if failures := report.failures(max_growth):
        raise SemanticStereoError("; ".join(failures))
    console.print(f"nothing was lost, and nothing grew by more than {max_growth:.1%}")


def _figures_table(figures: dict) -> Table:
    table = Table("figure", "value", title=f"{figures['frames']} frames in {figures['seconds']:.0f} s")
    for key, value in figures.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                table.add_row(f"{key}: {inner.replace('_', ' ')}", _text(number))
        else:
            table.add_row(key.replace("_", " "), escape(_text(value)))
    return table


def _text(value) -> str:
    if isinstance(value, list):
        return " -> ".join(map(str, value))
    return f"{value:.2f}" if isinstance(value, float) else str(value)
