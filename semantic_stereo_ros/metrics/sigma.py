"""Reported standard deviations against real errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from semantic_stereo_ros.checks import SemanticStereoError, check_array

LEVELS = np.arange(0.05, 1.0, 0.05)
SIGMA_BINS = 10


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


def sigma_coverage(
    error: np.ndarray, sigma: np.ndarray, value: np.ndarray | None = None, truth_sigma: np.ndarray | None = None
) -> SigmaCoverage:
    """Compare signed errors with their reported standard deviations, same shape and unit; not finite ones are left out.

    value: what was measured (a true distance, say), above zero; with it the best constant RELATIVE sigma is a baseline too.
    truth_sigma: what the truth itself may be off by, 0 or above; it is added in quadrature to the reported sigma and to both baselines.
    Raises SemanticStereoError when the shapes differ, nothing is left, or a sigma or value is not above zero.
    """
    check_array("error", error, error=SemanticStereoError)
    check_array("sigma", sigma, shape=error.shape, error=SemanticStereoError)
    use = np.isfinite(error) & np.isfinite(sigma)
    if value is not None:
        check_array("value", value, shape=error.shape, error=SemanticStereoError)
        use &= np.isfinite(value)
    if truth_sigma is not None:
        check_array("truth_sigma", truth_sigma, shape=error.shape, error=SemanticStereoError)
        use &= np.isfinite(truth_sigma)
    e, s = error[use].astype(np.float64), sigma[use].astype(np.float64)
    if not e.size:
        raise SemanticStereoError("there is no error with a finite sigma, so its coverage cannot be measured")
    if (s <= 0).any():
        raise SemanticStereoError(f"every sigma must be above zero, got {s.min():g}")
    t = np.zeros_like(e) if truth_sigma is None else truth_sigma[use].astype(np.float64)
    if (t < 0).any():
        raise SemanticStereoError(f"every truth_sigma must be 0 or above, got {t.min():g}")
    s = np.hypot(s, t)
    z = np.abs(e) / s
    constant, constant_nll = _best_constant(e, np.ones_like(e), t)
    relative, relative_nll = math.nan, math.nan
    if value is not None:
        v = value[use].astype(np.float64)
        if (v <= 0).any():
            raise SemanticStereoError(f"every value must be above zero, got {v.min():g}")
        relative, relative_nll = _best_constant(e, v, t)
    return SigmaCoverage(
        count=e.size,
        within_1=float(np.mean(z <= 1)),
        within_2=float(np.mean(z <= 2)),
        z_std=float(np.sqrt(np.mean(z * z))),
        nll=gaussian_nll(e, s),
        constant_sigma=constant,
        constant_nll=constant_nll,
        relative_sigma=relative,
        relative_nll=relative_nll,
    )


def _best_constant(error: np.ndarray, unit: np.ndarray, truth_sigma: np.ndarray) -> tuple[float, float]:
    """The factor f >= 0 whose sigma, f * unit and truth_sigma in quadrature, has the smallest nll, and that nll."""
    factor = float(np.sqrt(np.mean((error / unit) ** 2)))
    if truth_sigma.any() and factor > 0:
        from scipy.optimize import minimize_scalar

        def nll(log_factor: float) -> float:
            return gaussian_nll(error, np.hypot(math.exp(log_factor) * unit, truth_sigma))

        # without the truth's own error the optimum is the root mean square; with it, it can only be smaller
        log_factors = (math.log(factor) - 7.0, math.log(factor) + 0.5)
        found: Any = minimize_scalar(nll, bounds=log_factors, method="bounded")
        factor = math.exp(found.x)
    return factor, gaussian_nll(error, np.hypot(factor * unit, truth_sigma))


def gaussian_nll(error: np.ndarray, sigma: np.ndarray) -> float:
    """Mean of -log N(error; 0, sigma^2) in nats; minus infinity when every error and its sigma are zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(sigma > 0, error / sigma, np.where(error == 0, 0.0, np.inf))
        return float(np.mean(0.5 * z * z + np.log(sigma) + 0.5 * math.log(2 * math.pi)))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Two views of a reported sigma.

    level: (L,) 0..1, the shares of errors that a Gaussian promises; observed: (L,) the shares that were found in the same intervals: below
    the diagonal sigma is too small (V. Kuleshov et al., "Accurate Uncertainties for Deep Learning Using Calibrated Regression", 2018).
    bin_sigma, bin_error: (B,) root mean squares of sigma and of the error in bins of equal count by rising sigma, in their unit.
    """

    level: np.ndarray
    observed: np.ndarray
    bin_sigma: np.ndarray
    bin_error: np.ndarray


def reliability(error: np.ndarray, sigma: np.ndarray, bins: int = SIGMA_BINS) -> Reliability:
    """Compare signed errors with their standard deviations, same shape and unit; not finite ones are left out.

    Raises SemanticStereoError when the shapes differ, nothing is left, or a sigma is not above zero.
    """
    from scipy.special import erf

    check_array("error", error, error=SemanticStereoError)
    check_array("sigma", sigma, shape=error.shape, error=SemanticStereoError)
    use = np.isfinite(error) & np.isfinite(sigma)
    e, s = np.abs(error[use].astype(np.float64)), sigma[use].astype(np.float64)
    if not e.size:
        raise SemanticStereoError("there is no error with a finite sigma, so its reliability cannot be measured")
    if (s <= 0).any():
        raise SemanticStereoError(f"every sigma must be above zero, got {s.min():g}")
    promised = np.sort(erf(e / s / math.sqrt(2)))
    observed = np.searchsorted(promised, LEVELS, side="right") / e.size
    parts = np.array_split(np.argsort(s, kind="stable"), min(bins, e.size))
    root_mean_square = [[math.sqrt(np.mean(a[part] ** 2)) for part in parts] for a in (s, e)]
    return Reliability(LEVELS.copy(), observed, *map(np.array, root_mean_square))
