"""`semantic-stereo backends`: what can be chosen, and every parameter with its unit, range and default."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from semantic_stereo_ros import config
from semantic_stereo_ros.options import Option
from semantic_stereo_ros.registry import STAGES_WITH_BACKENDS, backend_module, backend_names

OPTIONS_WIDTH = 150  # of a line; keys stay whole, so that they can be searched for


def backends(
    options: bool = typer.Option(False, "--options", "-o", help="List every parameter: key, default, range, unit, meaning."),
) -> None:
    """List the stereo and segmentation backends, or with --options every parameter of the pipeline.

    Choose with --stereo NAME and --segmentation NAME, set parameters with --set key=value or --config FILE.
    """
    console = Console()
    if options and (not console.is_terminal or console.width < OPTIONS_WIDTH):
        console = Console(width=OPTIONS_WIDTH)
    console.print(_options_table() if options else _backends_table())


def _backends_table() -> Table:
    table = Table(title="Backends")
    for column in ("stage", "backend", "default", "what it is"):
        table.add_column(column)
    chosen = config.from_flat()
    for stage in STAGES_WITH_BACKENDS:
        for name in backend_names(stage):
            summary = (backend_module(stage, name).__doc__ or "").strip().splitlines()[0]
            is_default = getattr(chosen, stage).backend == name
            table.add_row(stage, name, "yes" if is_default else "", summary)
    return table


def _options_table() -> Table:
    table = Table(title="Parameters (--set key=value, YAML, or ROS parameters; live: changes while running)")
    table.add_column("key", no_wrap=True)
    for column in ("default", "allowed", "unit", "live"):
        table.add_column(column, overflow="fold", max_width=14)
    table.add_column("meaning", min_width=30)
    for key, option in config.schema().items():
        table.add_row(key, str(option.default), allowed(option), option.unit, "yes" if option.dynamic else "no", option.description)
    return table


def allowed(option: Option) -> str:
    """The allowed values of an option in a few characters."""
    if option.choices is not None:
        return " ".join(map(str, option.choices))
    if option.minimum is None and option.maximum is None:
        return option.type.__name__
    low = "" if option.minimum is None else f"{option.minimum:g}"
    high = "" if option.maximum is None else f"{option.maximum:g}"
    return f"{low}..{high}"
