"""`semantic-stereo eval`: the pipeline against ground truth, of a file or of synthetic scenes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from semantic_stereo_ros.checks import ImageError, SemanticStereoError
from semantic_stereo_ros.cli import common
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.geometry.points import depth_to_points
from semantic_stereo_ros.io.disparity_files import read_disparity
from semantic_stereo_ros.io.images import read_image, read_labels
from semantic_stereo_ros.io.paths import output_file
from semantic_stereo_ros.io.sequences import open_pairs
from semantic_stereo_ros.metrics import disparity_metrics, match_instances, object_errors, sigma_coverage, sparsification
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.types import Scene, Segmentation, StereoRig

QUANTITIES = ("depth", "distance", "nearest")
MIN_TRUE_PIXELS = 50


@dataclasses.dataclass(frozen=True)
class _Truth:
    """Truth of one frame: disparity (H, W) float32 px with NaN unknown, instance ids (H, W) or None."""

    disparity_px: np.ndarray
    instance_ids: np.ndarray | None


def evaluate(
    left: Optional[str] = typer.Argument(None, help="Left image."),
    right: Optional[str] = typer.Argument(None, help="Right image."),
    truth: Optional[Path] = typer.Option(None, "--truth", "-t", help="True left disparity: .npy .npz .pfm .tif, or KITTI's 16-bit .png."),
    instances: Optional[Path] = typer.Option(None, "--instances", help="16-bit PNG of true instance ids: object errors too."),
    given_masks: bool = typer.Option(False, "--given-masks", help="Measure the true instances instead of segmenting."),
    calibration: Optional[str] = typer.Option(None, "--calibration", "-c", help="As for 'run'; without it only disparities are judged."),
    truth_scale: Optional[float] = typer.Option(
        None, "--truth-scale", min=1e-6, help="File values per px; if not given 256 for 16-bit PNG, else 1."
    ),
    truth_invalid: Optional[float] = typer.Option(None, "--truth-invalid", help="Value that means unknown, as NaN, inf and a PNG's 0 do."),
    suite: Optional[Path] = typer.Option(None, "--suite", help="A folder of cases: judge each, and pool by source."),
    only: list[str] = typer.Option([], "--only", metavar="NAME", help="Of the suite, this case or pattern (kitti15_*). Repeatable."),
    synthetic: int = typer.Option(0, "--synthetic", min=0, help="Evaluate this many synthetic scenes instead of files."),
    first_seed: int = typer.Option(0, "--first-seed", min=0, help="Seed of the first synthetic scene."),
    stereo: Optional[str] = common.StereoName,
    segmentation: Optional[str] = common.SegmentationName,
    assignments: list[str] = common.Assignments,
    config_file: Optional[Path] = common.ConfigFile,
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="Write the figures to this JSON file too; with --suite a folder."),
) -> None:
    """Judge disparities (EPE, bad-1/2/3 over answered and over all pixels, density, ranking by confidence) and object distances.

    Examples: semantic-stereo eval left.png right.png --truth disparity.pfm -c calib.txt
              semantic-stereo eval --synthetic 20
              semantic-stereo eval --suite ../shared/data/real --output outputs/eval
    """
    config = common.build_config(stereo, segmentation, assignments, config_file)
    if suite is not None:
        if left is not None or truth is not None or instances is not None or calibration is not None or given_masks or synthetic:
            raise SemanticStereoError("--suite takes images, truth and calibration from its cases: leave out the options that give them")
        from semantic_stereo_ros.cli.evaluate_suite import evaluate_suite

        evaluate_suite(suite, config, only, output)
        return
    if only:
        raise SemanticStereoError("--only chooses cases of a suite: give --suite DIR with it")
    if output is not None:
        output_file(output)
    if synthetic:
        if left is not None:
            raise SemanticStereoError("--synthetic takes no images: give either images with --truth, or --synthetic N")
        frames = _synthetic_frames(config, first_seed, synthetic, given_masks)
    else:
        if instances is not None and calibration is None:
            raise SemanticStereoError("--instances asks for the errors of distances, which need the calibration: give --calibration too")
        if given_masks and instances is None:
            raise SemanticStereoError("--given-masks measures the true instances: give them with --instances FILE")
        if left is None or right is None or truth is None:
            raise SemanticStereoError("eval needs LEFT, RIGHT and --truth FILE, or --synthetic N; see 'semantic-stereo eval --help'")
        known = _Truth(read_disparity(truth, scale=truth_scale, invalid=truth_invalid), read_labels(instances) if instances else None)
        frames = [_one_pair(config, left, right, calibration, known, given_masks)]
    report = _report(frames, with_objects=bool(synthetic) or instances is not None)
    console = Console()
    for title, rows in report.items():
        console.print(_table(title, rows))
    if output is not None:
        output.write_text(json.dumps(_no_nan(report), indent=2) + "\n", encoding="utf-8")


def _synthetic_frames(config: PipelineConfig, first_seed: int, count: int, given_masks: bool) -> Iterable[tuple[Scene, _Truth]]:
    from semantic_stereo_ros.synthetic import random_sequence

    with common.progress_bar() as progress:
        task = progress.add_task("measuring", total=count, note="")
        for seed in range(first_seed, first_seed + count):
            item = random_sequence(seed)[0]
            pipeline = Pipeline(config)
            given = Segmentation.from_labels(item.instance_ids) if given_masks else None
            yield pipeline(item.frame, given), _Truth(item.disparity_px, item.instance_ids)
            pipeline.close()
            progress.update(task, advance=1)


def _one_pair(config, left: str, right: str, calibration: str | None, truth: _Truth, given_masks: bool) -> tuple[Scene, _Truth]:
    rig = calibration if calibration is not None else _nominal_rig(left)
    frame, _ = next(iter(open_pairs(left, right, rig)))
    for name, array in (("disparity", truth.disparity_px), ("instance ids", truth.instance_ids)):
        if array is not None and array.shape != frame.shape:
            raise ImageError(f"the true {name} must have the images' shape {frame.shape} (rows, columns), got {array.shape}")
    given = Segmentation.from_labels(truth.instance_ids) if given_masks and truth.instance_ids is not None else None
    pipeline = Pipeline(config)
    scene = pipeline(frame, given)
    common.report_findings(scene)
    pipeline.close()
    return scene, truth


def _nominal_rig(left: str) -> StereoRig:
    """Disparities need no calibration; distances of this rig are never shown."""
    height, width = read_image(left).shape[:2]
    return StereoRig((width, height), float(width), float(width), (width - 1) / 2, (height - 1) / 2, baseline_m=1.0)


def _report(frames: Iterable[tuple[Scene, _Truth]], with_objects: bool) -> dict[str, dict[str, Any]]:
    """Figures pooled over the frames."""
    estimates, truths, confidences = [], [], []
    pairs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in QUANTITIES}
    counts = {"true objects": 0, "found (IoU >= 0.5)": 0, "reported": 0}
    for scene, truth in frames:
        estimates.append(scene.disparity.disparity_px.ravel())
        truths.append(truth.disparity_px.ravel())
        confidences.append(scene.disparity.confidence.ravel())
        if with_objects:
            _collect_objects(scene, truth, pairs, counts)
    estimate, true, confidence = (np.concatenate(parts)[None, :] for parts in (estimates, truths, confidences))
    ranking = sparsification(estimate - true, np.where(np.isfinite(estimate), confidence, np.nan))
    report: dict[str, dict[str, Any]] = {
        "disparity": dataclasses.asdict(disparity_metrics(estimate, true)),
        "confidence (area under the sparsification curve, px)": {
            "by confidence": ranking.area,
            "oracle": ranking.oracle_area,
            "random": ranking.random_area,
            "relative (0 oracle, 1 random)": ranking.relative_ause,
        },
    }
    if with_objects:
        report["objects"] = counts
        report["distances of the found objects (m)"] = {n: _object_figures(np.array(rows)) for n, rows in pairs.items() if rows}
    return report


def _collect_objects(scene: Scene, truth: _Truth, pairs: dict[str, list], counts: dict[str, int]) -> None:
    assert truth.instance_ids is not None
    by_label = {o.label: o for o in scene.objects if o.label is not None}
    points = depth_to_points(disparity_to_depth(truth.disparity_px, scene.frame.rig), scene.frame.rig)
    counts["reported"] += len(by_label)
    for match in match_instances(scene.segmentation.labels, truth.instance_ids):
        visible = points[truth.instance_ids == match.truth_id]
        visible = visible[np.isfinite(visible[:, 2])]
        if len(visible) < MIN_TRUE_PIXELS:
            continue
        counts["true objects"] += 1
        item = by_label.get(match.label)
        if item is None:
            continue
        counts["found (IoU >= 0.5)"] += 1
        true = {
            "depth": float(np.median(visible[:, 2])),
            "distance": float(np.linalg.norm(np.median(visible, axis=0))),
            "nearest": float(np.percentile(np.linalg.norm(visible, axis=1), 5)),
        }
        for name in QUANTITIES:
            pairs[name].append((getattr(item, f"{name}_m"), getattr(item, f"{name}_sigma_m"), true[name]))


def _object_figures(rows: np.ndarray) -> dict[str, Any]:
    """rows: (N, 3) estimate, sigma, truth."""
    figures = dataclasses.asdict(object_errors(rows[:, 0], rows[:, 2]))
    if np.isfinite(rows).all(axis=1).any():
        coverage = sigma_coverage(rows[:, 0] - rows[:, 2], rows[:, 1], rows[:, 2])
        figures |= {"within 1 sigma": coverage.within_1, "within 2 sigma": coverage.within_2, "nll": coverage.nll}
        figures["nll of the best constant relative sigma"] = coverage.relative_nll
    return figures


def _table(title: str, rows: dict[str, Any]) -> Table:
    """A column of figures, or one column per quantity."""
    nested = bool(rows) and all(isinstance(value, dict) for value in rows.values())
    columns = rows if nested else {"value": rows}
    table = Table("figure", title=title)
    for name in columns:
        table.add_column(name, justify="right")
    for figure in dict.fromkeys(figure for column in columns.values() for figure in column):
        table.add_row(figure, *(_text(column.get(figure, math.nan)) for column in columns.values()))
    return table


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _no_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
