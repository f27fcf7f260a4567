"""How far off a measured distance may be: the model behind every sigma (docs/decisions/0003-sigma-model.md).

All terms are in pixels of disparity, where stereo errors have one size at all distances; depth_sigma turns them into metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IQR_PER_SIGMA = 1.349  # of a Gaussian


@dataclass(frozen=True, eq=False)
class ObjectSpread:
    """What the sigma model reads, one entry per object. float64.

    count: pixels used; sigma_px: their mean reported disparity sigma; iqr_px: interquartile range of their disparity;
    relative_iqr: that per median disparity;
    near_slope_px: spread of the disparity around the near percentile;
    near_shift_px: noise taken out of it; near_tail_px: how far it lies beyond where a smooth surface of this interquartile range ends;
    valid_fraction: 0..1; unseen: unknown pixels around the object per pixel of it; fallback: measured without leaving out a rim.
    """

    count: np.ndarray
    sigma_px: np.ndarray
    iqr_px: np.ndarray
    relative_iqr: np.ndarray
    near_slope_px: np.ndarray
    near_shift_px: np.ndarray
    near_tail_px: np.ndarray
    valid_fraction: np.ndarray
    unseen: np.ndarray
    fallback: np.ndarray


def median_sigma_px(spread: ObjectSpread, config) -> np.ndarray:
    """Standard deviation of an object's median disparity, px.

    Errors inside one object share causes (texture, pixel locking, fattening), so only the last term shrinks with the pixel count, and
    counts patches of correlated pixels, not pixels.
    """
    own = config.sigma_correlated * spread.sigma_px * np.where(spread.fallback, config.sigma_fallback, 1.0)
    missing = config.sigma_unseen * np.minimum(spread.unseen, 1.0) + config.sigma_unknown * (1.0 - spread.valid_fraction)
    extent = (config.sigma_extent + missing) * spread.iqr_px
    # the median of n values scatters by 1.25 sigma / sqrt(n)
    sampling = 1.25 * config.sigma_patch_px * _scatter(spread)
    return np.sqrt(config.sigma_floor_px**2 + own**2 + extent**2 + sampling**2)


def nearest_sigma_px(spread: ObjectSpread, config) -> np.ndarray:
    """Standard deviation of the near percentile, px of disparity. A long near tail may be something else in the mask."""
    own = config.near_correlated * spread.sigma_px * np.where(spread.fallback, config.near_fallback, 1.0)
    missing = config.near_unseen * np.minimum(spread.unseen, 1.0) ** 2 + config.near_unknown * (1.0 - spread.valid_fraction)
    missing = missing + config.near_deep * np.minimum(spread.relative_iqr, 0.3) ** 2
    slope = config.near_slope * spread.near_slope_px + config.near_tail * spread.near_tail_px
    shift = config.near_shift * spread.near_shift_px
    # the 95th percentile of n Gaussian values scatters by 2.1 sigma / sqrt(n)
    sampling = 2.1 * config.near_patch_px * _scatter(spread)
    return np.sqrt(config.near_floor_px**2 + own**2 + slope**2 + shift**2 + (missing * spread.iqr_px) ** 2 + sampling**2)


def _scatter(spread: ObjectSpread) -> np.ndarray:
    return np.hypot(spread.sigma_px, spread.iqr_px / IQR_PER_SIGMA) / np.sqrt(np.maximum(spread.count, 1.0))


def near_without_noise(near_px: np.ndarray, middle_px: np.ndarray, sigma_px: np.ndarray, config) -> np.ndarray:
    """The near percentile with the pixels' noise taken out: the distances of both from the middle subtract as variances do."""
    gap = near_px - middle_px
    return middle_px + np.sqrt(np.maximum(gap * gap - (config.near_bias * sigma_px) ** 2, 0.0))
