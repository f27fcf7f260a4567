"""What was judged, pooled by case, by source and altogether; as JSON and as the list of its tables."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_stereo_ros.evaluation.judge import KINDS, Judgement
from semantic_stereo_ros.evaluation.pool import by_source, figures
from semantic_stereo_ros.evaluation.suite import Skipped
from semantic_stereo_ros.evaluation.tables import Grid, disparity_grid, instance_grid, object_grid, sigma_grid
from semantic_stereo_ros.io.paths import atomic

POOLED = "all"


@dataclass(frozen=True)
class Report:
    """Figures (pool.figures) of each case, each source and all together; the flat parameters that were used; folders left out.

    A case's figures also hold its source, metric, findings and every judged object (judge.JudgedObject) by kind.
    """

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


def grids(report: Report, *, cases: bool = True) -> tuple[Grid, ...]:
    """The report's tables: disparities, sigma and objects by case (unless cases is False), source and altogether."""
    pooled = [(f"{name} ({f['cases']})", f) for name, f in report.sources.items()]
    pooled.append((f"{POOLED} ({report.pooled['cases']})", report.pooled))
    every = [*report.cases.items(), *pooled] if cases else pooled
    return disparity_grid(every), sigma_grid(every), object_grid(pooled), instance_grid(every)


def write_json(report: Report, path: Path) -> None:
    """All figures; what is not a number is null."""
    text = json.dumps(_without_nan(dataclasses.asdict(report)), indent=1)
    with atomic(path) as file:
        file.write((text + "\n").encode())


def write_markdown(report: Report, path: Path) -> None:
    """The tables of the sources, for a document."""
    with atomic(path) as file:
        file.write("\n".join(grid.markdown() for grid in grids(report, cases=False)).encode())


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
