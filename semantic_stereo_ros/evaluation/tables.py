"""The figures of a report as tables of text, which fit 100 columns; drawn in a terminal, as Markdown or as HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from semantic_stereo_ros.evaluation.judge import KINDS

LONGEST_NAME = 20
Rows = Sequence[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Grid:
    """title, column names and rows of texts; the first column is a name, the others are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=self.title, title_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=True, max_width=None if index else LONGEST_NAME)
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """For a document: the title as a paragraph, then the table."""
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
        return f"{self.title}\n\n{table}\n"

    def html(self) -> str:
        """For a page; every text is escaped."""
        head = "".join(f"<th>{html.escape(text)}</th>" for text in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in self.rows)
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>{body}</table>"


def disparity_grid(named: Rows) -> Grid:
    columns = ("", "known", "EPE", "bad 1", "2", "3", "all 1", "2", "3", "stereo s", "segm. s", "rest s")
    rows = []
    for name, f in named:
        d, seconds = f["disparity"], f["seconds"]
        bad = (percent(d[f"bad_{n}_{of}"]) for of in ("answered", "all") for n in (1, 2, 3))
        times = (seconds["stereo"], seconds["segmentation"], seconds["fusion"] + seconds["tracking"])
        rows.append((name, percent(d["density"]), number(d["epe_px"]), *bad, *map(number, times)))
    return Grid("Disparity: % answered; EPE in px; % off by over 1, 2, 3 px of the answered and of all", columns, tuple(rows))


def sigma_grid(named: Rows) -> Grid:
    columns = ("", "cells", "unkn", "1s", "2s", "bare 1s", "2s", "gain", "px 1s", "2s", "<2px 1s", "2s", "gain")
    rows = []
    for name, f in named:
        cells, pixels = f["objects"]["cells"], f["pixel_sigma"]
        small = pixels["small_errors"]
        counts = str(cells["count"]), str(cells["unknown"])
        of_cells = (*_coverage(cells), *_coverage(cells, "_bare"), _number_of(cells, "gain"))
        rows.append((name, *counts, *of_cells, *_coverage(pixels), *_coverage(small), _number_of(small, "gain")))
    return Grid("Sigma of cells and pixels: % within 1, 2 sigma; gain over a constant relative sigma, nats", columns, tuple(rows))


def object_grid(named: Rows) -> Grid:
    columns = ("", "masks", "n", "unkn", "1s", "2s", "bare 1s", "2s", "nll", "const", "gain", "err50 %")
    rows = []
    for kind in KINDS:
        for name, f in named:
            o = f["objects"][kind]
            if o["count"] or o["unknown"]:
                likelihoods = (_number_of(o, key) for key in ("nll", "relative_nll", "gain"))
                error = percent(o["median_relative_error"], 1)
                counts = str(o["count"]), str(o["unknown"])
                rows.append((name, kind, *counts, *_coverage(o), *_coverage(o, "_bare"), *likelihoods, error))
    return Grid("Sigma of depths by kind of mask: % within 1, 2 sigma (bare: truth as exact)", columns, tuple(rows))


def instance_grid(named: Rows) -> Grid:
    columns = ("", "labelled", "found", "recall", "prec.", "own masks", "no truth", "judged", "phantoms", "share")
    rows = []
    for name, f in named:
        i, p = f["instances"], f["phantoms"]
        objects = (str(i["labelled"]), str(i["found"]), percent(i["recall"]), percent(i["precision"])) if i["labelled"] else ("-",) * 4
        own = (str(p[key]) for key in ("reported", "without_truth", "judged", "phantoms"))
        rows.append((name, *objects, *own, percent(p["share"], 1)))
    return Grid("Objects: labelled ones found at IoU 0.5, %; own masks against the truth under them, %", columns, tuple(rows))


def _coverage(values: dict[str, Any], suffix: str = "") -> tuple[str, str]:
    return percent(values.get(f"within_1{suffix}", math.nan)), percent(values.get(f"within_2{suffix}", math.nan))


def _number_of(values: dict[str, Any], key: str) -> str:
    return number(values.get(key, math.nan))


def percent(share: float, digits: int = 0) -> str:
    """0..1 as a percentage without its sign; '-' for unknown."""
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f}"


def number(value: float) -> str:
    """Two places; '-' for unknown."""
    return "-" if math.isnan(value) else f"{value:.2f}"
