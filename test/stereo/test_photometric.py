"""Cameras that expose unlike: the measured curve against the applied one, and disparities against exact and published truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.io.images import read_image
from semantic_stereo_ros.metrics import DisparityMetrics, disparity_metrics
from semantic_stereo_ros.options import build
from semantic_stereo_ros.stereo.backends.sgbm import Backend, Config
from semantic_stereo_ros.stereo.photometric import NO_CHANGE, measure_tones
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import StereoFrame, StereoRig

UNLIKE = [(0.5, 0.0), (0.7, 0.0), (1.5, 0.0), (1.0, 20.0), (1.0, -20.0), (0.6, 20.0)]


def judged(gain: float, offset: float, seed: int, **options) -> DisparityMetrics:
    item = random_sequence(seed, right_gain=gain, right_offset=offset)[0]
    return disparity_metrics(Backend(build(Config, options))(item.frame).disparity_px, item.disparity_px, ~item.occluded)


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def changed(image: np.ndarray, gain: float = 1.0, offset: float = 0.0, gamma: float = 1.0) -> np.ndarray:
    return np.clip(np.rint(255 * gain * (image / 255.0) ** gamma + offset), 0, 255).astype(np.uint8)


def occurring(image: np.ndarray) -> np.ndarray:
    """The levels between which 90 % of the pixels lie."""
    return np.arange(*np.percentile(image, (5, 95)).astype(int))


@pytest.fixture(scope="module")
def pair():
    frame = random_sequence(41)[0].frame
    return grey(frame.left), grey(frame.right)


@pytest.mark.parametrize(("gain", "offset"), UNLIKE)
def test_gain_and_offset_are_measured(gain, offset, pair):
    curve = measure_tones(pair[0], changed(pair[1], gain, offset), 0, 128)
    levels = occurring(pair[1])
    seen = changed(levels, gain, offset)
    inside = (seen > 5) & (seen < 250)
    np.testing.assert_allclose(curve.table[seen[inside]], levels[inside], atol=5)


@pytest.mark.parametrize("gamma", [0.7, 1.4])
def test_another_gamma_is_measured(gamma, pair):
    curve = measure_tones(pair[0], changed(pair[1], gamma=gamma), 0, 128)
    levels = occurring(pair[1])
    np.testing.assert_allclose(curve.table[changed(levels, gamma=gamma)], levels, atol=6)


def test_equal_and_blank_pairs_are_left_alone(pair):
    blank = np.full_like(pair[0], 128)
    assert measure_tones(pair[0], pair[1], 0, 128) == NO_CHANGE
    assert measure_tones(blank, blank, 0, 128) == NO_CHANGE
    assert measure_tones(pair[0], changed(pair[1], 0.98, 1.0), 0, 128) == NO_CHANGE
    item = random_sequence(41)[0]
    on, off = (Backend(Config(match_exposure=c))(item.frame).disparity_px for c in (True, False))
    np.testing.assert_array_equal(on, off)


@pytest.mark.parametrize(("gain", "offset"), UNLIKE)
def test_unlike_exposures_cost_hardly_a_pixel(gain, offset):
    for seed in (42, 43):
        equal, unlike = judged(1.0, 0.0, seed), judged(gain, offset, seed)
        assert unlike.density > 0.97 * equal.density
        assert unlike.bad_2_answered < equal.bad_2_answered + 0.01


def test_without_matching_the_exposure_most_pixels_are_lost():
    assert judged(0.5, 0.0, 43, match_exposure=False).density < 0.8 * judged(0.5, 0.0, 43).density


def test_what_the_right_camera_blows_out_is_unknown_not_wrong():
    equal, bright = judged(1.0, 0.0, 44), judged(2.0, 0.0, 44)
    assert bright.bad_2_answered < equal.bad_2_answered + 0.01
    assert bright.density > 0.5


def test_motorcycle_with_a_darker_right_image(real_data):
    folder = real_data("motorcycle")
    left, right = (read_image(str(folder / f"motorcycle_{side}.png")) for side in ("left", "right"))
    truth = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    rig = StereoRig((741, 500), 994.978, 994.978, 311.193, 254.877, 0.193001, 31.086)
    equal, dark, lifted = (
        disparity_metrics(Backend(Config())(StereoFrame(left, image, rig)).disparity_px, truth)
        for image in (right, changed(right, 0.5), changed(right, 0.6, 20.0))
    )
    for unlike in (dark, lifted):
        assert unlike.density > 0.98 * equal.density
        assert unlike.bad_2_answered < equal.bad_2_answered + 0.01


def test_the_difference_is_said_as_measured():
    backend = Backend(Config())
    backend(random_sequence(45, right_gain=0.5)[0].frame)
    (note,) = backend.notes()
    assert "the right image is 0.5" in note and "same exposure" in note
    backend(random_sequence(45)[0].frame)
    assert backend.notes() == ()
