"""Disparity, depth and points against a pinhole pair worked out by hand, and each other."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.geometry.depth import depth_sigma, depth_to_disparity, disparity_to_depth
from semantic_stereo_ros.geometry.points import depth_to_points, project, transform
from semantic_stereo_ros.types import StereoRig

RIG = StereoRig((64, 48), 100.0, 80.0, 30.0, 20.0, 0.2, doffs_px=4.0)


def test_depth_counts_doffs_and_ends_at_infinity():
    depth_m = disparity_to_depth(np.array([[6.0, -3.0, -4.0, -5.0, np.nan]], np.float32), RIG)
    assert depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, [[2.0, 20.0, np.nan, np.nan, np.nan]])
    back_px = depth_to_disparity(np.array([[2.0, 20.0, 0.0, -1.0, np.nan]], np.float32), RIG)
    np.testing.assert_allclose(back_px, [[6.0, -3.0, np.nan, np.nan, np.nan]], atol=1e-5)


def test_sigma_of_depth_is_that_of_many_noisy_disparities():
    noisy_px = 6.0 + 0.05 * np.random.default_rng(0).standard_normal(200_000)
    assert depth_sigma(np.array(2.0), np.array(0.05), RIG) == pytest.approx(disparity_to_depth(noisy_px, RIG).std(), rel=0.02)


def test_sigma_of_depth_grows_with_its_square():
    near, far = depth_sigma(np.array([2.0, 6.0]), np.array([0.1, 0.1]), RIG)
    assert far / near == pytest.approx(9.0)


@pytest.mark.parametrize("stride", [1, 3])
def test_points_project_to_their_pixels(stride):
    depth_m = np.random.default_rng(1).uniform(1, 9, RIG.shape)
    depth_m[5, 7] = np.nan
    points = depth_to_points(depth_m, RIG, stride)
    v, u = (axis[::stride, ::stride].astype(float) for axis in np.mgrid[:48, :64])
    unknown = np.isnan(depth_m)[::stride, ::stride]
    expected = np.where(unknown[..., None], np.nan, np.stack([u, v], axis=-1))
    np.testing.assert_allclose(project(points, RIG), expected, atol=1e-3)


def test_what_is_not_before_the_camera_has_no_pixel():
    pixels = project(np.array([[0.5, 0.25, 2.0], [0.5, 0.25, -2.0], [0.5, 0.25, 0.0]]), RIG)
    np.testing.assert_allclose(pixels, [[55.0, 30.0], [np.nan, np.nan], [np.nan, np.nan]])


def test_a_pose_turns_and_then_moves():
    pose = np.array([[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 6.0], [0.0, 0.0, 1.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(transform(pose, np.array([[1.0, 2.0, 3.0]])), [[3.0, 7.0, 10.0]])
