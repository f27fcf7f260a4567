"""`semantic-stereo eval --suite DIR`: every case of a folder through the pipeline, judged and pooled by source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.cli import common
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.evaluation.judge import Judgement, judge
from semantic_stereo_ros.evaluation.report import make_report, print_tables, write_json, write_markdown
from semantic_stereo_ros.evaluation.suite import CaseFolder, Skipped, find_cases, read_case
from semantic_stereo_ros.io.paths import output_directory
from semantic_stereo_ros.pipeline import Pipeline


def evaluate_suite(suite: Path, config: PipelineConfig, only: Sequence[str], output: Path | None) -> None:
    """Print the tables; with `output`, a folder, write eval.json, tables.md and report.html with pictures there."""
    cases, skipped = find_cases(suite, only)
    if output is not None:
        output_directory(output)
    judgements = _judge_all(config, cases, skipped, output)
    report = make_report(judgements, config.to_flat(), skipped)
    print_tables(report)
    if output is not None:
        write_json(report, output / "eval.json")
        write_markdown(report, output / "tables.md")


def _judge_all(config: PipelineConfig, cases: list[CaseFolder], skipped: list[Skipped], output: Path | None) -> list[Judgement]:
    """A case that cannot be read is skipped with its reason; when all are, the first reason is raised."""
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
            progress.update(task, advance=1)
    pipeline.close()
    if not judgements:
        raise SemanticStereoError(f"no case could be read; the first, {skipped[-len(cases)].name}: {skipped[-len(cases)].reason}")
    return judgements
