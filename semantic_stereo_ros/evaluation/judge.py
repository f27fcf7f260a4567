"""One case through the pipeline, next to its truth: what pooling, tables and pictures are made from.

Depths of three kinds of masks are judged (KINDS), each against the median of the truth under the same mask, so that the segmentation's
choice of masks and the sigma of a measured mask are separate questions:

    cells         squares that hold one surface of known truth (cells.py)
    true masks    the labelled objects of instances.png, where there are some
    own masks     what the segmentation backend found; those with too little truth under them (MIN_TRUE_PIXELS, MIN_TRUE_SHARE) are counted
                  as not judged

A phantom is an own mask whose depth is off by more than 3 sigma and more than 5 %: an object where there is none, for a robot. Only
metric cases have phantoms, since a nominal doffs makes percents meaningless; their z = error / sigma is true all the same, because both
scale alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.evaluation.cells import cell_truth
from semantic_stereo_ros.evaluation.suite import Case, CaseFolder
from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.geometry.epipolar import check_pair
from semantic_stereo_ros.metrics import InstanceMatch, match_instances
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.types import Measurement, Scene, Segmentation

KINDS = ("cells", "true masks", "own masks")
MIN_TRUE_PIXELS, MIN_TRUE_SHARE = 50, 0.1
PHANTOM_SIGMAS, PHANTOM_SHARE = 3.0, 0.05


@dataclass(frozen=True)
class JudgedObject:
    """A measured mask whose truth is known. Depths (Z) and sigmas in m; depth_m and sigma_m are NaN where the pipeline said 'unknown'.

    truth_sigma_m: what the truth's own step may add (Case.truth_sigma_px). phantom: see the module; never where the case is not metric.
    """

    label: int
    pixels: int
    true_pixels: int
    depth_m: float
    sigma_m: float
    true_depth_m: float
    truth_sigma_m: float
    phantom: bool = False


@dataclass(frozen=True, eq=False)
class PixelErrors:
    """(N,) float32 each, of the pixels whose truth is known, px; estimate and sigma are NaN where there is no answer.

    true_px has doffs added, so that depth is in proportion to its inverse. truth_sigma_px: one number for all.
    """

    estimate_px: np.ndarray
    sigma_px: np.ndarray
    true_px: np.ndarray
    truth_sigma_px: float

    @property
    def error_px(self) -> np.ndarray:
        return self.estimate_px - self.true_px


@dataclass(frozen=True, eq=False)
class Judgement:
    """All of one case. objects: by kind (KINDS). matches: one per labelled object, empty without instances; reported: own masks.

    not_judged: own masks with too little truth. findings: what the checks of a pair said. timings_s: wall seconds per stage.
    """

    folder: CaseFolder
    pixels: PixelErrors
    objects: Mapping[str, tuple[JudgedObject, ...]]
    matches: tuple[InstanceMatch, ...]
    reported: int
    not_judged: int
    findings: tuple[str, ...]
    timings_s: Mapping[str, float]


def judge(pipeline: Pipeline, case: Case) -> tuple[Judgement, Scene]:
    """Run one case as a stream of one frame and compare. Raises what the pipeline raises."""
    pipeline.reset(f"next case: {case.name}")
    scene = pipeline(case.frame)
    labels, medians_px = cell_truth(case.truth_px, case.truth_step_px)
    cells = Segmentation.from_labels(labels)
    objects: dict[str, tuple[JudgedObject, ...]] = {
        "cells": _judged(case, cells, _measure(pipeline, scene, cells), dict(enumerate(medians_px.tolist(), start=1))),
        "true masks": (),
        "own masks": _judged(case, scene.segmentation, _own(scene)),
    }
    matches: tuple[InstanceMatch, ...] = ()
    if case.instance_ids is not None:
        true_masks = Segmentation.from_labels(case.instance_ids)
        objects["true masks"] = _judged(case, true_masks, _measure(pipeline, scene, true_masks))
        matches = match_instances(scene.segmentation.labels, case.instance_ids)
    own = len(scene.segmentation.object_instances)
    findings = tuple(finding.message for finding in check_pair(scene.frame, scene.disparity.searched_to_px))
    not_judged = own - len(objects["own masks"])
    return Judgement(case.folder, _pixels(case, scene), objects, matches, own, not_judged, findings, scene.timings_s), scene


def _pixels(case: Case, scene: Scene) -> PixelErrors:
    known = np.isfinite(case.truth_px)
    doffs_px = np.float32(case.frame.rig.doffs_px)
    disparity = scene.disparity
    return PixelErrors(
        disparity.disparity_px[known] + doffs_px, disparity.sigma_px[known], case.truth_px[known] + doffs_px, case.truth_sigma_px
    )


def _measure(pipeline: Pipeline, scene: Scene, masks: Segmentation) -> tuple[Measurement, ...]:
    return measure(scene.disparity, masks, pipeline.config.fusion, boxes=False)


def _own(scene: Scene) -> tuple[Measurement, ...]:
    return tuple(o.measurement for o in scene.objects if o.measurement is not None)


def _judged(
    case: Case, masks: Segmentation, measured: tuple[Measurement, ...], medians_px: Mapping[int, float] | None = None
) -> tuple[JudgedObject, ...]:
    """Measurements against the median truth under their masks, or against the one given by label."""
    rig = case.frame.rig
    known = np.isfinite(case.truth_px)
    result = []
    for m in measured:
        x0, y0, x1, y1 = m.box_xyxy
        mask = masks.labels[y0:y1, x0:x1] == m.label
        values = case.truth_px[y0:y1, x0:x1][mask & known[y0:y1, x0:x1]]
        if len(values) < max(MIN_TRUE_PIXELS, MIN_TRUE_SHARE * m.pixels):
            continue
        true_px = (float(np.median(values)) if medians_px is None else medians_px[m.label]) + rig.doffs_px
        if true_px <= 0:
            continue
        true_m = rig.bf / true_px
        truth_sigma_m = true_m * true_m / rig.bf * case.truth_sigma_px
        phantom = case.folder.metric and is_phantom(m.depth_m, m.depth_sigma_m, true_m, truth_sigma_m)
        result.append(JudgedObject(m.label, m.pixels, len(values), m.depth_m, m.depth_sigma_m, true_m, truth_sigma_m, phantom))
    return tuple(result)


def is_phantom(depth_m: float, sigma_m: float, true_m: float, truth_sigma_m: float = 0.0) -> bool:
    """Off by more than 3 sigma (the truth's own in quadrature) and by more than 5 %; an unknown depth is none."""
    error_m = abs(depth_m - true_m)
    return bool(error_m > PHANTOM_SIGMAS * np.hypot(sigma_m, truth_sigma_m) and error_m > PHANTOM_SHARE * true_m)
