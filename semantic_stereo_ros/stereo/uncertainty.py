"""Sigma and confidence of each disparity, from the map and the two images alone.

Evidence is gathered over the 9x9 block of a pixel: how much the horizontal gradient can tell (its energy), what is left
unexplained when the right image is warped by the disparity (noise, wrong matches), how much the disparities vary (edges,
slants, streaks), how many are known here and in a wider block (errors gather around holes), and whether the pixel was
refined. Both models are linear in the logarithms of that evidence:

    log sigma_px        = SIGMA . evidence         sigma of the errors below 2 px, maximum Gaussian likelihood
    logit confidence    = CONFIDENCE . evidence    chance that the error is at most 1 px, maximum Bernoulli likelihood

The weights were fitted to Middlebury 2003 and 2014 pairs, plain and with added noise, and to random synthetic scenes; fitted
without each of the data sets in turn, they ranked and scaled the errors of the one left out (docs/decisions/0004-sigma-of-a-disparity.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from semantic_stereo_ros.stereo.refine import SampledPair

CONSTANT_SIGMA_PX = 0.32
"""Sigma of a map whose sigma is not estimated: that of all errors below 2 px of the data above."""

SIGMA_RANGE_PX = (0.05, 3.0)

_BLOCK = (5, 5)  # samples
_WIDE_BLOCK = (13, 13)
# constant, log variation (px^2), log residual, log gradient energy (grey levels^2), unknown share, the same in the wide block, refined
SIGMA = (-0.749, 0.088, 0.194, -0.084, -0.236, 0.426, -0.623)
CONFIDENCE = (2.221, -0.209, -0.357, 0.083, -1.677, -0.773, 2.183)


def sigma_and_confidence(
    pair: SampledPair, disparity_px: np.ndarray, known: np.ndarray, refined: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(sigma_px, confidence), each a new (H, W) float32; what they hold where `known` is False has no meaning.

    disparity_px: (H, W) float32, 0 where unknown; known, refined: (H, W) bool.
    """
    log_sigma = np.full(pair.left.shape, SIGMA[0], np.float32)
    logit = np.full(pair.left.shape, CONFIDENCE[0], np.float32)
    for sigma_weight, confidence_weight, values in zip(SIGMA[1:], CONFIDENCE[1:], block_evidence(pair, disparity_px, known)):
        cv2.scaleAdd(values, sigma_weight, log_sigma, dst=log_sigma)
        cv2.scaleAdd(values, confidence_weight, logit, dst=logit)
    bonus = refined.astype(np.float32)
    sigma = cv2.exp(cv2.scaleAdd(bonus, SIGMA[-1], pair.full(log_sigma)))
    np.clip(sigma, *SIGMA_RANGE_PX, out=sigma)
    logit = cv2.scaleAdd(bonus, CONFIDENCE[-1], pair.full(logit))
    odds_against = cv2.exp(np.negative(logit, out=logit), dst=logit)
    odds_against += 1
    return sigma, np.reciprocal(odds_against, out=odds_against)


def block_evidence(pair: SampledPair, disparity_px: np.ndarray, known: np.ndarray) -> Iterator[np.ndarray]:
    """The (h, w) float32 evidence of the sampled pixels, in the order of the weights between the constant and the last."""
    weight = pair.sample(known).astype(np.float32)
    share = cv2.boxFilter(weight, -1, _BLOCK)
    count = np.maximum(share, np.float32(1e-3))
    sampled = pair.sample(disparity_px)
    yield _log_variance(sampled, count, 0.002)
    yield _log_variance(pair.difference(sampled) * weight, count, 0.5)
    yield cv2.log(cv2.sqrBoxFilter(pair.gradient, cv2.CV_32F, _BLOCK) + np.float32(1))
    yield 1 - share
    yield 1 - cv2.boxFilter(weight, -1, _WIDE_BLOCK)


def _log_variance(values: np.ndarray, count: np.ndarray, floor: float) -> np.ndarray:
    """Logarithm of the block's variance over the known pixels (values are 0 elsewhere) plus a floor."""
    mean = cv2.boxFilter(values, -1, _BLOCK) / count
    variance = cv2.sqrBoxFilter(values, cv2.CV_32F, _BLOCK) / count
    variance -= mean * mean
    np.maximum(variance, 0, out=variance)
    variance += np.float32(floor)
    return cv2.log(variance, dst=variance)
