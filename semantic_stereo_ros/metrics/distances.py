"""Distances of objects against true ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import SemanticStereoError


@dataclass(frozen=True)
class ObjectErrors:
    """Errors of one kind of distance over many objects, in the unit of the distances (m); relative ones as shares of the truth.

    matched: objects with both numbers; unknown: those whose estimate is not finite. p90: 90th percentile of the absolute error.
    """

    matched: int
    unknown: int
    mean_signed: float
    mean_absolute: float
    median_absolute: float
    p90_absolute: float
    mean_relative: float
    p90_relative: float


def object_errors(estimate_m: Sequence[float] | np.ndarray, truth_m: Sequence[float] | np.ndarray) -> ObjectErrors:
    """Compare (N,) distances of matched objects with their truth, in m. Objects without a finite truth are left out.

    Raises SemanticStereoError when the lengths differ.
    """
    estimate, truth = np.asarray(estimate_m, np.float64), np.asarray(truth_m, np.float64)
    if estimate.shape != truth.shape or truth.ndim != 1:
        raise SemanticStereoError(f"estimates and truths must be two lists of one length, got shapes {estimate.shape} and {truth.shape}")
    known = np.isfinite(truth)
    both = known & np.isfinite(estimate)
    if not both.any():
        return ObjectErrors(0, int((known & ~both).sum()), *[math.nan] * 6)
    error, size = estimate[both] - truth[both], np.abs(estimate[both] - truth[both])
    return ObjectErrors(
        matched=int(both.sum()),
        unknown=int((known & ~both).sum()),
        mean_signed=float(error.mean()),
        mean_absolute=float(size.mean()),
        median_absolute=float(np.median(size)),
        p90_absolute=float(np.percentile(size, 90)),
        mean_relative=float((size / truth[both]).mean()),
        p90_relative=float(np.percentile(size / truth[both], 90)),
    )
