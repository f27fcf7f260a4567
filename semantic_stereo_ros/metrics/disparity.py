"""Disparity maps against truth, and whether their confidence ranks the errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ImageError, check_array


@dataclass(frozen=True)
class DisparityMetrics:
    """Errors of a disparity map over the pixels whose truth is known.

    epe_px: mean absolute error of the answered pixels. bad_n_answered: share of the answered ones with an error above n px;
    bad_n_all: share of all pixels with truth, those without an answer counted as bad. density: share that is answered.
    Shares are in 0..1; with nothing to divide by, a number is NaN.
    """

    pixels: int
    answered: int
    density: float
    epe_px: float
    bad_1_answered: float
    bad_2_answered: float
    bad_3_answered: float
    bad_1_all: float
    bad_2_all: float
    bad_3_all: float


def disparity_metrics(estimate_px: np.ndarray, truth_px: np.ndarray, valid: np.ndarray | None = None) -> DisparityMetrics:
    """Compare two (H, W) disparity maps in px; not finite = unknown, in either. `valid`: (H, W) bool, further restricts the truth.

    Raises ImageError when the shapes differ.
    """
    check_array("truth_px", truth_px, shape=(None, None))
    check_array("estimate_px", estimate_px, shape=truth_px.shape)
    known = np.isfinite(truth_px)
    if valid is not None:
        check_array("valid", valid, shape=truth_px.shape)
        known &= valid.astype(bool)
    answered = known & np.isfinite(estimate_px)
    error = np.abs(estimate_px[answered].astype(np.float64) - truth_px[answered])
    pixels, count = int(known.sum()), int(answered.sum())
    good = [int((error <= limit).sum()) for limit in (1, 2, 3)]
    of_answered = [1 - n / count if count else math.nan for n in good]
    of_all = [1 - n / pixels if pixels else math.nan for n in good]
    return DisparityMetrics(
        pixels, count, count / pixels if pixels else math.nan, float(error.mean()) if count else math.nan, *of_answered, *of_all
    )


@dataclass(frozen=True, eq=False)
class Sparsification:
    """Mean error of the kept pixels as the least trusted ones are dropped.

    fraction_kept: (N,) from 1 downwards. by_confidence, by_error: (N,) mean error when dropping by the confidence, and by the true
    error (the oracle); random: mean error of all. area, oracle_area, random_area: areas under the three curves over the
    fraction (0..1). E. Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", 2018.
    """

    fraction_kept: np.ndarray
    by_confidence: np.ndarray
    by_error: np.ndarray
    random: float
    area: float
    oracle_area: float
    random_area: float

    @property
    def ause(self) -> float:
        """Area under the sparsification error: area above the oracle's. 0 is perfect."""
        return self.area - self.oracle_area

    @property
    def random_ause(self) -> float:
        """The same of an order that knows nothing."""
        return self.random_area - self.oracle_area

    @property
    def relative_ause(self) -> float:
        """ause / random_ause: 0 ranks as well as the oracle, 1 as badly as chance."""
        return self.ause / self.random_ause if self.random_ause > 0 else math.nan


def sparsification(error: np.ndarray, confidence: np.ndarray, steps: int = 100) -> Sparsification:
    """Rank errors by confidence. error: absolute or signed, any unit; confidence: larger = more trusted; same shape.

    Pixels where either is not finite are left out; equal confidences share one mean error, so that their order does not count.
    Raises ImageError when the shapes differ or nothing is left.
    """
    check_array("error", error)
    check_array("confidence", confidence, shape=error.shape)
    use = np.isfinite(error) & np.isfinite(confidence)
    size, trust = np.abs(error[use].astype(np.float64)), confidence[use]
    if not size.size:
        raise ImageError("there is no pixel with both an error and a confidence, so nothing can be ranked")
    _, group, members = np.unique(-trust, return_inverse=True, return_counts=True)
    shared = np.bincount(group, weights=size) / members
    count = np.arange(1, size.size + 1)
    kept = np.unique(np.maximum(1, np.rint(np.linspace(1, 0, steps, endpoint=False) * size.size).astype(int)))[::-1]
    by_confidence = (np.cumsum(np.repeat(shared, members)) / count)[kept - 1]
    by_error = (np.cumsum(np.sort(size)) / count)[kept - 1]
    fraction = kept / size.size
    mean = float(size.mean())
    area, oracle = (_area(fraction, curve) for curve in (by_confidence, by_error))
    return Sparsification(fraction, by_confidence, by_error, mean, area, oracle, mean)


def _area(fraction: np.ndarray, curve: np.ndarray) -> float:
    """Area from 0 to 1, the curve held constant below the smallest fraction; trapezoids between."""
    x, y = fraction[::-1], curve[::-1]
    return float(x[0] * y[0] + np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
