"""Judgements of one or many cases -> figures: plain dicts of numbers, as they stand in eval.json.

Pixels are pooled as pixels and objects as objects, so a dense map weighs more than a sparse one; that is why sources are told apart.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from semantic_stereo_ros.evaluation.judge import KINDS, JudgedObject, Judgement
from semantic_stereo_ros.metrics import disparity_metrics, reliability, sigma_coverage

SMALL_ERROR_PX = 2.0
MINIMUM_IOU = 0.5
STAGES = ("stereo", "segmentation", "fusion", "tracking")


def by_source(judgements: Sequence[Judgement]) -> dict[str, list[Judgement]]:
    """source -> its cases, in order of first appearance."""
    groups: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        groups.setdefault(judgement.folder.source, []).append(judgement)
    return groups


def figures(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """All figures of these cases together:

    cases; disparity: metrics.DisparityMetrics; pixel_sigma: sigma_figures of all answered pixels and, as `small_errors`, of those that
    are off by at most 2 px (sigma is the spread of these, docs/decisions/0004, the rest is the confidence's business);
    objects: per kind of mask its sigma_figures with `unknown`, the number without an answer; instances: labelled, found at IoU 0.5,
    recall; reported and precision where all is labelled; phantoms: judged own masks of metric cases, how many are phantoms, own masks
    that were not judged; seconds: mean per frame and stage.
    """
    estimate, sigma, true = (
        np.concatenate([getattr(j.pixels, name) for j in judgements]) for name in ("estimate_px", "sigma_px", "true_px")
    )
    truth_sigma = np.concatenate([np.full(len(j.pixels.true_px), j.pixels.truth_sigma_px, np.float32) for j in judgements])
    error = estimate - true
    small = np.abs(error) <= SMALL_ERROR_PX
    return {
        "cases": len(judgements),
        "disparity": dataclasses.asdict(disparity_metrics(estimate[None], true[None])),
        "pixel_sigma": sigma_figures(error, sigma, true, truth_sigma)
        | {"small_errors": sigma_figures(error[small], sigma[small], true[small], truth_sigma[small])},
        "objects": {kind: object_figures([o for j in judgements for o in j.objects[kind]]) for kind in KINDS},
        "instances": _instances(judgements),
        "phantoms": _phantoms(judgements),
        "seconds": {stage: float(np.mean([j.timings_s.get(stage, 0.0) for j in judgements])) for stage in STAGES},
    }


def object_figures(objects: Sequence[JudgedObject]) -> dict[str, Any]:
    """sigma_figures of their depths, and the number without an answer."""
    rows = np.array([(o.depth_m, o.sigma_m, o.true_depth_m, o.truth_sigma_m) for o in objects], np.float64).reshape(-1, 4)
    depth, sigma, true, truth_sigma = rows.T
    known = np.isfinite(depth)
    relative = np.abs(depth[known] - true[known]) / true[known]
    return sigma_figures(depth - true, sigma, true, truth_sigma) | {
        "unknown": int((~known).sum()),
        "median_relative_error": float(np.median(relative)) if known.any() else math.nan,
    }


def sigma_figures(error: np.ndarray, sigma: np.ndarray, value: np.ndarray, truth_sigma: np.ndarray) -> dict[str, Any]:
    """count, within_1, within_2, z_std, nll with the truth's own sigma in quadrature; *_bare: the reported sigma alone.

    relative_nll: of the best constant relative sigma (for pixels too: relative to the disparity with doffs); gain: relative_nll - nll in
    nats, above 0 where the reported sigma knows more than a constant. reliability: metrics.Reliability, with the truth's own sigma.
    Only a count of 0 where nothing is known.
    """
    use = np.isfinite(error) & np.isfinite(sigma)
    if not use.any():
        return {"count": 0}
    error, sigma, value, truth_sigma = error[use], sigma[use], value[use], truth_sigma[use]
    coverage = dataclasses.asdict(sigma_coverage(error, sigma, value, truth_sigma))
    z = np.abs(error) / sigma
    curve = reliability(error, np.hypot(sigma, truth_sigma))
    return coverage | {
        "gain": coverage["relative_nll"] - coverage["nll"],
        "within_1_bare": float(np.mean(z <= 1)),
        "within_2_bare": float(np.mean(z <= 2)),
        "reliability": {field.name: getattr(curve, field.name).tolist() for field in dataclasses.fields(curve)},
    }


def _instances(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Recall over all labelled objects; precision only over cases whose labels are complete."""
    matches = [m for j in judgements for m in j.matches]
    found = sum(m.iou >= MINIMUM_IOU for m in matches)
    complete = [j for j in judgements if j.folder.instances_complete and j.matches]
    reported = sum(j.reported for j in complete)
    found_complete = sum(m.iou >= MINIMUM_IOU for j in complete for m in j.matches)
    return {
        "labelled": len(matches),
        "found": found,
        "recall": found / len(matches) if matches else math.nan,
        "complete_cases": len(complete),
        "reported_in_complete": reported,
        "precision": found_complete / reported if reported else math.nan,
    }


def _phantoms(judgements: Sequence[Judgement]) -> dict[str, Any]:
    judged = [o for j in judgements if j.folder.metric for o in j.objects["own masks"] if math.isfinite(o.depth_m)]
    phantoms = sum(o.phantom for o in judged)
    return {
        "reported": sum(j.reported for j in judgements),
        "judged": len(judged),
        "phantoms": phantoms,
        "share": phantoms / len(judged) if judged else math.nan,
        "without_truth": sum(j.not_judged for j in judgements),
    }
