"""What was judged, as JSON and as tables that fit 100 columns."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from semantic_stereo_ros.evaluation.judge import KINDS, Judgement
from semantic_stereo_ros.evaluation.pool import by_source, figures
from semantic_stereo_ros.evaluation.suite import Skipped
from semantic_stereo_ros.io.paths import atomic

WIDTH = 100
POOLED = "all"


@dataclass(frozen=True)
class Report:
    """Figures (pool.figures) of each case, each source and all together; the flat parameters that were used; folders left out."""

    cases: dict[str, dict[str, Any]]
    sources: dict[str, dict[str, Any]]
    pooled: dict[str, Any]
    parameters: dict[str, Any]
    skipped: tuple[Skipped, ...]


def make_report(judgements: Sequence[Judgement], parameters: dict[str, Any], skipped: Sequence[Skipped] = ()) -> Report:
    """Pool the cases of a suite; there must be one at least."""
    cases = {
        j.folder.name: figures([j])
        | {
            "source": j.folder.source,
            "metric": j.folder.metric,
            "findings": list(j.findings),
            "judged": {kind: [dataclasses.asdict(o) for o in j.objects[kind]] for kind in KINDS},
        }
        for j in judgements
    }
    sources = {name: figures(group) for name, group in by_source(judgements).items()}
    return Report(cases, sources, figures(judgements), parameters, tuple(skipped))


def write_json(report: Report, path: Path) -> None:
    """All figures; what is not a number is null."""
    text = json.dumps(_without_nan(dataclasses.asdict(report)), indent=1)
    with atomic(path) as file:
        file.write((text + "\n").encode())


def write_markdown(report: Report, path: Path) -> None:
    """The tables of `tables`, for a document."""
    with path.open("w", encoding="utf-8") as file:
        console = Console(file=file, width=WIDTH + 20)
        for title, table in tables(report, markdown=True):
            console.print(f"{title}\n\n", table, "\n", sep="", markup=False, highlight=False)


def print_tables(report: Report, console: Console | None = None) -> None:
    """To standard output, or to the given console."""
    console = console if console is not None else _console()
    for title, table in tables(report):
        console.print(table_with_title(title, table))
    for skipped in report.skipped:
        console.print(f"skipped: {escape(skipped.name)}, because {escape(skipped.reason)}", highlight=False)


def _console() -> Console:
    """Of the terminal's own width; a file or pipe gets lines of WIDTH."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def table_with_title(title: str, table: Table) -> RenderableType:
    table.title = title
    table.title_justify = "left"
    return table


def tables(report: Report, markdown: bool = False) -> Iterator[tuple[str, Table]]:
    """Title and table: disparities and sigma by case, source and all together; objects by source."""
    named = [*report.cases.items(), *((f"{name} ({f['cases']})", f) for name, f in report.sources.items())]
    pooled = [(f"{name} ({f['cases']})", f) for name, f in report.sources.items()]
    last = (f"{POOLED} ({report.pooled['cases']})", report.pooled)
    yield from (
        (
            "Disparity: % answered, EPE in px, % off by over 1, 2, 3 px of the answered and of all; seconds",
            _disparity([*named, last], markdown),
        ),
        ("Sigma of cells and pixels: % within 1 and 2 sigma; gain over a constant relative sigma, nats", _sigma([*named, last], markdown)),
        (
            "Sigma of depths by kind of mask, %; bare: without the truth's own sigma; likelihoods in nats",
            _objects([*pooled, last], markdown),
        ),
        ("Objects: found at IoU 0.5 of the labelled, %; own masks against the truth under them", _instances([*named, last], markdown)),
    )


def _new_table(markdown: bool, *columns: str) -> Table:
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True, max_width=None if index else 24)
    return table


def _disparity(rows: list[tuple[str, dict[str, Any]]], markdown: bool) -> Table:
    table = _new_table(markdown, "", "known", "EPE", "bad 1", "2", "3", "all 1", "2", "3", "stereo s", "segm. s", "rest s")
    for name, f in rows:
        d, seconds = f["disparity"], f["seconds"]
        bad = [percent(d[f"bad_{n}_{of}"]) for of in ("answered", "all") for n in (1, 2, 3)]
        rest = seconds["fusion"] + seconds["tracking"]
        times = (f"{s:.2f}" for s in (seconds["stereo"], seconds["segmentation"], rest))
        table.add_row(escape(name), percent(d["density"]), number(d["epe_px"]), *bad, *times)
    return table


def _sigma(rows: list[tuple[str, dict[str, Any]]], markdown: bool) -> Table:
    table = _new_table(markdown, "", "cells", "unkn", "1s", "2s", "bare 1s", "2s", "gain", "px 1s", "2s", "<2px 1s", "2s", "gain")
    for name, f in rows:
        cells, pixels = f["objects"]["cells"], f["pixel_sigma"]
        small = pixels["small_errors"]
        table.add_row(
            escape(name),
            str(cells["count"]),
            str(cells["unknown"]),
            *_coverage(cells),
            *_coverage(cells, "_bare"),
            number(cells.get("gain", math.nan)),
            *_coverage(pixels),
            *_coverage(small),
            number(small.get("gain", math.nan)),
        )
    return table


def _objects(rows: list[tuple[str, dict[str, Any]]], markdown: bool) -> Table:
    table = _new_table(markdown, "", "masks", "n", "unkn", "1s", "2s", "bare 1s", "2s", "nll", "const", "gain", "err50 %")
    for kind in KINDS:
        for name, f in rows:
            o = f["objects"][kind]
            if o["count"] or o["unknown"]:
                likelihoods = (number(o.get(key, math.nan)) for key in ("nll", "relative_nll", "gain"))
                counts = str(o["count"]), str(o["unknown"])
                error = percent(o["median_relative_error"], 1)
                table.add_row(escape(name), kind, *counts, *_coverage(o), *_coverage(o, "_bare"), *likelihoods, error)
    return table


def _instances(rows: list[tuple[str, dict[str, Any]]], markdown: bool) -> Table:
    table = _new_table(markdown, "", "labelled", "found", "recall", "prec.", "own masks", "no truth", "judged", "phantoms", "share")
    for name, f in rows:
        i, p = f["instances"], f["phantoms"]
        objects = (str(i["labelled"]), str(i["found"]), percent(i["recall"]), percent(i["precision"])) if i["labelled"] else ("-",) * 4
        own = (str(p[key]) for key in ("reported", "without_truth", "judged", "phantoms"))
        table.add_row(escape(name), *objects, *own, percent(p["share"], 1))
    return table


def _coverage(values: dict[str, Any], suffix: str = "") -> tuple[str, str]:
    return percent(values.get(f"within_1{suffix}", math.nan)), percent(values.get(f"within_2{suffix}", math.nan))


def percent(share: float, digits: int = 0) -> str:
    """0..1 as a percentage without its sign; '-' for unknown."""
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
