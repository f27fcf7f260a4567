"""How good: disparities and distances against truth, confidence against errors, the reported sigma against the real one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ImageError, SemanticStereoError, check_array


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


@dataclass(frozen=True)
class SigmaCoverage:
    """Is a reported sigma true?

    within_1, within_2: share of errors within one and two sigma (Gaussian: 0.683, 0.954). z_std: root mean square of error / sigma.
    nll: mean Gaussian negative log-likelihood in nats. constant_nll: that of the best constant sigma, constant_sigma;
    relative_nll: that of the best sigma = relative_sigma * value, NaN without values. A useful sigma has a smaller nll than both.
    """

    count: int
    within_1: float
    within_2: float
    z_std: float
    nll: float
    constant_sigma: float
    constant_nll: float
    relative_sigma: float = math.nan
    relative_nll: float = math.nan


def sigma_coverage(error: np.ndarray, sigma: np.ndarray, value: np.ndarray | None = None) -> SigmaCoverage:
    """Compare signed errors with their reported standard deviations, same shape and unit; not finite ones are left out.

    value: what was measured (a true distance, say), above zero; with it the best constant RELATIVE sigma is a baseline too.
    Raises SemanticStereoError when the shapes differ, nothing is left, or a sigma or value is not above zero.
    """
    check_array("error", error, error=SemanticStereoError)
    check_array("sigma", sigma, shape=error.shape, error=SemanticStereoError)
    use = np.isfinite(error) & np.isfinite(sigma)
    if value is not None:
        check_array("value", value, shape=error.shape, error=SemanticStereoError)
        use &= np.isfinite(value)
    e, s = error[use].astype(np.float64), sigma[use].astype(np.float64)
    if not e.size:
        raise SemanticStereoError("there is no error with a finite sigma, so its coverage cannot be measured")
    if (s <= 0).any():
        raise SemanticStereoError(f"every sigma must be above zero, got {s.min():g}")
    z = np.abs(e) / s
    constant = float(np.sqrt(np.mean(e * e)))
    relative, relative_nll = math.nan, math.nan
    if value is not None:
        v = value[use].astype(np.float64)
        if (v <= 0).any():
            raise SemanticStereoError(f"every value must be above zero, got {v.min():g}")
        relative = float(np.sqrt(np.mean((e / v) ** 2)))
        relative_nll = gaussian_nll(e, relative * v)
    return SigmaCoverage(
        count=e.size,
        within_1=float(np.mean(z <= 1)),
        within_2=float(np.mean(z <= 2)),
        z_std=float(np.sqrt(np.mean(z * z))),
        nll=gaussian_nll(e, s),
        constant_sigma=constant,
        constant_nll=gaussian_nll(e, np.full_like(e, constant)),
        relative_sigma=relative,
        relative_nll=relative_nll,
    )


def gaussian_nll(error: np.ndarray, sigma: np.ndarray) -> float:
    """Mean of -log N(error; 0, sigma^2) in nats; minus infinity when every error and its sigma are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sigma > 0, error / sigma, np.where(error == 0, 0.0, np.inf))
        return float(np.mean(0.5 * z * z + np.log(sigma) + 0.5 * math.log(2 * math.pi)))


@dataclass(frozen=True)
class InstanceMatch:
    """One true instance and the estimated one that overlaps it best. label: 0 when none matches; iou in 0..1."""

    truth_id: int
    label: int
    iou: float


def match_instances(labels: np.ndarray, truth_ids: np.ndarray, minimum_iou: float = 0.5) -> tuple[InstanceMatch, ...]:
    """Match two (H, W) integer id images (0 = background) one to one, greedily by falling IoU, in one pass over the pixels.

    One record per true id in rising order; label 0 (with iou 0) where no free label reaches minimum_iou.
    Raises ImageError when the shapes differ or ids are negative.
    """
    check_array("truth_ids", truth_ids, shape=(None, None))
    check_array("labels", labels, shape=truth_ids.shape)
    for name, ids in (("labels", labels), ("truth_ids", truth_ids)):
        if not np.issubdtype(ids.dtype, np.integer) or ids.size and ids.min() < 0:
            raise ImageError(f"{name} must hold integers of 0 and above, got {ids.dtype} with minimum {ids.min()}")
    if not labels.size:
        return ()
    known, known_index = np.unique(truth_ids, return_inverse=True)
    found, found_index = np.unique(labels, return_inverse=True)
    pairs = known_index.ravel() * found.size + found_index.ravel()
    overlap = np.bincount(pairs, minlength=known.size * found.size).reshape(known.size, found.size)
    iou = overlap / (overlap.sum(axis=1)[:, None] + overlap.sum(axis=0)[None, :] - overlap)
    iou[known == 0] = 0
    iou[:, found == 0] = 0
    best = {int(truth_id): (0, 0.0) for truth_id in known if truth_id != 0}
    rows, columns = np.nonzero((iou >= minimum_iou) & (iou > 0))
    for i in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = rows[i], columns[i]
        if iou[row, column] > 0:
            best[int(known[row])] = (int(found[column]), float(iou[row, column]))
            iou[row] = iou[:, column] = 0  # both are taken
    return tuple(InstanceMatch(truth_id, *match) for truth_id, match in best.items())


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
