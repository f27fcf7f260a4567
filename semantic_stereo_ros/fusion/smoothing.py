"""The disparity of an object as a smooth surface: without pixel noise and wrong matches, and also where nothing is known.

Disparity is linear in the pixel coordinates on every plane of the scene; a quadratic surface also follows what is gently curved. A
percentile of noisy values lies too far out; of smoothed ones it does not.
"""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.fusion.label_statistics import either

NOISE_PER_SIGMA2, MOST_NOISE = 2.3, 0.9  # what a pixel's neighbours do not share: per px of sigma squared, at most this share of sigma
OUTLIER = 2.5  # standard deviations
MIN_SPREAD_PX = 0.02
CURVATURE_PRIOR = 0.5  # as many pixels as this say that a surface is plane


def fit_surfaces(place: np.ndarray, box_xyxy: np.ndarray, value: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, K) float32 least squares quadratic surfaces at all pixels; (n,) float32 standard deviation of the chosen ones around them.

    place: (2, n, K) float32 column and row of each pixel, px; box_xyxy: (n, 4) the objects' image boxes; value: (n, K) float32, finite;
    chosen: (n, K) bool, the pixels to fit to.
    """
    half = 0.5 * (box_xyxy[:, 2:] - box_xyxy[:, :2])
    centre = (box_xyxy[:, :2] + half - 0.5).T.astype(np.float32)
    scale = (1.0 / half).T.astype(np.float32)
    weight = chosen.astype(np.float32)
    level = np.einsum("nk,nk->n", value, weight) / np.maximum(weight.sum(axis=1), 1.0)
    terms = np.empty((len(value), 7, value.shape[1]), np.float32)
    x, y, xx, xy, yy, one, z = (terms[:, k] for k in range(7))
    linear = terms[:, :2].transpose(1, 0, 2)
    np.subtract(place, centre[:, :, None], out=linear)
    linear *= scale[:, :, None]
    np.multiply(x, x, out=xx)
    np.multiply(x, y, out=xy)
    np.multiply(y, y, out=yy)
    one[:] = 1.0
    np.subtract(value, level[:, None], out=z)
    gram = ((terms * weight[:, None, :]) @ terms.transpose(0, 2, 1)).astype(np.float64)
    total = np.maximum(gram[:, 5, 5], 1e-6)
    # priors keep lines and single pixels solvable: a pixel's own extent, and little curvature
    diagonal = np.einsum("nkk->nk", gram)
    diagonal[:, 0:2] += (total / 12.0 * scale.astype(np.float64) ** 2).T
    diagonal[:, 2:5] += CURVATURE_PRIOR
    diagonal[:, 5] = total
    solution = np.linalg.solve(gram[:, :6, :6], gram[:, :6, 6:])
    energy = gram[:, 6, 6] - np.einsum("nk,nk->n", solution[:, :, 0], gram[:, :6, 6])
    surface = (solution.astype(np.float32).transpose(0, 2, 1) @ terms[:, :6])[:, 0]
    surface += level[:, None]
    return surface, np.sqrt(np.maximum(energy, 0.0) / total).astype(np.float32)


def smooth(
    value: np.ndarray, known: np.ndarray, surface: np.ndarray, spread_px: np.ndarray, sigma_px: np.ndarray, filled: np.ndarray
) -> np.ndarray:
    """(n, K) float32: the surface plus the share of each residual that noise does not explain; `filled` for outliers and unknown pixels.

    value, surface, filled: (n, K) float32; known: (n, K) bool; spread_px: (n,) of the residuals; sigma_px: (n,) the pixels' mean sigma.
    """
    spread = np.maximum(spread_px, MIN_SPREAD_PX)
    noise = np.minimum(NOISE_PER_SIGMA2 * sigma_px, MOST_NOISE) * sigma_px
    signal = (np.sqrt(np.maximum(spread**2 - noise**2, 0.0)) / spread).astype(np.float32)
    residual = value - surface
    good = np.abs(residual) <= (OUTLIER * spread)[:, None]
    good &= known
    residual *= signal[:, None]
    residual += surface
    return either(good, residual, filled)
