"""`semantic-stereo bench`: every speed claim of the project, as ratios measured in one run on this machine."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import semantic_stereo_ros.bench as bench_package
from semantic_stereo_ros.checks import MissingDependencyError, SemanticStereoError
from semantic_stereo_ros.io.paths import output_file


def bench(
    output: Path = typer.Option(Path("bench/results.json"), "--output", "-o", help="Where the figures go."),
    only: list[str] = typer.Option([], "--only", help="Run only this benchmark (repeatable): see the list with an unknown name."),
    repeats: int = typer.Option(30, min=3, help="Rounds; in each round every alternative runs once, the median is reported."),
) -> None:
    """Measure: objects against per-mask loops, cloud packing against create_cloud, sgbm against bare cv2, the node's latency.

    Alternatives take turns within one run, so that a noisy machine hits them alike. Ratios travel between machines, times do not.
    """
    console = Console()
    names = [m.name.removeprefix("bench_") for m in pkgutil.iter_modules(bench_package.__path__) if m.name.startswith("bench_")]
    for name in only:
        if name not in names:
            raise SemanticStereoError(f"unknown benchmark {name!r}; known: {', '.join(names)}")
    output_file(output)
    results: dict[str, Any] = {"machine": {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}}
    for name in only or names:
        module = importlib.import_module(f"{bench_package.__name__}.bench_{name}")
        with console.status(f"{name}: {repeats} rounds"):
            try:
                results[name] = module.run(repeats=repeats)
            except MissingDependencyError as error:
                results[name] = {"skipped": str(error)}
        console.print(_table(name, results[name]))
    output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    console.print(f"written: {output}")


def _table(name: str, result: dict[str, Any]) -> Table:
    table = Table("figure", "value", title=name)
    for key, value in _leaves("", result):
        table.add_row(key, f"{value:.4g}" if isinstance(value, float) else escape(str(value)))
    return table


def _leaves(prefix: str, value: Any):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{prefix}{' / ' if prefix else ''}{key}", inner)
    else:
        yield prefix, value
