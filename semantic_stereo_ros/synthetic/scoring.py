"""Measured objects of a sequence against the true ones: which is which, and how far off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from semantic_stereo_ros.synthetic.truth import TrueObject

MIN_BOX_IOU = 0.3
MIN_PIXELS = 200


@dataclass(frozen=True)
class Estimate:
    """What the pipeline said of one object in one frame. box_xyxy is None when it has no mask (OCCLUDED, LOST)."""

    object_id: int
    state: str
    box_xyxy: tuple[int, int, int, int] | None
    distance_m: float
    distance_sigma_m: float


@dataclass
class ObjectScore:
    """One true object over a sequence. Lists have one entry per frame in which it was measured."""

    name: str
    frames_visible: int = 0
    ids: list[int] = field(default_factory=list)
    true_m: list[float] = field(default_factory=list)
    measured_m: list[float] = field(default_factory=list)
    sigma_m: list[float] = field(default_factory=list)

    @property
    def frames_measured(self) -> int:
        return len(self.measured_m)

    @property
    def errors_m(self) -> np.ndarray:
        """Measured minus true, (N,) float64."""
        return np.subtract(self.measured_m, self.true_m)

    @property
    def within_sigma(self) -> float:
        """Share of the frames whose error is at most the reported sigma; NaN without a measurement."""
        return float(np.mean(np.abs(self.errors_m) <= self.sigma_m)) if self.measured_m else float("nan")

    @property
    def id_switches(self) -> int:
        """How often the id changed from one measured frame to the next."""
        return sum(a != b for a, b in zip(self.ids, self.ids[1:]))


def score(frames: Iterable[tuple[Sequence[TrueObject], Sequence[Estimate]]]) -> dict[int, ObjectScore]:
    """Scores by true object id. A true object counts as visible from MIN_PIXELS visible pixels on; it is measured when an estimate with a
    known distance covers it: boxes are matched one to one for the largest sum of IoU, each at least MIN_BOX_IOU."""
    from scipy.optimize import linear_sum_assignment

    scores: dict[int, ObjectScore] = {}
    for truths, estimates in frames:
        truths = [t for t in truths if t.pixels >= MIN_PIXELS]
        known = [(e, e.box_xyxy) for e in estimates if e.box_xyxy is not None and np.isfinite(e.distance_m)]
        for truth in truths:
            scores.setdefault(truth.object_id, ObjectScore(truth.name)).frames_visible += 1
        if not truths or not known:
            continue
        iou = np.array([[box_iou(t.box_xyxy, box) for _, box in known] for t in truths])
        for row, column in zip(*linear_sum_assignment(iou, maximize=True)):
            if iou[row, column] >= MIN_BOX_IOU:
                result, estimate = scores[truths[row].object_id], known[column][0]
                result.ids.append(estimate.object_id)
                result.true_m.append(truths[row].distance_m)
                result.measured_m.append(estimate.distance_m)
                result.sigma_m.append(estimate.distance_sigma_m)
    return scores


def box_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes (x_min, y_min, x_max, y_max), maximum exclusive."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return width * height / (areas[0] + areas[1] - width * height)
