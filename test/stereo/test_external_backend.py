"""The camera's own depth or disparity: what is known stays as it is, what is not becomes unknown, and sigma is the model's."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.checks import ConfigError, ImageError
from semantic_stereo_ros.fusion.measure import Config as FusionConfig
from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.geometry.depth import depth_sigma, disparity_to_depth
from semantic_stereo_ros.stereo.backends.external import Backend, Config
from semantic_stereo_ros.synthetic import default_rig, random_sequence
from semantic_stereo_ros.types import Measured, Segmentation, StereoFrame

RIG = default_rig((8, 6), baseline_m=0.2, doffs_px=3.5)
LEFT = np.zeros((6, 8), np.uint8)


def answer(measured, rig=RIG, **options):
    backend = Backend(Config(**options))
    backend.load()
    return backend(StereoFrame(LEFT, None, rig, measured=measured))


def depths(*values_m):
    """The given depths in the first row, 2 m elsewhere."""
    depth_m = np.full((6, 8), 2.0, np.float32)
    depth_m[0, : len(values_m)] = values_m
    return depth_m


def test_depth_is_kept_and_what_is_no_depth_is_unknown():
    depth_m = depths(np.nan, np.inf, -np.inf, 0.0, -1.0, 0.05, 50.0, 1.25)
    result = answer(Measured(depth_m=depth_m), min_depth_m=0.1, max_depth_m=10.0)
    expected = depth_m.copy()
    expected[0, :7] = np.nan
    np.testing.assert_allclose(disparity_to_depth(result.disparity_px, RIG), expected, rtol=1e-6)
    assert np.isnan(result.sigma_px[0, :7]).all() and (result.confidence[0, :7] == 0).all()
    assert result.min_px == pytest.approx(RIG.bf / 10 - 3.5) and result.max_px == pytest.approx(RIG.bf / 0.1 - 3.5)


def test_disparity_is_kept_to_the_bit():
    disparity_px = np.linspace(-3.0, 30.0, 48, dtype=np.float32).reshape(6, 8)
    disparity_px[2, 2] = np.nan
    result = answer(Measured(disparity_px=disparity_px), min_depth_m=0.001)
    np.testing.assert_array_equal(result.disparity_px, disparity_px)
    np.testing.assert_array_equal(np.isnan(result.sigma_px), np.isnan(disparity_px))


@pytest.mark.parametrize("baseline_m", [0.02, 0.2, 1.0])
def test_a_stereo_cameras_sigma_is_that_of_its_own_baseline_whatever_the_rigs(baseline_m):
    """sigma_Z = Z^2 / (fx B) sigma_d with the camera's B; a D435's 50 mm and 0.1 px."""
    rig = dataclasses.replace(RIG, baseline_m=baseline_m)
    depth_m = depths(0.5, 1.0, 4.0)
    result = answer(Measured(depth_m=depth_m), rig, sigma_px=0.1, baseline_m=0.05)
    expected = depth_m**2 / (rig.fx * 0.05) * 0.1
    np.testing.assert_allclose(depth_sigma(depth_m, result.sigma_px, rig), expected, rtol=1e-5)


@pytest.mark.parametrize("baseline_m", [0.02, 1.0])
def test_a_time_of_flight_cameras_sigma_grows_as_its_data_sheet_says(baseline_m):
    rig = dataclasses.replace(RIG, baseline_m=baseline_m)
    depth_m = depths(0.5, 1.0, 4.0)
    result = answer(Measured(depth_m=depth_m), rig, sigma_px=0.0, sigma_m=0.003, sigma_per_m=0.01, sigma_per_m2=0.002)
    expected = 0.003 + 0.01 * depth_m + 0.002 * depth_m**2
    np.testing.assert_allclose(depth_sigma(depth_m, result.sigma_px, rig), expected, rtol=1e-5)


def test_both_kinds_of_error_add_as_independent_ones():
    depth_m = depths(1.0, 3.0)
    result = answer(Measured(depth_m=depth_m), sigma_px=0.2, sigma_per_m=0.01)
    expected = np.hypot(depth_m**2 / RIG.bf * 0.2, 0.01 * depth_m)
    np.testing.assert_allclose(depth_sigma(depth_m, result.sigma_px, RIG), expected, rtol=1e-5)


def test_the_cameras_confidence_is_used():
    confidence = np.full((6, 8), 0.8, np.float32)
    confidence[0, :2] = (0.1, np.nan)
    result = answer(Measured(depth_m=depths(), confidence=confidence), min_confidence=0.5)
    assert np.isnan(result.disparity_px[0, :2]).all() and not result.confidence[0, :2].any()
    assert np.isfinite(result.disparity_px[1:]).all() and (result.confidence[1:] == np.float32(0.8)).all()


def test_the_given_maps_are_not_written_to():
    depth_m = depths(np.nan, 0.01)
    kept = depth_m.copy()
    answer(Measured(depth_m=depth_m))
    np.testing.assert_array_equal(depth_m, kept)


@pytest.mark.parametrize("kind", ["depth", "disparity"])
def test_distances_of_a_scene_are_its_truth_whatever_the_baseline(kind):
    """True depth, masks of the truth: each object's distance is right, and none depends on the rig's baseline."""
    scene = random_sequence(3, 1, size_wh=(320, 240))[0]
    masks = Segmentation.from_labels(scene.instance_ids)
    depth_m = (scene.rig.bf / (scene.disparity_px + scene.rig.doffs_px)).astype(np.float32)
    by_baseline = []
    for baseline_m in (0.05, scene.rig.baseline_m, 0.3):
        rig = dataclasses.replace(scene.rig, baseline_m=baseline_m)
        given = (
            Measured(depth_m=depth_m) if kind == "depth" else Measured(disparity_px=(rig.bf / depth_m - rig.doffs_px).astype(np.float32))
        )
        frame = StereoFrame(scene.frame.left, None, rig, measured=given)
        by_baseline.append(measure(Backend(Config())(frame), masks, FusionConfig()))
    compared = 0
    for true in scene.visible_objects:
        found = [next(m for m in measured if m.box_xyxy == true.box_xyxy) for measured in by_baseline]
        if found[0].known and true.pixels > 300:
            assert found[1].distance_m == pytest.approx(true.distance_m, rel=0.02)
            assert [m.distance_m for m in found] == pytest.approx([found[1].distance_m] * 3, rel=0.01)
            compared += 1
    assert compared >= 3


def test_what_is_missing_or_cannot_be_is_said():
    pair = StereoFrame(LEFT, LEFT, RIG)
    with pytest.raises(ImageError, match=r"external needs a disparity or depth .* set input\.external"):
        Backend(Config())(pair)
    with pytest.raises(ImageError, match="may give its negative"):
        answer(Measured(disparity_px=np.full((6, 8), -20, np.float32)))
    with pytest.raises(ConfigError, match="no camera is free of error"):
        Backend(Config(sigma_px=0.0)).load()
    with pytest.raises(ConfigError, match="max_depth_m must be above min_depth_m"):
        Backend(Config(max_depth_m=0.05)).load()
