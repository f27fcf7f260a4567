"""`semantic-stereo eval --suite DIR`: every case of a folder through the pipeline, judged and pooled by source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.cli import common
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.evaluation.judge import Judgement, judge
from semantic_stereo_ros.evaluation.page import write_page
from semantic_stereo_ros.evaluation.pictures import write_pictures
from semantic_stereo_ros.evaluation.report import Report, grids, make_report, write_json, write_markdown
from semantic_stereo_ros.evaluation.suite import CaseFolder, Skipped, find_cases, read_case
from semantic_stereo_ros.io.paths import output_directory
from semantic_stereo_ros.pipeline import Pipeline

WIDTH = 100  # of a line; a narrower terminal wraps it rather than losing a figure


def evaluate_suite(suite: Path, config: PipelineConfig, only: Sequence[str], output: Path | None) -> None:
    """Print the tables; with `output`, a folder, write eval.json, tables.md and report.html with pictures there."""
    cases, skipped = find_cases(suite, only)
    if output is not None:
        output_directory(output)
    pictures: dict[str, dict[str, str]] = {}
    judgements = _judge_all(config, cases, skipped, pictures, output)
    report = make_report(judgements, config.to_flat(), skipped)
    _print(report)
    if output is not None:
        write_json(report, output / "eval.json")
        write_markdown(report, output / "tables.md")
        write_page(report, pictures, output / "report.html")


def _judge_all(
    config: PipelineConfig, cases: list[CaseFolder], skipped: list[Skipped], pictures: dict[str, dict[str, str]], output: Path | None
) -> list[Judgement]:
    """A case that cannot be read is added to `skipped`; when none can be, the first reason is raised. Fills `pictures` where written."""
    judgements: list[Judgement] = []
    pipeline = Pipeline(config)
    pipeline.load()
    with common.progress_bar() as progress:
        task = progress.add_task("judging", total=len(cases), note="")
        for folder in cases:
            progress.update(task, note=folder.name)
            try:
                case = read_case(folder)
            except SemanticStereoError as error:
                skipped.append(Skipped(folder.name, str(error)))
            else:
                judgement, scene = judge(pipeline, case)
                judgements.append(judgement)
                if output is not None:
                    pictures[folder.name] = write_pictures(output, case, scene)
            progress.update(task, advance=1)
    pipeline.close()
    if not judgements:
        raise SemanticStereoError(f"no case could be read; the first, {skipped[-len(cases)].name}: {skipped[-len(cases)].reason}")
    return judgements


def _print(report: Report) -> None:
    console = Console()
    if not console.is_terminal or console.width < WIDTH:
        console = Console(width=WIDTH)
    for grid in grids(report):
        console.print(grid.rich())
    for skipped in report.skipped:
        console.print(f"skipped: {escape(skipped.name)}, because {escape(skipped.reason)}", highlight=False, soft_wrap=True)
