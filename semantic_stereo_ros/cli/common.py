"""What several verbs share: the options that choose and set, and the table of objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from semantic_stereo_ros import config
from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.geometry.epipolar import check_pair
from semantic_stereo_ros.types import Scene, SceneObject

StereoName = typer.Option(None, "--stereo", help="Stereo backend, see 'semantic-stereo backends'.")
SegmentationName = typer.Option(None, "--segmentation", help="Segmentation backend.")
Assignments = typer.Option([], "--set", metavar="KEY=VALUE", help="Set one parameter, e.g. stereo.sgbm.num_disparities=192. Repeatable.")
ConfigFile = typer.Option(None, "--config", help="YAML file of parameters; a ROS parameter file works too.")


def build_config(stereo: str | None, segmentation: str | None, assignments: Sequence[str], config_file: Path | None) -> PipelineConfig:
    """File first, then --stereo and --segmentation, then --set: the later wins."""
    values: dict[str, Any] = config.stage_parameters(config.read_yaml(config_file)) if config_file is not None else {}
    if stereo is not None:
        values["stereo.backend"] = stereo
    if segmentation is not None:
        values["segmentation.backend"] = segmentation
    values.update(config.parse_assignments(list(assignments)))
    return config.from_flat(values)


def report_findings(scene: Scene, notes: Sequence[str] = (), unchecked: bool = False) -> None:
    """Judge a pair's rows, sides and range: doubts and the backends' notes go to stderr, what makes every distance wrong is an ImageError
    (unless unchecked)."""
    for finding in check_pair(scene.frame, scene.disparity.searched_to_px):
        if finding.fatal and not unchecked:
            raise ImageError(f"{finding.message} (--unchecked measures it all the same)")
        _warn(finding.message)
    for note in notes:
        _warn(note)


def _warn(text: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[yellow]warning:[/yellow] {escape(text)}", highlight=False)


def progress_bar(quiet: bool = False) -> Progress:
    """The one progress bar of the command line; on stderr, so that standard output stays clean."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), disable=quiet)


def objects_table(objects: Sequence[SceneObject], title: str) -> Table:
    """Objects by distance, nearest first; what is unknown is said so."""
    table = Table(title=title)
    table.add_column("id", justify="right")
    table.add_column("name")
    table.add_column("state")
    for column in ("distance m", "sigma m", "depth m", "nearest m", "known pixels"):
        table.add_column(column, justify="right")
    for o in sorted(objects, key=lambda o: (math.isnan(o.distance_m), o.distance_m)):
        fraction = f"{o.measurement.valid_fraction:.0%}" if o.measurement is not None else "-"
        numbers = (o.distance_m, o.distance_sigma_m, o.depth_m, o.nearest_m)
        table.add_row(str(o.object_id), o.class_name, o.state.name, *map(metres, numbers), fraction)
    return table


def metres(value: float) -> str:
    """Three significant places that a person reads; '-' for unknown."""
    return "-" if math.isnan(value) else f"{value:.3f}"
