"""When a mask knows too little of its disparities, it says so instead of a number."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.fusion.measure import Config, measure
from semantic_stereo_ros.types import Disparity, Measurement, Segmentation, StereoRig

RIG = StereoRig((100, 80), 100.0, 100.0, 49.5, 39.5, 0.1)


def measured(side: int, every: int, config: Config | None = None) -> Measurement:
    """A square mask 2 m away of which one pixel in `every` is known, at random."""
    labels = np.zeros(RIG.shape, np.uint16)
    labels[10 : 10 + side, 20 : 20 + side] = 1
    values = np.where(np.random.default_rng(0).random(RIG.shape) < 1 / every, np.float32(5.0), np.float32(np.nan))
    sigma = np.where(np.isnan(values), np.nan, 0.2).astype(np.float32)
    (result,) = measure(Disparity(values, sigma, np.isfinite(values).astype(np.float32), RIG), Segmentation.from_labels(labels), config)
    return result


@pytest.mark.parametrize(("every", "known"), [(4, True), (20, False)])
def test_a_small_share_of_known_pixels_is_no_distance_however_many_they_are(every, known):
    """A quarter and a twentieth of 3600 pixels, of which a tenth is asked for."""
    found = measured(60, every)
    assert found.known == known and found.valid_fraction == pytest.approx(1 / every, abs=0.04)
    if known:
        assert found.depth_m == pytest.approx(2.0, rel=1e-3)
    else:
        assert "of 3600 pixels have a known disparity (at least 8 and 10% are needed)" in found.reason
        assert np.isnan([found.depth_m, found.distance_m, found.nearest_m, found.depth_sigma_m]).all() and found.box is None


def test_the_asked_share_is_an_option():
    assert measured(60, 20, Config(min_valid_fraction=0.02)).depth_m == pytest.approx(2.0, rel=1e-3)


def test_a_few_known_pixels_are_no_distance_whatever_their_share():
    assert not measured(2, 1).known and measured(2, 1, Config(min_valid_pixels=4)).known
