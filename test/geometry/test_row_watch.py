"""The cheap row watch against known shifts of scenes with exact disparity, and against the thorough judge on real pairs."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.geometry.epipolar import epipolar_health
from semantic_stereo_ros.geometry.row_watch import MIN_POINTS, RowErrorTrend, measure_rows
from semantic_stereo_ros.io.images import read_image
from semantic_stereo_ros.registry import backend_module
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig


@pytest.fixture(scope="module")
def truth():
    return random_sequence(3, 1, (640, 480))[0]


def exact(truth) -> Disparity:
    d = truth.disparity_px.astype(np.float32)
    return Disparity(d, np.where(np.isnan(d), np.nan, 0.1).astype(np.float32), np.isfinite(d).astype(np.float32), truth.rig)


def lowered(frame: StereoFrame, dy: float) -> StereoFrame:
    move = np.array([[1, 0, 0], [0, 1, dy]], np.float32)
    right = cv2.warpAffine(frame.right, move, frame.rig.size_wh, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return dataclasses.replace(frame, right_image=right)


@pytest.mark.parametrize("dy", [-4.5, -1.3, -0.4, 0.0, 0.5, 2.0, 5.0])
def test_a_known_row_error_is_measured(truth, dy):
    found = measure_rows(lowered(truth.frame, dy), exact(truth))
    assert found.known and found.median_px == pytest.approx(dy, abs=0.1)
    assert found.median_abs_px == pytest.approx(abs(dy), abs=0.1)


@pytest.mark.parametrize("dtype, colour", [(np.uint8, False), (np.uint16, False), (np.uint16, True)])
def test_other_kinds_of_images(truth, dtype, colour):
    frame = lowered(truth.frame, 1.5)
    left, right = (
        (image if colour else image[..., 1]).astype(dtype) * (200 if dtype == np.uint16 else 1) for image in (frame.left, frame.right)
    )
    found = measure_rows(StereoFrame(left, right, frame.rig), exact(truth))
    assert found.median_px == pytest.approx(1.5, abs=0.1)


def test_with_an_offset_of_the_principal_points():
    truth = random_sequence(3, 1, rig=StereoRig((640, 480), 500, 500, 320, 240, 0.12, doffs_px=9.5))[0]
    assert measure_rows(lowered(truth.frame, 1.0), exact(truth)).median_px == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("make", ["black", "noise", "unknown", "beyond reach", "tiny"])
def test_where_nothing_can_be_said_nothing_is_claimed(truth, make):
    frame, disparity = truth.frame, exact(truth)
    if make == "black":
        frame = dataclasses.replace(frame, left=np.zeros_like(frame.left), right_image=np.zeros_like(frame.right))
    elif make == "noise":
        left, right = np.random.default_rng(0).integers(0, 255, (2, 480, 640), np.uint8)
        frame = StereoFrame(left, right, frame.rig)
    elif make == "unknown":
        nothing = np.full(frame.shape, np.nan, np.float32)
        disparity = Disparity(nothing, nothing, np.zeros(frame.shape, np.float32), frame.rig)
    elif make == "beyond reach":
        frame = lowered(frame, 30.0)
    else:
        rig = StereoRig((16, 12), 10, 10, 8, 6, 0.1)
        black, nothing = np.zeros((12, 16), np.uint8), np.zeros((12, 16), np.float32)
        frame, disparity = StereoFrame(black, black, rig), Disparity(nothing, nothing, nothing, rig)
    found = measure_rows(frame, disparity)
    assert not found.known and found.points < MIN_POINTS and np.isnan(found.median_abs_px)


def test_agrees_with_the_thorough_judge_on_a_real_street(real_data):
    folder = real_data("street")
    left, right = (read_image(folder / f"image_{side}" / "000025.png") for side in "lr")
    rig = StereoRig((left.shape[1], left.shape[0]), 700, 700, left.shape[1] / 2, left.shape[0] / 2, 0.5)
    matcher = backend_module("stereo", "sgbm")
    stereo = matcher.Backend(matcher.Config())
    stereo.load()
    for dy in (0, 2):
        frame = StereoFrame(left, np.roll(right, dy, axis=0), rig)
        found, thorough = measure_rows(frame, stereo(frame)), epipolar_health(frame.left, frame.right)
        assert found.known and found.median_px == pytest.approx(thorough.median_dy_px, abs=0.25)


def test_the_trend_is_the_median_of_the_last_measurements(truth):
    """One frame in ten is measured; a view without corners changes nothing."""
    trend, disparity = RowErrorTrend(), exact(truth)
    blank = dataclasses.replace(truth.frame, left=np.zeros_like(truth.frame.left), right_image=np.zeros_like(truth.frame.left))
    assert trend(blank, disparity) is None
    told = [trend(lowered(truth.frame, 0.5), disparity) for _ in range(10)]
    assert told[:9] == [None] * 9 and told[9] == pytest.approx(0.5, abs=0.1)
    assert [trend(blank, disparity) for _ in range(20)] == [told[9]] * 20
