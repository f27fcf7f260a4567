"""How far off a measured distance may be: the model behind every sigma (docs/decisions/0003-sigma-model.md).

All terms are in pixels of disparity, where stereo errors have one size at all distances; depth_sigma turns them into metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ObjectSpread:
    """What the sigma model reads, one entry per object. float64.

    count: pixels used; sigma_px: their mean reported disparity sigma; iqr_px: interquartile range of their disparity;
    relative_iqr: that per median disparity; roughness_px: what a plane leaves over; near_gap_px: spread of the disparity around the near
    percentile; near_tail_px: how far that lies beyond where a smooth surface of this interquartile range ends; rim_shift_px: median with
    the agreeing rim against the one without; valid_fraction: 0..1; unseen: unknown pixels around the object per pixel of it;
    fallback: measured without leaving out a rim.
    """

    count: np.ndarray
    sigma_px: np.ndarray
    iqr_px: np.ndarray
    relative_iqr: np.ndarray
    roughness_px: np.ndarray
    near_gap_px: np.ndarray
    near_tail_px: np.ndarray
    rim_shift_px: np.ndarray
    valid_fraction: np.ndarray
    unseen: np.ndarray
    fallback: np.ndarray


def terms_px(spread: ObjectSpread) -> np.ndarray:
    """(terms, objects) error sources in px of disparity, before their coefficients."""
    missing = 1.0 - spread.valid_fraction
    unseen = np.minimum(spread.unseen, 1.0)
    return np.stack(
        [
            np.ones_like(spread.sigma_px),
            spread.sigma_px,
            spread.sigma_px * spread.fallback,
            spread.iqr_px,
            spread.iqr_px * missing,
            spread.iqr_px * unseen,
            spread.iqr_px * np.minimum(spread.relative_iqr, 0.3),
            spread.roughness_px,
            spread.near_gap_px,
            spread.near_tail_px,
            spread.near_gap_px * spread.roughness_px,
            spread.rim_shift_px,
            np.hypot(spread.sigma_px, spread.iqr_px) / np.sqrt(np.maximum(spread.count, 1.0)),
        ]
    )


# Coefficients of terms_px, fitted by bench/sigma_calibration's data; see the decision record.
DEPTH = (
    0.034,  # an error that all objects have
    0.31,  # the pixels' own sigma, as it does not average out
    1.0,  # more of it where the mask is too thin to leave out a rim (such masks are rare: set, not fitted)
    0.011,  # extent of the object: wrong mask pixels shift its median
    1.7,  # more where disparity is missing inside the mask
    0.16,  # more where it is missing around the mask
    0.35,  # more for masks that are very deep: they may hold two things
    0.019,  # what a plane leaves over
    0.026,  # spread around the near percentile
    0.025,  # a near tail beyond a smooth surface's
    0.023,  # a rough surface with a spread-out near end
    0.076,  # the rim moves the median
    0.084,  # sampling
)
NEAREST = (
    0.067,  # an error that all objects have
    0.29,  # the pixels' own sigma, as it does not average out
    0.5,  # more of it where the mask is too thin to leave out a rim (set, not fitted)
    0.0091,  # extent of the object: wrong mask pixels shift its median
    0.081,  # more where disparity is missing inside the mask
    0.02,  # more where it is missing around the mask
    0.72,  # more for masks that are very deep: they may hold two things (1.2 by the fit, lowered by hand)
    0.017,  # what a plane leaves over
    0.026,  # spread around the near percentile
    0.3,  # a near tail beyond a smooth surface's
    0.028,  # a rough surface with a spread-out near end
    0.067,  # the rim moves the median
    0.08,  # sampling
)


def median_sigma_px(spread: ObjectSpread) -> np.ndarray:
    """(objects,) standard deviation of the median disparity, px."""
    return np.sqrt(np.square(np.asarray(DEPTH)) @ np.square(terms_px(spread)))


def nearest_sigma_px(spread: ObjectSpread) -> np.ndarray:
    """(objects,) standard deviation of the near percentile, px of disparity."""
    return np.sqrt(np.square(np.asarray(NEAREST)) @ np.square(terms_px(spread)))
