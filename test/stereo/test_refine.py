"""The left-right check, smoothing regions and the subpixel step on literal maps and exact planes."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.stereo.refine import UNKNOWN, RightView, SampledPair, SubpixelStep, smooth_regions, textured
from semantic_stereo_ros.synthetic import plane


def test_right_view_of_a_literal_row():
    # columns 0..7; the object at columns 4..5 has 2 px of disparity and hides columns 2 and 3 of the background at 0 px
    row = np.array([[0, 0, 0, 0, 32, 32, 0, UNKNOWN]], np.int16)
    difference = RightView((1, 8)).difference(row)
    np.testing.assert_array_equal(difference, [[0, 0, 32, 32, 0, 0, 0, 32767]])


def test_right_view_of_what_leaves_the_image():
    row = np.array([[16, 16, -16, -16]], np.int16)  # 1 px left of column 0; 1 px right of column 3
    difference = RightView((1, 4)).difference(row)
    np.testing.assert_array_equal(difference, [[32767, 0, 0, 32767]])


def test_right_view_rows_do_not_mix_and_frames_do_not_either():
    view = RightView((2, 3))
    assert (view.difference(np.array([[0, 16, 16], [0, 0, 0]], np.int16))[1] == 0).all()
    assert (view.difference(np.zeros((2, 3), np.int16)) == 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_right_view_equals_a_loop_over_pixels(seed):
    rng = np.random.default_rng(seed)
    disparity = rng.integers(-60, 500, (7, 40)).astype(np.int16)
    disparity[rng.random(disparity.shape) < 0.2] = UNKNOWN
    expected = np.full(disparity.shape, 32767)
    for y in range(7):
        landed: dict[int, int] = {}
        for x in range(40):
            target = x - int(np.floor(disparity[y, x] / 16 + 0.5))
            if disparity[y, x] != UNKNOWN and 0 <= target < 40:
                landed[target] = max(landed.get(target, -99999), int(disparity[y, x]))
        for x in range(40):
            target = x - int(np.floor(disparity[y, x] / 16 + 0.5))
            if disparity[y, x] != UNKNOWN and 0 <= target < 40:
                expected[y, x] = landed[target] - disparity[y, x]
    np.testing.assert_array_equal(RightView((7, 40)).difference(disparity), expected)


def test_smooth_regions_stop_at_steps_and_holes():
    disparity = np.full((9, 20), 160, np.int16)
    disparity[:, 10:] += 24
    disparity[4, 3] = UNKNOWN
    regions = smooth_regions(disparity)
    assert not regions[:, 8:12].any() and regions[:, 12:].all()
    assert not regions[2:7, 1:6].any() and regions[:, 6:8].all()


def test_textured_reaches_twelve_pixels():
    image = np.full((60, 80), 90, np.uint8)
    image[:, 40:] = 120
    np.testing.assert_array_equal(np.flatnonzero(textured(image, 1.0)[30]), np.arange(39 - 12, 40 + 13))
    assert not textured(np.full((60, 80), 255, np.uint8), 0.5).any()


@pytest.mark.parametrize("size_wh", [(320, 240), (201, 131)])
@pytest.mark.parametrize("offset_px", [-0.3, 0.2])
def test_the_subpixel_step_halves_a_common_error(size_wh, offset_px):
    scene = plane(5.0, size_wh=size_wh, color=False)
    disparity = scene.disparity_px + np.float32(offset_px)
    pair = SampledPair(scene.disparity_px.shape)
    pair.show(scene.frame.left, scene.frame.right)
    refined = disparity.copy()
    SubpixelStep(disparity.shape)(pair, refined, np.ones(disparity.shape, bool))
    inside = (slice(10, -10), slice(40, -10))
    assert abs(np.median((refined - scene.disparity_px)[inside])) < 0.5 * abs(offset_px)


def test_the_subpixel_step_leaves_other_pixels_alone():
    scene = plane(5.0, color=False)
    disparity = scene.disparity_px + np.float32(0.3)
    regions = np.zeros(disparity.shape, bool)
    regions[:, 100:] = True
    pair = SampledPair(disparity.shape)
    pair.show(scene.frame.left, scene.frame.right)
    refined = disparity.copy()
    SubpixelStep(disparity.shape)(pair, refined, regions)
    np.testing.assert_array_equal(refined[:, :100], disparity[:, :100])


def test_sampled_pair_of_a_shifted_image():
    rng = np.random.default_rng(8)
    texture = rng.integers(0, 255, (31, 63), dtype=np.uint8)
    left, right = np.ascontiguousarray(texture[:, :60]), np.ascontiguousarray(texture[:, 3:])  # 3 px of disparity
    pair = SampledPair((31, 60))
    pair.show(left, right)
    at_three = np.full(pair.left.shape, 3, np.float32)
    np.testing.assert_array_equal(pair.difference(at_three)[:, 2:], 0)
    assert np.abs(pair.difference(at_three + 1)[:, 2:]).mean() > 20
    np.testing.assert_array_equal(pair.left, left[::2, ::2])
    assert pair.gradient[5, 5] == (int(left[10, 11]) - int(left[10, 9])) / 2
    np.testing.assert_array_equal(pair.full(at_three), np.full((31, 60), 3, np.float32))


def test_the_subpixel_step_goes_no_further_than_its_limit():
    """Two pixels off, the images pull hard and in any direction."""
    scene = plane(5.0, color=False)
    wrong = scene.disparity_px + np.float32(2.0)
    pair = SampledPair(wrong.shape)
    pair.show(scene.frame.left, scene.frame.right)
    refined = wrong.copy()
    SubpixelStep(wrong.shape)(pair, refined, np.ones(wrong.shape, bool))
    moved = np.abs(refined - wrong)[4:-4, 4:-4]
    assert 0.1 < moved.max() <= SubpixelStep.LIMIT_PX + 1e-4
