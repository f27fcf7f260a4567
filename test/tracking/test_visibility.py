"""Is an object hidden? Its predicted pixels, what stands there, and how sure that is."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.tracking.mask_memory import MovedMasks
from semantic_stereo_ros.tracking.visibility import hidden
from semantic_stereo_ros.types import Disparity, StereoRig

RIG = StereoRig((100, 80), 300.0, 300.0, 49.5, 39.5, 0.12)
ROWS, COLUMNS = (places.ravel() for places in np.mgrid[20:40, 30:50])
DEPTH_M, HALF_M = 4.0, 0.2


def is_hidden(depth_m, sigma_px: float = 0.1, depth_sigma_m: float = 0.05, before_cut: int | None = None) -> bool:
    """An object 4 m away that reaches 0.2 m forward, where the (80, 100) `depth_m` is seen now, NaN unknown."""
    shown = np.broadcast_to(np.asarray(depth_m, float), RIG.shape)
    values = (RIG.bf / shown).astype(np.float32)
    sigma = np.where(np.isnan(values), np.nan, sigma_px).astype(np.float32)
    disparity = Disparity(values, sigma, np.isfinite(values).astype(np.float32), RIG)
    total = np.array([ROWS.size if before_cut is None else before_cut])
    moved = MovedMasks(np.zeros(ROWS.size, np.intp), ROWS, COLUMNS, np.ones(1), total)
    return bool(hidden(moved, np.array([DEPTH_M]), np.array([depth_sigma_m]), np.array([HALF_M]), disparity)[0])


def with_unknown(depth_m: float, known_columns: int) -> np.ndarray:
    """depth_m in the first columns of the object's pixels only."""
    view = np.full(RIG.shape, np.nan)
    view[:, 30 : 30 + known_columns] = depth_m
    return view


def test_something_nearer_hides_and_the_object_itself_or_what_is_behind_it_does_not():
    assert is_hidden(2.0)
    assert not is_hidden(DEPTH_M) and not is_hidden(DEPTH_M - HALF_M + 0.01) and not is_hidden(10.0)


def test_noise_and_an_unsure_prediction_are_no_obstacle():
    """3.5 m instead of the front at 3.8 m is 0.81 px of disparity: many sigmas of 0.1 px, hardly two of 0.5 px."""
    assert is_hidden(3.5, sigma_px=0.1)
    assert not is_hidden(3.5, sigma_px=0.5)
    assert not is_hidden(3.5, sigma_px=0.1, depth_sigma_m=0.4)
    # However long it was unseen, the prediction does not come forward by more than a tenth.
    assert is_hidden(2.0, depth_sigma_m=50.0)


def test_a_few_known_pixels_cannot_tell():
    assert is_hidden(with_unknown(2.0, 10))
    assert not is_hidden(with_unknown(2.0, 3))


def test_half_covered_is_not_hidden():
    view = with_unknown(2.0, 10)
    view[:, 40:] = DEPTH_M
    assert not is_hidden(view)


def test_what_lies_mostly_outside_the_image_is_not_hidden():
    assert not is_hidden(2.0, before_cut=4 * ROWS.size)
