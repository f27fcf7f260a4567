"""Sigma and confidence of each disparity, from the map and the two images alone.

Evidence is gathered over the 9x9 block of a pixel: how much the horizontal gradient can tell (its energy), what is left
unexplained when the right image is warped by the disparity (noise, wrong matches), how much the disparities vary (edges,
slants, streaks), how many are known here and in a wider block (errors gather around holes), and whether the pixel was
smoothed. Both models are linear in the logarithms of that evidence:

    log sigma_px        = SIGMA . evidence         sigma of the errors below 2 px, maximum Gaussian likelihood
    logit confidence    = CONFIDENCE . evidence    chance that the error is at most 1 px, maximum Bernoulli likelihood

The weights were fitted to Middlebury 2003 and 2014 pairs, plain and with added noise, and to random synthetic scenes; fitted
without each of the data sets in turn, they ranked and scaled the errors of the one left out. docs/decisions tells how well.
"""

from __future__ import annotations

import cv2
import numpy as np

CONSTANT_SIGMA_PX = 0.35
"""Sigma of a map whose sigma is not estimated: that of all errors below 2 px of the data above."""

SIGMA_RANGE_PX = (0.05, 3.0)

_BLOCK = (9, 9)
_WIDE_BLOCK = (25, 25)
# constant, log variation (px^2), log residual, log gradient energy (grey levels^2), unknown share, the same in the wide block, smoothed
SIGMA = (-0.741, 0.096, 0.205, -0.139, 0.449, 0.308, -0.472)
CONFIDENCE = (2.954, -0.251, -0.485, 0.100, -2.486, -1.630, 1.928)


class Uncertainty:
    """Per-pixel sigma and confidence for images of one size; keeps its buffers."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        self._columns = np.arange(width, dtype=np.float32)[None]
        self._rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
        self._buffers = [np.empty(shape, np.float32) for _ in range(4)]
        self._warped = np.empty(shape, np.uint8)

    def __call__(
        self, left: np.ndarray, right: np.ndarray, disparity_px: np.ndarray, known: np.ndarray, smoothed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(sigma_px, confidence), each a new (H, W) float32; what they hold where `known` is False has no meaning.

        left, right: (H, W) uint8; disparity_px: (H, W) float32, 0 where unknown; known, smoothed: (H, W) bool.
        """
        log_sigma = np.full(disparity_px.shape, SIGMA[0], np.float32)
        logit = np.full(disparity_px.shape, CONFIDENCE[0], np.float32)
        weight = known.astype(np.float32)
        share = cv2.boxFilter(weight, -1, _BLOCK)
        count = np.maximum(share, np.float32(1e-3))
        for i, evidence in enumerate(self._evidence(left, right, disparity_px, weight, share, count, smoothed), start=1):
            cv2.scaleAdd(evidence, SIGMA[i], log_sigma, dst=log_sigma)
            cv2.scaleAdd(evidence, CONFIDENCE[i], logit, dst=logit)
        sigma = cv2.exp(log_sigma, dst=log_sigma)
        np.clip(sigma, *SIGMA_RANGE_PX, out=sigma)
        np.negative(logit, out=logit)
        np.minimum(logit, 50, out=logit)
        cv2.exp(logit, dst=logit)
        logit += 1
        return sigma, np.reciprocal(logit, out=logit)

    def _evidence(self, left, right, disparity_px, weight, share, count, smoothed):
        """The evidence in the order of the weights, each yielded in a buffer that the next one may overwrite."""
        a, b, c, d = self._buffers
        yield self._log_variance(disparity_px, count, 0.002)
        np.subtract(self._columns, disparity_px, out=a)
        cv2.remap(right, a, self._rows, cv2.INTER_LINEAR, dst=self._warped, borderMode=cv2.BORDER_REPLICATE)
        cv2.subtract(left, self._warped, dst=d, dtype=cv2.CV_32F)
        np.multiply(d, weight, out=d)
        yield self._log_variance(d, count, 0.5)
        cv2.Sobel(left, cv2.CV_32F, 1, 0, dst=d, ksize=1, scale=0.5)
        cv2.sqrBoxFilter(d, cv2.CV_32F, _BLOCK, dst=b)
        b += 1
        yield cv2.log(b, dst=b)
        yield np.subtract(1, share, out=a)
        cv2.boxFilter(weight, -1, _WIDE_BLOCK, dst=c)
        yield np.subtract(1, c, out=c)
        yield smoothed.astype(np.float32)

    def _log_variance(self, values: np.ndarray, count: np.ndarray, floor: float) -> np.ndarray:
        """Logarithm of the block's variance over the known pixels (values are 0 elsewhere) plus a floor, in a buffer."""
        a, b, c, _ = self._buffers
        cv2.boxFilter(values, -1, _BLOCK, dst=a)
        cv2.sqrBoxFilter(values, cv2.CV_32F, _BLOCK, dst=b)
        np.divide(a, count, out=a)
        np.divide(b, count, out=b)
        np.multiply(a, a, out=c)
        np.subtract(b, c, out=b)
        np.maximum(b, 0, out=b)
        b += np.float32(floor)
        return cv2.log(b, dst=b)
