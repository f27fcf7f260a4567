"""How far off a measured distance may be: the model behind every sigma (docs/decisions/0003-sigma-model.md).

All terms are in pixels of disparity, where stereo errors have one size at all distances; depth_sigma turns them into metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ObjectSpread:
    """What the sigma model reads, one entry per object. float64.

    count: pixels used; sigma_px: their mean reported disparity sigma; iqr_px: interquartile range of their disparity; width_px: the
    disparity that it would span if it were as deep as it is wide; near_tail_px: how far the near percentile lies beyond where a smooth
    surface of this interquartile range ends; rim_shift_px: median with the agreeing rim and with the unknown pixels filled against the
    one of the known pixels inside the rim; valid_fraction: 0..1; unseen: unknown pixels around the object per pixel of it; fallback:
    measured without leaving out a rim; beyond_view: how far it may go on beside what both cameras see, per its width;
    beyond_range_px: the searched range times the unknown share of an object that reaches the range's end, else 0; rig_doubt: 0 for a
    perfectly calibrated rig, 1 for an ordinary one (see `rig_doubt`), the same for all; calibration_px: what all disparities of the rig
    may be off by together, the same for all.
    """

    count: np.ndarray
    sigma_px: np.ndarray
    iqr_px: np.ndarray
    width_px: np.ndarray
    near_tail_px: np.ndarray
    rim_shift_px: np.ndarray
    valid_fraction: np.ndarray
    unseen: np.ndarray
    fallback: np.ndarray
    beyond_view: np.ndarray
    beyond_range_px: np.ndarray
    rig_doubt: np.ndarray
    calibration_px: np.ndarray


USUAL_ROW_ERROR_PX = 0.15
"""Where the rows were not measured: the median of the real rigs that the model was fitted to, which have 0.05 to 0.29 px."""

_ROW_NOISE_PX, _FULL_DOUBT_PX = 0.05, 0.1


def rig_doubt(row_error_px: float | None) -> float:
    """0..1: how far the rows of a pair are apart tells how well the rig is calibrated, along the rows as well as across them.

    What calibration leaves does not average out over an object. _ROW_NOISE_PX is the measurement's own noise.
    """
    error_px = USUAL_ROW_ERROR_PX if row_error_px is None else row_error_px
    return float(min(max(error_px**2 - _ROW_NOISE_PX**2, 0.0) ** 0.5 / _FULL_DOUBT_PX, 1.0))


_GOOD_ROWS_PX = 0.3  # what the best real rigs have


def calibration_error_px(row_error_px: float | None, calibration_sigma_px: float = 0.0) -> float:
    """px that the disparities of a pair may be off by together: what the user says, and what rows further apart than a sound rig's say.

    A camera that has turned moves the image along the rows, where no match shows it, about as far as across them.
    """
    beyond_px = 0.0 if row_error_px is None else max(row_error_px - _GOOD_ROWS_PX, 0.0)
    return float(np.hypot(calibration_sigma_px, beyond_px))


def terms_px(spread: ObjectSpread) -> np.ndarray:
    """(terms, objects) error sources in px of disparity, before their coefficients."""
    # what is deeper than it is wide, or has a long near end, may be two things in one mask, one behind the other
    deep = np.minimum(spread.iqr_px / spread.width_px, 1.0)
    stretched = np.minimum((spread.iqr_px + spread.near_tail_px) / spread.width_px, 1.0)
    return np.array(
        [
            np.ones_like(spread.sigma_px),
            spread.sigma_px,
            spread.sigma_px * spread.fallback,
            spread.iqr_px * (1.0 - spread.valid_fraction),
            spread.iqr_px * np.minimum(spread.unseen, 1.0),
            spread.iqr_px * deep * deep,
            spread.near_tail_px * stretched,
            spread.rim_shift_px,
            spread.sigma_px / np.sqrt(np.maximum(spread.count, 1.0)),
            spread.iqr_px * spread.beyond_view,
            spread.beyond_range_px,
            spread.sigma_px * spread.rig_doubt,
            np.square(spread.sigma_px) * spread.rig_doubt,
            spread.calibration_px,
        ]
    )


# Coefficients of terms_px for the median and for the near percentile, fitted to bench/sigma_calibration's data; see the decision record.
COEFFICIENTS = np.array(
    [
        (0.08, 0.04),  # an error that all objects have
        (0.29, 0.22),  # the pixels' own sigma, as it does not average out
        (1.0, 0.6),  # more of it where the mask is too thin to leave out a rim (such masks are rare: set, not fitted)
        (0.95, 0.25),  # extent of the object, where disparity is missing inside the mask: its median shifts
        (0.10, 0.0),  # the same, where it is missing around the mask
        (0.16, 0.35),  # deeper than wide
        (0.12, 1.1),  # a near tail: it may be another object's
        (0.19, 0.0),  # the rim and the filled pixels move the median
        (2.6, 12.0),  # sampling: neighbours err alike, at the near end as if 140 of them were one
        (0.42, 0.15),  # what only the left camera sees of it
        (0.35, 0.35),  # what lies nearer than the searched range (set, not fitted)
        (0.5, 0.36),  # what the calibration leaves: more of the pixels' own sigma is common to the object,
        (4.9, 3.4),  # and the more, the larger it is (1/px)
        (1.0, 1.0),  # what the user knows of it, and what rows far apart say
    ]
)


def sigmas_px(spread: ObjectSpread) -> np.ndarray:
    """(2, objects) standard deviations in px of disparity: of the median, and of the near percentile."""
    return np.sqrt(np.square(COEFFICIENTS.T) @ np.square(terms_px(spread)))
