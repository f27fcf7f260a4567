"""Surfaces fitted to masks, and smoothed values, against known surfaces with known noise, outliers and holes."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.fusion.label_statistics import draw_pixels, label_runs
from semantic_stereo_ros.fusion.smoothing import fit_surfaces, smooth

RECTANGLES = (np.s_[5:45, 8:68], np.s_[50:95, 20:50], np.s_[10:90, 75:95])
SURFACES = {
    "plane": lambda x, y: 20.0 + 0.05 * x - 0.03 * y,
    "bowl": lambda x, y: 30.0 + 0.0006 * (x - 40.0) ** 2 + 0.0004 * (y - 50.0) ** 2 - 0.0004 * (x - 40.0) * (y - 50.0),
}


@pytest.fixture
def drawn():
    """(runs, place): three masks, all of whose drawn pixels are real."""
    labels = np.zeros((100, 100), np.uint16)
    for label, rectangle in enumerate(RECTANGLES, 1):
        labels[rectangle] = label
    runs = label_runs(labels, np.array([1, 2, 3]))
    samples = draw_pixels(runs, labels.shape[1], 600)
    assert samples.real.all()
    return runs, np.stack([samples.column, samples.row]).astype(np.float32)


@pytest.mark.parametrize("name", SURFACES)
def test_an_exact_surface_is_found_also_where_nothing_is_known(drawn, name):
    runs, place = drawn
    truth = SURFACES[name](*place.astype(float))
    chosen = np.random.default_rng(1).random(truth.shape) < 0.7
    value = np.where(chosen, truth, 0.0).astype(np.float32)
    surface, spread_px = fit_surfaces(place, runs, value, chosen, np.median(truth, axis=1))
    assert surface == pytest.approx(truth, abs=0.02)
    assert (spread_px < 0.03).all()  # the prior on curvature counts as spread


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.parametrize("noise_px", [0.1, 0.4])
def test_noise_averages_out_and_its_size_is_told(drawn, name, noise_px):
    runs, place = drawn
    truth = SURFACES[name](*place.astype(float))
    value = (truth + np.random.default_rng(2).normal(0, noise_px, truth.shape)).astype(np.float32)
    surface, spread_px = fit_surfaces(place, runs, value, np.ones(truth.shape, bool), np.median(truth, axis=1))
    # six coefficients of 600 pixels: a tenth of the noise is left
    assert np.sqrt(np.mean((surface - truth) ** 2, axis=1)).max() < 0.2 * noise_px
    assert spread_px == pytest.approx(np.full(3, noise_px), rel=0.15)


def test_a_single_pixel_and_a_line_are_solvable():
    labels = np.zeros((20, 20), np.uint16)
    labels[3, 4], labels[10, 2:18] = 1, 2
    runs = label_runs(labels, np.array([1, 2]))
    samples = draw_pixels(runs, 20, 16)
    place = np.stack([samples.column, samples.row]).astype(np.float32)
    truth = (10.0 + 0.2 * place[0]).astype(np.float32)
    surface, _ = fit_surfaces(place, runs, truth, samples.real, truth.mean(axis=1))
    assert surface[samples.real] == pytest.approx(truth[samples.real], abs=0.05)


def test_smoothing_takes_off_noise_and_replaces_outliers_and_the_unknown(drawn):
    runs, place = drawn
    noise_px = 0.4
    rng = np.random.default_rng(3)
    truth = SURFACES["bowl"](*place.astype(float))
    value = (truth + rng.normal(0, noise_px, truth.shape)).astype(np.float32)
    wrong, unknown = rng.random(truth.shape) < 0.05, rng.random(truth.shape) < 0.1
    value[wrong] += 6.0
    value[unknown] = 0.0
    good = ~wrong & ~unknown
    surface, spread_px = fit_surfaces(place, runs, value, good, np.median(truth, axis=1))
    filled = np.full_like(value, -7.0)
    result = smooth(value, ~unknown, surface, spread_px, np.full(3, noise_px), filled)
    assert (result[wrong | unknown] == -7.0).all()
    kept = good & (result != -7.0)
    assert kept.sum() > 0.97 * good.sum()  # 2.5 standard deviations hold 98.8 %
    assert np.std((result - truth)[kept]) < 0.55 * np.std((value - truth)[kept])


def test_relief_that_noise_does_not_explain_stays(drawn):
    runs, place = drawn
    relief = 0.3 * np.sin(0.9 * place[0].astype(float))
    truth = 20.0 + relief
    every = np.ones(truth.shape, bool)
    surface, spread_px = fit_surfaces(place, runs, truth.astype(np.float32), every, np.full(3, 20.0))
    result = smooth(truth.astype(np.float32), every, surface, spread_px, np.full(3, 0.05), np.zeros(truth.shape, np.float32))
    assert result == pytest.approx(truth, abs=0.02)
