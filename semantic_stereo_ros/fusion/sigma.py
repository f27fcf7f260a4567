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
    rim_shift_px: median disparity of the whole mask minus that of its interior; valid_fraction: 0..1; fallback: measured without erosion.
    near_slope_px: disparity between the 90th and the 98th percentile of nearness.
    """

    count: np.ndarray
    sigma_px: np.ndarray
    iqr_px: np.ndarray
    rim_shift_px: np.ndarray
    near_slope_px: np.ndarray
    valid_fraction: np.ndarray
    fallback: np.ndarray


def median_sigma_px(spread: ObjectSpread, config) -> np.ndarray:
    """Standard deviation of an object's median disparity, px.

    Errors inside one object share causes (texture, pixel locking, fattening), so the first two terms do not shrink with the count.
    """
    own = config.sigma_correlated * spread.sigma_px
    extent = config.sigma_extent * spread.iqr_px * (1.0 + config.sigma_unknown * (1.0 - spread.valid_fraction))
    extent = np.where(spread.fallback, config.sigma_fallback * extent, extent)
    rim = config.sigma_rim * spread.rim_shift_px
    # the median of n values scatters by 1.25 sigma / sqrt(n)
    sampling = 1.25 * spread.iqr_px / IQR_PER_SIGMA / np.sqrt(np.maximum(spread.count, 1.0))
    return np.sqrt(config.sigma_floor_px**2 + own**2 + extent**2 + rim**2 + sampling**2)


def nearest_sigma_px(spread: ObjectSpread, config) -> np.ndarray:
    """Standard deviation of the near percentile, px of disparity."""
    own = config.near_correlated * spread.sigma_px
    slope = config.near_slope * spread.near_slope_px
    slope = np.where(spread.fallback, config.sigma_fallback * slope, slope)
    rim = config.sigma_rim * spread.rim_shift_px
    sampling = 2.1 * spread.iqr_px / IQR_PER_SIGMA / np.sqrt(np.maximum(spread.count, 1.0))
    return np.sqrt(config.sigma_floor_px**2 + own**2 + slope**2 + rim**2 + sampling**2)
