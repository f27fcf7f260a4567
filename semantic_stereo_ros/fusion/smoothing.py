"""The disparity of an object as a smooth surface: without pixel noise and wrong matches, and also where nothing is known.

Disparity is linear in the pixel coordinates on every plane of the scene; a quadratic surface also follows what is gently curved. A
percentile of noisy values lies too far out; of smoothed ones it does not.
"""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.fusion.label_statistics import LabelRuns

NOISE_PER_SIGMA2, MOST_NOISE = 2.3, 0.9  # what a pixel's neighbours do not share: per px of sigma squared, at most this share of sigma
OUTLIER = 2.5  # standard deviations
MIN_SPREAD_PX = 0.02
CURVATURE_PRIOR = 0.5  # as many pixels as this say that a surface is plane


def fit_surfaces(
    place: np.ndarray, runs: LabelRuns, value: np.ndarray, chosen: np.ndarray, level: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, K) float32 quadratic surfaces at all pixels, by least squares with a prior (ridge regression); (n,) float32 standard deviation
    of the chosen ones around them.

    place: (2, n, K) float32 column and row of each pixel, px; runs: the masks; value: (n, K) float32, finite;
    chosen: (n, K) bool, the pixels to fit to; level: (n,) a value amid those, so that differences to it keep their digits.
    """
    half = 0.5 * runs.size_wh
    centre = (runs.box_xyxy[:, :2] + half - 0.5).T.astype(np.float32)
    scale = (1.0 / half).T.astype(np.float32)
    level = level.astype(np.float32)[:, None]
    x, y = (place - centre[:, :, None]) * scale[:, :, None]
    terms = np.stack([x, y, x * x, x * y, y * y, np.ones_like(x), value - level])
    weighted = terms * chosen.astype(np.float32)
    gram = (weighted.transpose(1, 0, 2) @ terms.transpose(1, 2, 0)).astype(np.float64)
    total = np.maximum(gram[:, 5, 5], 1e-6)
    # priors keep lines and single pixels solvable: a pixel's own extent, and little curvature
    diagonal = gram.reshape(-1, 49)[:, ::8]
    diagonal[:, 0:2] += total[:, None] / (12.0 * half * half)
    diagonal[:, 2:5] += CURVATURE_PRIOR
    diagonal[:, 5] = total
    solution = np.linalg.solve(gram[:, :6, :6], gram[:, :6, 6:])
    energy = gram[:, 6, 6] - (solution * gram[:, :6, 6:]).sum(axis=(1, 2))
    surface = (solution.astype(np.float32).transpose(0, 2, 1) @ terms[:6].transpose(1, 0, 2))[:, 0]
    return surface + level, np.sqrt(np.maximum(energy, 0.0) / total).astype(np.float32)


def smooth(
    value: np.ndarray,
    known: np.ndarray,
    surface: np.ndarray,
    spread_px: np.ndarray,
    sigma_px: np.ndarray,
    filled: np.ndarray,
) -> np.ndarray:
    """(n, K) float32: the surface plus the share of each residual that noise does not explain (shrinkage, as in a Wiener filter);
    outliers and unknown ones: `filled`.

    value, surface, filled: (n, K) float32; known: (n, K) bool; spread_px: (n,) of the residuals; sigma_px: (n,) the pixels' mean sigma.
    """
    spread = np.maximum(spread_px, MIN_SPREAD_PX)
    noise = np.minimum(NOISE_PER_SIGMA2 * sigma_px, MOST_NOISE) * sigma_px / spread
    signal = np.sqrt(np.maximum(1.0 - noise * noise, 0.0)).astype(np.float32)
    residual = value - surface
    good = known & (np.abs(residual) <= (OUTLIER * spread)[:, None])
    return np.where(good, surface + signal[:, None] * residual, filled)
