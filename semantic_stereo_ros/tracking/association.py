"""Which track is which instance: where the filter expects it, whose pixels it covers, how large it is.

Hungarian assignment over one cost matrix; every term is a pure number of order one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.tracking.filter import squared_distances

FAR_GATES = 3.0
"""A track whose mask is clearly covered again may lie this many gates off: segmentation moved the edge, not the object."""

UNSEEN_COST = 0.25
"""An object without a mask in the last frame has a wide prediction that explains much: on equal terms the seen one wins."""

FORBIDDEN = 1e3


@dataclass(frozen=True, eq=False)
class Candidates:
    """All pairs of n tracks and m instances. distance2: (n, m) squared Mahalanobis distance, NaN where either position is
    unknown, inf where the pair is out of the question;
    overlap: (n, m) 0..1; size_ratio: (n, m) instance's pixels / pixels expected, NaN unknown; same_class: (n, m) bool."""

    distance2: np.ndarray
    overlap: np.ndarray
    size_ratio: np.ndarray
    same_class: np.ndarray


def position_distances(
    positions_m: np.ndarray, covariances_m2: np.ndarray, measured_m: np.ndarray, measured_covariances_m2: np.ndarray
) -> np.ndarray:
    """(n, m) squared Mahalanobis distances of n predictions to m measurements; NaN where either is NaN."""
    offsets = measured_m[None] - positions_m[:, None]
    covariances = covariances_m2[:, None] + measured_covariances_m2[None]
    known = np.isfinite(offsets).all(axis=2) & np.isfinite(covariances).all(axis=(2, 3))
    result = np.full(known.shape, np.nan)
    if known.any():
        result[known] = squared_distances(offsets[known], covariances[known])
    return result


def overlap_scores(shared_px: np.ndarray, expected_px: np.ndarray, instance_px: np.ndarray) -> np.ndarray:
    """(n, m) 0..1: intersection over union, or half of the covered share of the smaller mask where that is more (a mask that
    split or merged). shared_px: (n, m); expected_px: (n,) in view; instance_px: (m,)."""
    smaller = np.minimum(expected_px[:, None], instance_px[None])
    shared = np.minimum(shared_px, smaller)
    union = expected_px[:, None] + instance_px[None] - shared
    covered = shared / np.maximum(smaller, 1.0)
    return np.maximum(shared / np.maximum(union, 1.0), 0.5 * covered)


def assign(candidates: Candidates, gates: np.ndarray, seen: np.ndarray, min_overlap: float, max_size_ratio: float) -> list[tuple[int, int]]:
    """Pairs (track, instance) of least total cost among the plausible ones, by Hungarian assignment.

    Plausible: within the track's gate (a chi-square quantile) and of comparable size; or covered by half and within FAR_GATES gates; or,
    without a measured position on either side, covered by `min_overlap`. gates: (n,). seen: (n,) bool, the track had a mask in the last
    frame; the others compete at UNSEEN_COST, and a smaller instance is no evidence against what comes out from behind something.
    """
    if candidates.overlap.size == 0:
        return []
    from scipy.optimize import linear_sum_assignment  # a quarter of a second, which one frame alone never needs

    measured = ~np.isnan(candidates.distance2)
    distance2 = np.where(measured, candidates.distance2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size_off = np.log(candidates.size_ratio) / np.log(max_size_ratio)
    size_off = np.where(seen[:, None], np.abs(size_off), np.maximum(size_off, 0.0))
    size_off = np.where(np.isfinite(size_off), size_off, 1.0)
    covered = candidates.overlap >= 0.5
    gate = gates[:, None]
    near = (distance2 <= gate) & ((size_off <= 1.0) | (candidates.overlap >= min_overlap))
    plausible = np.where(measured, near | (covered & (distance2 <= FAR_GATES * gate)), candidates.overlap >= min_overlap)
    cost = np.where(measured, np.minimum(distance2 / gate, 2.0), 0.5)
    cost = cost + 2.0 * (1.0 - candidates.overlap) + 0.5 * np.minimum(size_off, 2.0) + 0.3 * ~candidates.same_class
    cost = cost + UNSEEN_COST * ~seen[:, None]
    cost = np.where(plausible, cost, FORBIDDEN)
    rows, columns = linear_sum_assignment(cost)
    return [(int(r), int(c)) for r, c in zip(rows, columns) if plausible[r, c]]
