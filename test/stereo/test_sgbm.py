"""The sgbm backend against exact synthetic scenes, Middlebury's truth and bare OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import ConfigError, MissingDependencyError
from semantic_stereo_ros.metrics import disparity_metrics, sigma_coverage, sparsification
from semantic_stereo_ros.options import build
from semantic_stereo_ros.stereo.backends.sgbm import Backend, Config
from semantic_stereo_ros.synthetic import plane, random_sequence
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig

MODES = ("3way", "sgbm", "hh", "hh4", "bm")


def match(frame: StereoFrame, **options) -> Disparity:
    backend = Backend(build(Config, options))
    backend.load()
    return backend(frame)


def read(path: Path, mode: int) -> np.ndarray:
    image = cv2.imread(str(path), mode)
    assert image is not None, path
    return image


@pytest.fixture(scope="module")
def scene():
    return random_sequence(seed=21)[0]


@pytest.fixture(scope="module")
def motorcycle(real_data):
    folder = real_data("motorcycle")
    left, right = (read(folder / f"motorcycle_{s}.png", cv2.IMREAD_COLOR)[..., ::-1].copy() for s in ("left", "right"))
    rig = StereoRig((741, 500), 994.978, 994.978, 311.193, 254.877, 0.193001, 31.086)
    return match(StereoFrame(left, right, rig)), np.load(folder / "motorcycle_disp.npz")["arr_0"]


@pytest.fixture(scope="module")
def cones(real_data):
    folder = real_data("cones")
    left, right = (read(folder / f"{side}.png", cv2.IMREAD_GRAYSCALE) for side in ("left", "right"))
    truth = read(folder / "disp_left.tif", cv2.IMREAD_UNCHANGED).astype(np.float32)
    truth[truth <= 0] = np.nan
    rig = StereoRig((450, 375), 400.0, 400.0, 225.0, 187.0, 0.1)  # this pair has no calibration; only disparities are compared
    return match(StereoFrame(left, right, rig)), truth


def test_motorcycle_meets_the_bars_with_the_defaults(motorcycle):
    result = disparity_metrics(motorcycle[0].disparity_px, motorcycle[1])
    assert result.bad_2_answered <= 0.053
    assert result.bad_2_all <= 0.15
    assert result.epe_px <= 0.9
    assert result.density >= 0.88


def test_cones_is_better_than_plain_semi_global_matching(cones):
    result = disparity_metrics(cones[0].disparity_px, cones[1])
    assert result.bad_2_answered <= 0.046  # the data's reference run of OpenCV's own SGBM: 4.6 % and 22.1 %, EPE 0.58 px
    assert result.bad_2_all <= 0.18
    assert result.epe_px <= 0.58


@pytest.mark.parametrize("pair", ["motorcycle", "cones"])
def test_confidence_ranks_errors(pair, request):
    disparity, truth = request.getfixturevalue(pair)
    error = disparity.disparity_px - np.where(np.isfinite(truth), truth, np.nan)
    ranked = sparsification(error, disparity.confidence)
    assert ranked.relative_ause < 0.35  # 0 is the oracle, 1 chance


@pytest.mark.parametrize("pair", ["motorcycle", "cones"])
def test_confidence_is_the_chance_of_an_error_below_one_pixel(pair, request):
    disparity, truth = request.getfixturevalue(pair)
    error = np.abs(disparity.disparity_px - np.where(np.isfinite(truth), truth, np.nan))
    use = np.isfinite(error)
    for low, high in ((0.0, 0.7), (0.7, 0.9), (0.9, 1.01)):
        inside = use & (disparity.confidence >= low) & (disparity.confidence < high)
        assert inside.sum() > 1000
        assert np.mean(error[inside] <= 1) == pytest.approx(disparity.confidence[inside].mean(), abs=0.12)


@pytest.mark.parametrize("pair", ["motorcycle", "cones"])
def test_sigma_is_the_spread_of_real_errors(pair, request):
    disparity, truth = request.getfixturevalue(pair)
    check_sigma(disparity, np.where(np.isfinite(truth), truth, np.nan))


@pytest.mark.parametrize("mode", MODES)
def test_sigma_is_the_spread_of_synthetic_errors(mode, scene):
    check_sigma(match(scene.frame, mode=mode), np.where(scene.occluded, np.nan, scene.disparity_px))


def check_sigma(disparity: Disparity, truth: np.ndarray) -> None:
    """Of errors below 2 px, each quarter by sigma has a normalised spread near 1, and sigma tells more than a constant."""
    error = disparity.disparity_px - truth
    use = np.abs(error) < 2
    error, sigma = error[use], disparity.sigma_px[use]
    quarter = np.digitize(sigma, np.quantile(sigma, (0.25, 0.5, 0.75)))
    for i in range(4):
        z = error[quarter == i] / sigma[quarter == i]
        assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6
    pooled = sigma_coverage(error, sigma)
    assert 0.75 < pooled.z_std < 1.3
    assert pooled.nll < pooled.constant_nll - 0.02


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_measures_a_synthetic_scene(mode, scene):
    result = match(scene.frame, mode=mode)
    against = disparity_metrics(result.disparity_px, scene.disparity_px, ~scene.occluded)
    assert against.density > (0.6 if mode == "bm" else 0.9)
    assert against.bad_2_answered < 0.04
    assert against.epe_px < (1.0 if mode == "bm" else 0.6)


def test_occluded_pixels_are_mostly_unknown_and_never_filled(scene):
    checked = match(scene.frame)
    unchecked = match(scene.frame, left_right_check=False)
    answered = [np.isfinite(d.disparity_px[scene.occluded]).mean() for d in (checked, unchecked)]
    assert answered[0] < 0.25
    assert answered[1] > 2 * answered[0]


def test_unknown_is_nan_in_both_maps_and_zero_in_confidence(scene):
    for options in ({}, {"confidence": False}, {"refine": False}, {"mode": "bm"}):
        result = match(scene.frame, **options)
        unknown = np.isnan(result.disparity_px)
        assert 0 < unknown.mean() < 0.6
        np.testing.assert_array_equal(np.isnan(result.sigma_px), unknown)
        assert (result.confidence[unknown] == 0).all()
        assert (result.confidence[~unknown] > 0).all() and (result.confidence <= 1).all()
        assert np.isfinite(result.disparity_px[~unknown]).all() and (result.sigma_px[~unknown] > 0).all()


def test_switched_off_it_is_opencv_with_padding(scene):
    left = cv2.cvtColor(scene.frame.left, cv2.COLOR_RGB2GRAY)
    right = cv2.cvtColor(scene.frame.right, cv2.COLOR_RGB2GRAY)
    result = match(
        StereoFrame(left, right, scene.rig),
        mode="sgbm",
        num_disparities=64,
        max_range_m=0.0,
        block_size=5,
        p1=200,
        p2=800,
        uniqueness_ratio=7,
        pre_filter_cap=20,
        min_texture=0.0,
        left_right_check=False,
        match_exposure=False,
        ambiguity_check=False,
        speckle_size=0,
        refine=False,
        confidence=False,
    )
    matcher = cv2.StereoSGBM.create(0, 64, 5, 200, 800, -1, 20, 7, 0, 0, cv2.STEREO_SGBM_MODE_SGBM)
    padded = [cv2.copyMakeBorder(image, 0, 0, 64, 0, cv2.BORDER_REPLICATE) for image in (left, right)]
    padded = [cv2.copyMakeBorder(image, 0, 0, 0, 16, cv2.BORDER_REFLECT_101) for image in padded]
    expected = matcher.compute(*padded)[:, 64:-16].astype(np.float32) / 16
    expected[(expected <= 0) | (expected >= 63)] = np.nan  # the ends of the range
    np.testing.assert_array_equal(result.disparity_px, expected)


def test_left_columns_are_answered():
    scene = plane(2.0, size_wh=(320, 240))  # 27 px of disparity
    disparity = match(scene.frame).disparity_px
    assert np.isfinite(disparity[20:-20, 32:128]).mean() > 0.98
    assert not np.isfinite(disparity[:, :24]).any()  # what the right camera does not see is no guess


@pytest.mark.parametrize("doffs_px", [-12.5, 0.0, 12.5, 40.0])
def test_the_automatic_range_starts_at_infinity_whatever_the_offset(doffs_px):
    scene = plane(40.0, size_wh=(320, 240), doffs_px=doffs_px)  # d + doffs = 1.36 px
    result = match(scene.frame)
    error = result.disparity_px - scene.disparity_px
    known = np.isfinite(error[20:-20, 40:-40])
    assert known.mean() > 0.95
    assert np.abs(np.median(error[20:-20, 40:-40][known])) < 0.1
    assert result.min_px <= -doffs_px < result.min_px + 4 and result.max_px > scene.disparity_px.max() + 1


def test_a_right_gain_does_not_move_the_answer():
    gained = random_sequence(seed=22, right_gain=0.85, right_offset=12.0)[0]
    result = disparity_metrics(match(gained.frame).disparity_px, gained.disparity_px, ~gained.occluded)
    assert result.density > 0.88 and result.bad_2_answered < 0.04


@pytest.mark.parametrize("color", [False, True])
def test_sixteen_bit_images_are_mapped_alike_on_both_sides(color):
    eight = random_sequence(seed=23, color=color)[0]
    sixteen = eight.frame.left.astype(np.uint16) * 9 + 700, eight.frame.right.astype(np.uint16) * 9 + 700  # a 12-bit camera
    result = match(StereoFrame(sixteen[0], sixteen[1], eight.rig))
    against = disparity_metrics(result.disparity_px, eight.disparity_px, ~eight.occluded)
    reference = disparity_metrics(match(eight.frame).disparity_px, eight.disparity_px, ~eight.occluded)
    assert against.density > reference.density - 0.02
    assert against.bad_2_answered < reference.bad_2_answered + 0.01


def test_a_new_rig_takes_effect_at_once():
    backend = Backend(Config())
    backend.load()
    for scene in (plane(2.0, size_wh=(320, 240)), plane(2.0, size_wh=(240, 180), doffs_px=5.0), plane(3.0, size_wh=(320, 240))):
        error = backend(scene.frame).disparity_px - scene.disparity_px
        assert np.abs(np.nanmedian(error)) < 0.1


def test_answers_do_not_share_buffers_with_later_ones(scene):
    backend = Backend(Config())
    backend.load()
    first = backend(scene.frame)
    copies = [first.disparity_px.copy(), first.sigma_px.copy(), first.confidence.copy()]
    swapped = StereoFrame(np.ascontiguousarray(scene.frame.left[::-1]), np.ascontiguousarray(scene.frame.right[::-1]), scene.rig)
    backend(swapped)
    for kept, copy in zip((first.disparity_px, first.sigma_px, first.confidence), copies):
        np.testing.assert_array_equal(kept, copy)


@pytest.mark.parametrize("size_wh", [(3, 3), (16, 12), (61, 47), (90, 3), (5, 80)])
@pytest.mark.parametrize("mode", ["3way", "sgbm", "hh4"])
def test_images_narrower_than_the_range_get_an_answer(size_wh, mode):
    width, height = size_wh
    rng = np.random.default_rng(4)
    texture = rng.integers(0, 255, (height, width + 2), dtype=np.uint8)
    frame = StereoFrame(
        np.ascontiguousarray(texture[:, :width]), np.ascontiguousarray(texture[:, 2:]), StereoRig(size_wh, 50.0, 50.0, 0.0, 0.0, 0.1)
    )
    result = match(frame, mode=mode, speckle_size=0).disparity_px
    assert result.shape == (height, width)
    if min(size_wh) > 10:
        assert np.nanmedian(result) == pytest.approx(2.0, abs=0.1)
        assert np.nanmean(np.abs(result - 2.0) > 1) < 0.05


def test_an_image_smaller_than_the_block_is_said():
    frame = StereoFrame(np.zeros((8, 9), np.uint8), np.zeros((8, 9), np.uint8), StereoRig((9, 8), 50.0, 50.0, 0.0, 0.0, 0.1))
    with pytest.raises(ConfigError, match="9x8, smaller than the matched block of 15 px"):
        match(frame, mode="bm")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_blank_pair_is_unknown(mode, noise):
    rng = np.random.default_rng(5)
    left, right = (np.rint(128 + rng.normal(0, noise, (120, 320))).astype(np.uint8) for _ in range(2))
    result = match(StereoFrame(left, right, StereoRig((320, 120), 200.0, 200.0, 160.0, 60.0, 0.1)), mode=mode)
    assert np.isnan(result.disparity_px).mean() > 0.95


def test_a_covered_right_camera_gives_almost_nothing(scene):
    rng = np.random.default_rng(6)
    dark = np.clip(rng.normal(3, 2, scene.frame.right.shape), 0, 255).astype(np.uint8)
    assert np.isnan(match(StereoFrame(scene.frame.left, dark, scene.rig)).disparity_px).mean() > 0.95


def test_the_inside_of_a_blown_out_area_is_unknown(scene):
    left, right = scene.frame.left.copy(), scene.frame.right.copy()
    left[100:300, 200:400] = right[100:300, 150:350] = 255
    disparity = match(StereoFrame(left, right, scene.rig)).disparity_px
    assert np.isnan(disparity[120:280, 220:380]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_disparities": 100}, "multiple of 16, got 100: use 96 or 112"),
        ({"num_disparities": 8}, "multiple of 16, got 8: use 16, or 0 for automatic"),
        ({"num_disparities": "all"}, "must be int or auto, got 'all'"),
        ({"min_range_m": 5.0, "max_range_m": 3.0}, "max_range_m must be above min_range_m = 5, got 3"),
        ({"block_size": 4}, "odd, or 0 for automatic, got 4: use 5"),
        ({"mode": "bm", "block_size": 3}, "5 or more for mode bm"),
        ({"p1": 100, "p2": 50}, "p2 must be above p1"),
        ({"mode": "best"}, "mode must be one of sgbm, 3way"),
    ],
)
def test_options_that_do_not_fit_are_said(options, text):
    with pytest.raises(ConfigError, match=text):
        Backend(build(Config, options)).load()


def test_a_range_beyond_opencv_is_said():
    frame = StereoFrame(
        np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8), StereoRig((40, 40), 50.0, 50.0, 0.0, 0.0, 0.1, doffs_px=3000.0)
    )
    with pytest.raises(ConfigError, match="16-bit maps"):
        match(frame)


def test_wls_without_contrib_names_what_to_install(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    with pytest.raises(MissingDependencyError, match="ximgproc"):
        Backend(Config(wls=True)).load()


@pytest.mark.skipif(not hasattr(cv2, "ximgproc"), reason="cv2.ximgproc is missing: opencv-contrib-python-headless is not installed")
def test_wls_smooths_and_fills_nothing(scene):
    plain, smoothed = match(scene.frame), match(scene.frame, wls=True)
    np.testing.assert_array_equal(np.isnan(plain.disparity_px), np.isnan(smoothed.disparity_px))
    before, after = (disparity_metrics(d.disparity_px, scene.disparity_px, ~scene.occluded) for d in (plain, smoothed))
    assert after.epe_px < before.epe_px + 0.05


def test_right_columns_are_answered_whatever_the_offset():
    scene = plane(2.0, size_wh=(320, 240), doffs_px=20.0)
    assert 0 < scene.disparity_px.min() < 10
    for searched in ({}, {"min_disparity_px": -20, "num_disparities": 64}):
        assert np.isfinite(match(scene.frame, **searched).disparity_px[20:-20, -18:-2]).mean() > 0.95


def test_small_regions_that_stand_apart_are_unknown():
    noisy = random_sequence(43, noise_sigma=6.0)[0].frame

    def small_regions(**options) -> int:
        known = np.isfinite(match(noisy, **options).disparity_px).astype(np.uint8)
        return int((cv2.connectedComponentsWithStats(known, connectivity=4)[2][1:, cv2.CC_STAT_AREA] <= 100).sum())

    assert small_regions() == 0 < small_regions(speckle_size=0)
