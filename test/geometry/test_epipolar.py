"""The judge of a pair: known shifts of a known picture, and real pairs - healthy, swapped, raw."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.geometry.calibration import CameraModel
from semantic_stereo_ros.geometry.epipolar import EpipolarHealth, _agreeing, check_pair, epipolar_health, findings
from semantic_stereo_ros.geometry.jpeg_blocks import MANY_BLOCKS, block_strength
from semantic_stereo_ros.geometry.rectification import Rectifier, StereoCalibration
from semantic_stereo_ros.io.calibration_files import load_calibration
from semantic_stereo_ros.io.images import read_image
from semantic_stereo_ros.types import Measured, StereoFrame, StereoRig


def texture(seed: int = 0, shape: tuple[int, int] = (400, 600)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    mixed = sum(cv2.GaussianBlur(noise, (0, 0), s) * s for s in (1.5, 3, 6))
    return cv2.normalize(mixed, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]


def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return cv2.warpAffine(image, move, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED))


def kinds(left, right, doffs_px=0.0):
    return [finding.kind for finding in findings(epipolar_health(left, right, doffs_px))]


@pytest.mark.parametrize("dy", [-3.0, -0.4, 0.0, 1.3, 4.5])
def test_a_known_row_error_is_measured(dy):
    health = epipolar_health(texture(), shifted(texture(), -12.0, dy))
    assert health.known
    assert health.median_dy_px == pytest.approx(dy, abs=0.1)
    assert health.median_abs_dy_px == pytest.approx(abs(dy), abs=0.1)


def test_sides_and_rows_are_told_apart():
    left, right = texture(), shifted(texture(), -12.0, 0.0)
    assert kinds(left, right) == []
    assert kinds(right, left) == ["swapped"]
    assert kinds(left, shifted(left, -12.0, 5.0)) == ["unrectified"]
    assert kinds(left, shifted(left, -12.0, 1.5)) == ["row_error"]


def test_doffs_is_part_of_the_sign():
    """Raw disparity -8 px is impossible with doffs 0, and 12 px of parallax with doffs 20."""
    left, right = texture(), shifted(texture(), 8.0, 0.0)
    assert "swapped" not in kinds(left, right, doffs_px=20.0)
    far = shifted(texture(), -40.0, 0.0)
    assert kinds(left, far, doffs_px=20.0) == [] and kinds(far, left, doffs_px=20.0) == ["swapped"]
    assert kinds(left, right, doffs_px=0.0) == ["swapped"]


def test_where_doffs_allows_both_orders_the_doubt_is_said():
    """d = -8 px with doffs 20 px can be 12 px of parallax as given, or 28 px exchanged: a warning, no refusal."""
    found = findings(epipolar_health(texture(), shifted(texture(), 8.0, 0.0), 20.0))
    assert [finding.kind for finding in found] == ["negative"] and not found[0].fatal and "swapped?" in found[0].message


@pytest.mark.parametrize("dtype, colour", [(np.uint16, False), (np.uint8, True), (np.uint16, True)])
def test_other_kinds_of_images(dtype, colour):
    left, right = texture(), shifted(texture(), -12.0, 0.0)
    pair = [image.astype(dtype) * (200 if dtype == np.uint16 else 1) for image in (left, right)]
    if colour:
        pair = [np.dstack([image] * 3) for image in pair]
    assert kinds(pair[0], pair[1]) == []
    assert kinds(pair[1], pair[0]) == ["swapped"]


@pytest.mark.parametrize("make", ["black", "noise", "blur", "unrelated"])
def test_where_nothing_can_be_said_nothing_is_claimed(make):
    noise = np.random.default_rng(1).integers(0, 20, (2, 400, 600), np.uint8)
    left, right = {
        "black": np.zeros((2, 400, 600), np.uint8),
        "noise": noise,
        "blur": [cv2.GaussianBlur(texture(), (0, 0), 40)] * 2,
        "unrelated": [texture(0), texture(7)],
    }[make]
    assert kinds(left, right) == ["unknown"]
    assert "cannot be judged" in findings(epipolar_health(left, right))[0].message


@pytest.mark.parametrize("dx", [7, 10, 33])
def test_repeated_texture_gives_no_fatal_alarm(dx):
    y, x = np.mgrid[:400, :600]

    def board(shift):
        noise = np.random.default_rng(shift).normal(0, 4, x.shape)
        return np.clip(((((x + shift) // 20 + y // 20) % 2) * 200 + 20) + noise, 0, 255).astype(np.uint8)

    assert not [f for f in findings(epipolar_health(board(0), board(dx))) if f.fatal]


def test_a_rotated_camera_is_unrectified():
    left = texture()
    turn = cv2.getRotationMatrix2D((300, 200), 2.0, 1.0)
    right = shifted(cv2.warpAffine(left, turn, left.shape[::-1], borderMode=cv2.BORDER_REFLECT), -10, 0)
    assert kinds(left, right) == ["unrectified"]


def test_check_pair_says_it_in_one_sentence():
    rig = StereoRig((600, 400), 500, 500, 300, 200, 0.1)
    left, right = texture(), shifted(texture(), -12.0, 6.0)
    finding = check_pair(StereoFrame(left, right, rig))[0]
    assert finding.fatal and "not rectified" in finding.message and "6.0 px" in finding.message
    assert "swapped" in check_pair(StereoFrame(shifted(left, -12, 0), left, rig))[0].message
    assert check_pair(StereoFrame(left, left, rig))[0].kind == "identical"


def pair_kinds(left, right, fy=500.0):
    return [finding.kind for finding in check_pair(StereoFrame(left, right, StereoRig((600, 400), 500.0, fy, 300, 200, 0.1)))]


def test_hard_compression_is_said():
    """Of either image, in colour too; the compression that cameras usually do is no cause."""
    left, right = texture(), shifted(texture(), -12.0, 0.0)
    assert pair_kinds(left, right) == []
    assert pair_kinds(compressed(left, 90), compressed(right, 90)) == []
    assert pair_kinds(compressed(left, 10), right) == pair_kinds(left, compressed(right, 10)) == ["blocks"]
    colour = np.repeat(compressed(left, 10)[..., None], 3, axis=2)
    assert pair_kinds(colour, np.repeat(right[..., None], 3, axis=2)) == ["blocks"]


def test_a_fence_shows_no_blocks():
    """Bars as far apart as the blocks are have no horizontal borders; a flat image and one of few pixels have none at all."""
    fence = np.tile(np.repeat(np.array([40, 200], np.uint8), 4), (400, 75))
    assert block_strength(fence) == block_strength(np.full((400, 600), 90, np.uint8)) == block_strength(fence[:20, :20]) == 0.0
    board = ((np.indices((400, 600)) // 8).sum(axis=0) % 2 * 200).astype(np.uint8)
    assert block_strength(board) > MANY_BLOCKS


def test_focal_lengths_that_no_camera_has_are_said():
    left, right = texture(), shifted(texture(), -12.0, 0.0)
    assert pair_kinds(left, right, fy=515.0) == []
    assert pair_kinds(left, right, fy=250.0) == ["focal"]
    measured = Measured(depth_m=np.ones((400, 600), np.float32))
    alone = StereoFrame(left, None, StereoRig((600, 400), 500.0, 250.0, 300, 200, 0.1), measured=measured)
    assert [finding.kind for finding in check_pair(alone)] == ["focal"]


def test_different_sizes():
    with pytest.raises(ImageError, match="one size"):
        epipolar_health(np.zeros((10, 10), np.uint8), np.zeros((10, 12), np.uint8))


# Real pairs


def test_motorcycle(real_data):
    left, right = (read_image(real_data("motorcycle") / f"motorcycle_{side}.png") for side in ("left", "right"))
    assert kinds(left, right, 31.086) == []
    assert kinds(right, left, 31.086) == ["swapped"]
    assert kinds(right, left, 0.0) == ["swapped"]
    assert kinds(left, np.roll(right, 4, axis=0), 31.086) == ["unrectified"]


def test_cones(real_data):
    left, right = (read_image(real_data("cones") / f"{side}.png") for side in ("left", "right"))
    assert kinds(left, right) == []
    assert kinds(right, left) == ["swapped"]


@pytest.mark.parametrize("number", [0, 25, 50])
def test_street(real_data, number):
    left, right = (read_image(real_data("street") / f"image_{side}" / f"{number:06d}.png") for side in "lr")
    assert kinds(left, right) == []
    assert kinds(right, left) == ["swapped"]


def test_chessboards_before_and_after_rectification(real_data):
    """Repetitive boards: every raw pair that can be judged is called unrectified, no rectified pair is."""
    folder = real_data("chessboards")
    stored = np.load(folder / "calib_fitted.npz")
    left_camera, right_camera = (CameraModel(stored[f"K{n}"], stored[f"D{n}"]) for n in (1, 2))
    rectifier = Rectifier(StereoCalibration(left_camera, right_camera, (640, 480), stored["R"], stored["T"].ravel()))
    judged = 0
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14):
        left, right = (read_image(folder / f"{side}{number:02d}.jpg") for side in ("left", "right"))
        raw = kinds(left, right)
        assert raw in (["unrectified"], ["unknown"])
        judged += raw == ["unrectified"]
        rectified = rectifier(left, right)
        assert kinds(rectified[0], rectified[1]) == []
    assert judged >= 11


def test_people_before_and_after_rectification(real_data):
    folder = real_data("people")
    captures = [cv2.VideoCapture(str(folder / f"{side}.mp4")) for side in ("left", "right")]
    rectifier = Rectifier(load_calibration(folder / "calib.json"))  # type: ignore[arg-type]
    for number in range(161):
        if number % 80:
            assert all(capture.grab() for capture in captures)
            continue
        left, right = (np.ascontiguousarray(capture.read()[1][..., 0]) for capture in captures)
        assert kinds(left, right) == ["unrectified"]
        rectified = rectifier(left, right)
        assert epipolar_health(*rectified).median_abs_dy_px < 2.0
        assert not [f for f in findings(epipolar_health(*rectified)) if f.fatal]
        assert kinds(rectified[1], rectified[0])[0] == "swapped"


def test_a_search_range_that_is_too_small_is_said():
    health = epipolar_health(texture(), shifted(texture(), -40.0, 0.0))
    assert health.p98_disparity_px == pytest.approx(40.0, abs=0.5)
    assert [f.kind for f in findings(health, searched_to_px=32.0)] == ["range"]
    assert findings(health, searched_to_px=64.0) == ()


def test_matches_behind_infinity_in_both_orders_are_said():
    """Exchanging the images would not help: the principal points are not of this pair."""
    health = EpipolarHealth(60, 0.2, 0.4, 0.0, behind_fraction=0.6, behind_if_swapped=0.4, negative_fraction=0.6, p98_disparity_px=9.0)
    (found,) = findings(health)
    assert (found.kind, found.fatal) == ("behind_infinity", False) and "60% of 60 matches" in found.message
    assert findings(dataclasses.replace(health, behind_fraction=0.4)) == ()


def test_aligned_rows_win_against_a_slope_that_fits_a_few_more_wrong_matches():
    """Of a fence, 40 matches lie on their rows; 50, one pale or more off, fit a row error that grows with the disparity."""
    rng = np.random.default_rng(0)
    start = rng.uniform((0, 0), (600, 400), (90, 2))
    shift = np.column_stack([-rng.uniform(20, 60, 90), np.zeros(90)])
    shift[40:, 1] = 0.14 * shift[40:, 0]
    aligned = _agreeing(start, start + shift, 400, tolerance_px=1.5)
    assert aligned[:40].all()
    assert abs(np.median(shift[aligned, 1])) < 1.0
