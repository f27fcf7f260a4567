"""The report as one HTML page beside its pictures: tables, reliability diagrams, and each case to look at."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semantic_stereo_ros.evaluation.charts import reliability_chart, spread_chart
from semantic_stereo_ros.evaluation.judge import KINDS
from semantic_stereo_ros.evaluation.pictures import ERROR_COLORS, ERROR_STEPS_PX, NAMES, NO_ANSWER, NO_TRUTH
from semantic_stereo_ros.evaluation.report import POOLED, Report, grids
from semantic_stereo_ros.evaluation.tables import number, percent
from semantic_stereo_ros.io.paths import atomic

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 1560px; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; font-size: 12.5px; }
caption { text-align: left; font-weight: 600; padding-bottom: .3em; }
th, td { text-align: right; padding: .1em .6em; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr:hover { background: #f3f6fa; }
svg { font: 9.5px system-ui, sans-serif; } svg .title { font-size: 12px; font-weight: 600; }
svg .grid { stroke: #e2e2e2; fill: none; } svg .ideal { stroke: #888; stroke-dasharray: 4 3; fill: none; }
.charts { display: flex; flex-wrap: wrap; column-gap: 24px; }
.pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; } .pictures img { width: 100%; display: block; }
figure { margin: 0; } figcaption { font-size: 12px; color: #555; }
h2 { margin: 2em 0 .3em; } .swatch { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 .9em; vertical-align: -1px; }
"""
FEWEST_IN_CHART = 10
READING = (
    "1s, 2s: share within one and two sigma (a Gaussian: 68 and 95 %), with what 8-bit truth itself may be off by in quadrature; "
    "bare: the reported sigma alone. gain: nats by which the reported sigma beats the best constant relative sigma. "
    "<2px: pixels off by at most 2 px. unkn: no answer. A phantom is an own mask off by more than 3 sigma and more than 5 % from "
    "the truth under it. Labels are mostly incomplete, and then there is no precision."
)


def write_page(report: Report, pictures: Mapping[str, Mapping[str, str]], path: Path) -> None:
    """pictures: case -> picture name (pictures.NAMES) -> path relative to the page."""
    used = ", ".join(f"{stage} {report.parameters[f'{stage}.backend']}" for stage in ("stereo", "segmentation"))
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Accuracy</title><style>{STYLE}</style>',
        f"<h1>Accuracy: {report.pooled['cases']} cases</h1><p>{html.escape(used)}</p><p>{html.escape(READING)}</p>",
        *(f"<p>Skipped: {html.escape(s.name)}, because {html.escape(s.reason)}.</p>" for s in report.skipped),
        f'<div class="charts">{"".join(_charts(*group) for group in [(POOLED, report.pooled), *report.sources.items()])}</div>',
        *(grid.html() for grid in grids(report)),
        *(_case(name, f, pictures.get(name, {})) for name, f in report.cases.items()),
        "</html>\n",
    ]
    with atomic(path) as file:
        file.write("\n".join(parts).encode())


def _charts(name: str, f: dict[str, Any]) -> str:
    """Reliability of pixels and masks, and the spread of errors by sigma, of one group."""
    pixels = f["pixel_sigma"]
    known = {"pixels": pixels, "pixels off by < 2 px": pixels["small_errors"], **f["objects"]}
    known = {key: values["reliability"] for key, values in known.items() if values["count"] >= FEWEST_IN_CHART}
    curves = {key: list(zip(r["level"], r["observed"])) for key, r in known.items()}
    spread = {key: list(zip(r["bin_sigma"], r["bin_error"])) for key, r in known.items()}
    of_pixels = {key: spread[key] for key in spread if key not in KINDS}
    of_masks = {key: spread[key] for key in spread if key in KINDS}
    charts = (
        reliability_chart(f"{name}: is sigma true?", curves),
        spread_chart(f"{name}: pixels", of_pixels, "px"),
        spread_chart(f"{name}: depth of masks", of_masks, "m"),
    )
    return f"<div>{''.join(charts)}</div>"


def _case(name: str, f: dict[str, Any], pictures: Mapping[str, str]) -> str:
    d, cells, phantoms = f["disparity"], f["objects"]["cells"], f["phantoms"]
    summary = (
        f"{percent(d['density'])} % answered, EPE {number(d['epe_px'])} px, {percent(d['bad_2_answered'])} % off by over 2 px; "
        f"{cells['count']} cells"
        + (f", {percent(cells['within_1'])} % within 1 sigma" if cells["count"] else "")
        + f"; {phantoms['phantoms']} phantoms among {phantoms['judged']} judged of {phantoms['reported']} own masks"
        + ("" if f["metric"] else "; metres are nominal, so phantoms are not judged")
    )
    findings = "".join(f"<p>{html.escape(text)}</p>" for text in f["findings"])
    captions = {"overlay": "objects", "disparity": "disparity, range of the truth", "truth": "truth", "error": f"error, px: {_legend()}"}
    figures = "".join(
        f'<figure><img loading="lazy" src="{html.escape(pictures[key])}" alt="{key}"><figcaption>{captions[key]}</figcaption></figure>'
        for key in NAMES
        if key in pictures
    )
    return f'<h2>{html.escape(name)}</h2><p>{html.escape(summary)}</p>{findings}<div class="pictures">{figures}</div>'


def _legend() -> str:
    texts = [f"&le; {step:g}" for step in ERROR_STEPS_PX] + [f"&gt; {ERROR_STEPS_PX[-1]:g}", "no answer", "no truth"]
    colors = [*ERROR_COLORS, NO_ANSWER, NO_TRUTH]
    return "".join(f'<span class="swatch" style="background:rgb{color}"></span>{text}' for color, text in zip(colors, texts))
