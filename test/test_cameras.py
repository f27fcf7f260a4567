"""Cameras without images: a pinhole camera against OpenCV's projection, and rings that cannot be."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from semantic_stereo_ros.cameras import CameraRing, PinholeCamera
from semantic_stereo_ros.checks import CalibrationError
from semantic_stereo_ros.types import StereoRig

CAMERA = PinholeCamera((640, 480), 500.0, 510.0, 318.0, 241.0)


def pose(rotvec=(0.0, 0.0, 0.0), translation=(0.0, 0.0, 0.0)) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = Rotation.from_rotvec(rotvec).as_matrix(), translation
    return result


def test_matrix_projects_as_opencv_does():
    points = np.random.default_rng(1).uniform((-2, -2, 1), (2, 2, 9), (20, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), CAMERA.matrix, np.zeros(5))
    homogeneous = points @ CAMERA.matrix.T
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], expected[:, 0])


def test_rig_gives_its_left_camera():
    rig = StereoRig((640, 480), 500, 510, 318, 241, 0.1, doffs_px=4.0)
    assert rig.left_camera == CAMERA
    np.testing.assert_array_equal(rig.matrix, CAMERA.matrix)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (((640, 0), 500, 500, 1, 1), r"two positive integers.*\(640, 0\)"),
        (((640, 480.5), 500, 500, 1, 1), "two positive integers"),
        (((640, 480), -500, 500, 1, 1), r"focal length fx \(px\) must be above zero, got -500"),
        (((640, 480), 500, float("nan"), 1, 1), r"focal length fy .*finite"),
        (((640, 480), 500, 500, 1, float("inf")), r"cy \(px\) must be a finite"),
    ],
)
def test_impossible_cameras_are_refused(values, words):
    with pytest.raises(CalibrationError, match=words):
        PinholeCamera(*values)


def test_ring_keeps_the_order_of_its_cameras():
    ring = CameraRing({"left": CAMERA, "back": CAMERA}, {"back": pose((0, np.pi, 0)), "left": pose(translation=(0, 1, 0))})
    assert [(name, tuple(body_camera[:3, 3])) for name, _, body_camera in ring] == [("left", (0, 1, 0)), ("back", (0, 0, 0))]


@pytest.mark.parametrize(
    ("poses", "words"),
    [
        ({}, r"one pose for each.*\['front'\].*\[\]"),
        ({"front": np.eye(3)}, r"pose of camera 'front' must have shape \(4, 4\)"),
        ({"front": np.diag([1.0, 1.0, 2.0, 1.0])}, "no rotation beside a translation"),
        ({"front": np.diag([1.0, 1.0, -1.0, 1.0])}, "no rotation beside a translation"),
        ({"front": pose(translation=(0, np.nan, 0))}, "no rotation beside a translation"),
    ],
    ids=["missing", "3x3", "scaled", "mirrored", "not finite"],
)
def test_impossible_rings_are_refused(poses, words):
    with pytest.raises(CalibrationError, match=words):
        CameraRing({"front": CAMERA}, poses)
