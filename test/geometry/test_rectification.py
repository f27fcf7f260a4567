"""Exact projections of known points through raw cameras, and real chessboards."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.geometry.calibration import CameraModel, apply_binning_roi, rig_from_projection
from semantic_stereo_ros.geometry.rectification import Rectifier, StereoCalibration, with_projections
from semantic_stereo_ros.io.images import read_image

SIZE = (640, 480)
K_LEFT = np.array([[520.0, 0, 330], [0, 522, 236], [0, 0, 1]])
K_RIGHT = np.array([[525.0, 0, 310], [0, 524, 249], [0, 0, 1]])
ROTATION = cv2.Rodrigues(np.array([0.012, -0.02, 0.015]))[0]
TRANSLATION = np.array([-0.12, 0.002, 0.003])
MODELS = {
    "plumb_bob": [-0.28, 0.09, 0.001, -0.0005, -0.01],
    "rational_polynomial": [0.8, 0.3, 0.0005, -0.0003, 0.05, 1.1, 0.5, 0.1],
    "equidistant": [-0.02, 0.01, -0.004, 0.001],
}


def calibration(model: str = "plumb_bob", **changes) -> StereoCalibration:
    values = dict(
        left=CameraModel(K_LEFT, np.array(MODELS[model]), model, "left camera"),
        right=CameraModel(K_RIGHT, np.array(MODELS[model]), model, "right camera"),
        size_wh=SIZE,
        rotation=ROTATION,
        translation_m=TRANSLATION,
    )
    return StereoCalibration(**{**values, **changes})


def raw_pixels(points_m: np.ndarray, rotation: np.ndarray, translation: np.ndarray, camera: CameraModel) -> np.ndarray:
    """Known points through the raw camera, by OpenCV's own projection."""
    vector = cv2.Rodrigues(rotation)[0]
    if camera.model == "equidistant":
        return cv2.fisheye.projectPoints(points_m.reshape(-1, 1, 3), vector, translation, camera.matrix, camera.distortion)[0].reshape(
            -1, 2
        )
    return cv2.projectPoints(points_m, vector, translation, camera.matrix, camera.distortion)[0].reshape(-1, 2)


def dot_image(pixels: np.ndarray, number: int) -> np.ndarray:
    """One Gaussian dot at an exact subpixel position, uint16."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return (60000 * np.exp(-((x - pixels[number, 0]) ** 2 + (y - pixels[number, 1]) ** 2) / (2 * 2.0**2))).astype(np.uint16)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image.astype(np.float64)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("model", list(MODELS))
def test_known_points_come_back_from_the_rectified_pair(model):
    raw = calibration(model)
    rectifier = Rectifier(raw)
    points = np.array([[0.1, -0.05, 1.5], [-0.4, 0.25, 2.0], [0.5, 0.3, 2.5]])
    pixels_left = raw_pixels(points, np.eye(3), np.zeros(3), raw.left)
    pixels_right = raw_pixels(points, ROTATION, TRANSLATION, raw.right)
    rotation_rect = _rectifying_rotation(raw, model)
    for i, point in enumerate(points):
        left, right = rectifier(dot_image(pixels_left, i), dot_image(pixels_right, i))
        assert left.dtype == np.uint16
        a, b = centroid(left), centroid(right)
        assert abs(a[1] - b[1]) < 0.05, "rows must agree"
        rig = rectifier.rig
        z = rig.bf / (a[0] - b[0] + rig.doffs_px)
        measured = np.array([(a[0] - rig.cx) * z / rig.fx, (a[1] - rig.cy) * z / rig.fy, z])
        np.testing.assert_allclose(measured, rotation_rect @ point, rtol=0.005, atol=0.003)


def _rectifying_rotation(raw: StereoCalibration, model: str) -> np.ndarray:
    assert raw.rotation is not None and raw.translation_m is not None
    args = (raw.left.matrix, raw.left.distortion, raw.right.matrix, raw.right.distortion, SIZE, raw.rotation, raw.translation_m)
    if model == "equidistant":
        return cv2.fisheye.stereoRectify(*args, flags=cv2.CALIB_ZERO_DISPARITY)[0]
    return cv2.stereoRectify(*args, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0)[0]


def test_the_baseline_is_the_distance_of_the_cameras():
    assert Rectifier(calibration()).rig.baseline_m == pytest.approx(np.linalg.norm(TRANSLATION), rel=1e-6)


def test_ros_matrices_are_used_as_given_and_agree_with_r_and_t():
    raw = calibration()
    assert raw.rotation is not None and raw.translation_m is not None
    args = (raw.left.matrix, raw.left.distortion, raw.right.matrix, raw.right.distortion, SIZE, raw.rotation, raw.translation_m)
    r1, r2, p1, p2, *_ = cv2.stereoRectify(*args, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0)
    ros = StereoCalibration(
        raw.left, raw.right, SIZE, rectification_left=r1, projection_left=p1, rectification_right=r2, projection_right=p2
    )
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    for a, b in zip(Rectifier(raw)(image, image), Rectifier(ros)(image, image)):
        np.testing.assert_array_equal(a, b)
    assert ros.rectified_rig() == Rectifier(raw).rig


def test_another_output_size_scales_the_rig():
    half = Rectifier(calibration(), size_wh=(320, 240))
    full = Rectifier(calibration())
    image = np.zeros((480, 640), np.uint8)
    assert half(image, image)[0].shape == (240, 320)
    assert half.rig.fx == pytest.approx(full.rig.fx / 2, rel=0.01)
    assert half.rig.baseline_m == pytest.approx(full.rig.baseline_m)


def test_chessboards_are_aligned_and_triangulate_to_flat_square_boards(real_data):
    folder = real_data("chessboards")
    stored = np.load(folder / "calib_fitted.npz")
    raw = StereoCalibration(
        CameraModel(stored["K1"], stored["D1"]), CameraModel(stored["K2"], stored["D2"]), SIZE, stored["R"], stored["T"].ravel()
    )
    rectifier = Rectifier(raw)
    found = 0
    for number in ("01", "04", "07", "09", "14"):
        pair = [read_image(folder / f"{side}{number}.jpg") for side in ("left", "right")]
        corners = []
        for image in rectifier(pair[0], pair[1]):
            seen, points = cv2.findChessboardCorners(image, (9, 6))
            if not seen:
                break
            criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.01)
            corners.append(cv2.cornerSubPix(image, points, (5, 5), (-1, -1), criteria).reshape(-1, 2))
        if len(corners) < 2:
            continue
        found += 1
        left, right = corners
        assert np.median(np.abs(left[:, 1] - right[:, 1])) < 0.5
        rig = rectifier.rig
        z = rig.bf / (left[:, 0] - right[:, 0] + rig.doffs_px)
        board = np.column_stack([(left[:, 0] - rig.cx) * z / rig.fx, (left[:, 1] - rig.cy) * z / rig.fy, z]).reshape(6, 9, 3)
        # T of this calibration is in squares, so the corners are one unit apart, and all lie in one plane.
        sides = np.linalg.norm(np.diff(board, axis=1), axis=2)
        assert np.median(sides) == pytest.approx(1.0, abs=0.03)
        flat = board.reshape(-1, 3) - board.reshape(-1, 3).mean(axis=0)
        assert np.linalg.svd(flat, compute_uv=False)[2] / np.sqrt(len(flat)) < 0.15
    assert found >= 3


# Bad input


def test_swapped_cameras_are_named():
    with pytest.raises(CalibrationError, match="swap left and right"):
        calibration(translation_m=-TRANSLATION)
    p = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
    q = p.copy()
    q[0, 3] = -60.0
    with pytest.raises(CalibrationError, match="swap left and right"):
        rig_from_projection(q, p, SIZE)


def test_zero_baseline():
    with pytest.raises(CalibrationError, match="baseline must be above zero"):
        calibration(translation_m=np.zeros(3))
    p = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
    with pytest.raises(CalibrationError, match="baseline must be above zero"):
        rig_from_projection(p, p, SIZE)


def test_vertical_rig():
    with pytest.raises(CalibrationError, match="one above the other"):
        calibration(translation_m=np.array([0.0, -0.12, 0.0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad):
    broken = K_LEFT.copy()
    broken[0, 2] = bad
    with pytest.raises(CalibrationError, match="finite"):
        CameraModel(broken)
    with pytest.raises(CalibrationError, match="finite"):
        CameraModel(K_LEFT, np.array([bad, 0, 0, 0, 0]))
    with pytest.raises(CalibrationError, match="finite"):
        calibration(translation_m=np.array([bad, 0, 0]))


def test_unknown_model_and_wrong_count():
    with pytest.raises(CalibrationError, match="unknown; known: plumb_bob"):
        CameraModel(K_LEFT, np.zeros(5), "kannala")
    with pytest.raises(CalibrationError, match="4 distortion coefficients, got 5"):
        CameraModel(K_LEFT, np.zeros(5), "fisheye")


def test_not_a_rotation():
    with pytest.raises(CalibrationError, match="rotation matrix"):
        calibration(rotation=np.eye(3) * 2)


def test_images_of_another_size():
    with pytest.raises(ImageError, match="320x240 but the calibration is for 640x480"):
        Rectifier(calibration())(np.zeros((240, 320), np.uint8), np.zeros((240, 320), np.uint8))


def test_a_claimed_size_takes_no_memory():
    """A camera_info may claim any size; maps of this one would take terabytes."""
    size_wh = (2**31 - 1, 2**31 - 1)
    with pytest.raises(ImageError, match="640x480 but the calibration is for 2147483647x2147483647"):
        Rectifier(calibration(size_wh=size_wh))(np.zeros((480, 640), np.uint8), np.zeros((480, 640), np.uint8))
    with pytest.raises(CalibrationError, match="cannot rectify this calibration of 2147483648x1"):
        Rectifier(calibration(size_wh=(2**31, 1)))


@pytest.mark.parametrize(("row", "column", "value"), [(2, 2, 0.0), (1, 0, 3.0), (0, 1, -2.0), (2, 0, 0.1), (2, 1, 1e300)])
def test_a_matrix_that_is_no_projection_of_a_rectified_camera(row, column, value):
    p = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
    q = p.copy()
    q[0, 3], q[row, column] = -60, value
    with pytest.raises(CalibrationError, match="the right P must have the form"):
        rig_from_projection(p, q, SIZE)


def test_infos_that_are_not_of_a_rectified_pair():
    p = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
    q = p.copy()
    q[0, 3], q[1, 2] = -60, 251
    with pytest.raises(CalibrationError, match="cy is 240 px left and 251 px right"):
        rig_from_projection(p, q, SIZE)
    with pytest.raises(CalibrationError, match="not calibrated"):
        rig_from_projection(np.zeros(12), q, SIZE)


def test_projection_gives_doffs_and_baseline_from_flat_lists():
    left = [500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0]
    right = [500, 0, 350, -60, 0, 500, 240, 0, 0, 0, 1, 0]
    rig = rig_from_projection(left, right, SIZE)
    assert (rig.baseline_m, rig.doffs_px, rig.fx, rig.cx) == (0.12, 30.0, 500.0, 320.0)


def test_a_left_camera_that_is_not_the_origin():
    """KITTI's P2 and P3: both are displaced from camera 0, also along z."""
    k = np.array([[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]])
    left = np.hstack([k, k @ np.array([[0.0598], [-0.0003], [0.0027]])])
    right = np.hstack([k, k @ np.array([[-0.4731], [0.0001], [0.0027]])])
    assert rig_from_projection(left, right, (1242, 375)).baseline_m == pytest.approx(0.0598 + 0.4731, abs=1e-9)


def test_binning_and_roi_keep_the_geometry():
    """A 3D point's pixel in the delivered image is the full image's, shifted and divided."""
    p = np.array([[500.0, 0, 350, -60], [0, 510, 240, 0], [0, 0, 1, 0]])
    small, size = apply_binning_roi(p, SIZE, (2, 2), (100, 40, 400, 300))
    assert size == (200, 150)
    point = np.array([0.2, -0.1, 3.0, 1.0])
    full, cut = p @ point, small @ point
    np.testing.assert_allclose(cut[:2] / cut[2], (full[:2] / full[2] - (100, 40)) / 2)
    same, size = apply_binning_roi(p.ravel(), SIZE, (0, 0), (0, 0, 0, 0))
    np.testing.assert_array_equal(same, p)
    assert size == SIZE
    with pytest.raises(CalibrationError, match="must lie inside"):
        apply_binning_roi(p, SIZE, (1, 1), (600, 0, 100, 100))


def test_the_matrices_of_a_camera_info_pair_give_another_size_too():
    """A known point seen in images of half the size triangulates to where it is."""
    raw = calibration()
    half = Rectifier(with_projections(raw), size_wh=(320, 240))
    assert half.rig.size_wh == (320, 240)
    point = np.array([[-0.4, 0.25, 2.0]])
    left, right = half(
        dot_image(raw_pixels(point, np.eye(3), np.zeros(3), raw.left), 0), dot_image(raw_pixels(point, ROTATION, TRANSLATION, raw.right), 0)
    )
    a, b, rig = centroid(left), centroid(right), half.rig
    z = rig.bf / (a[0] - b[0] + rig.doffs_px)
    measured = np.array([(a[0] - rig.cx) * z / rig.fx, (a[1] - rig.cy) * z / rig.fy, z])
    np.testing.assert_allclose(measured, _rectifying_rotation(raw, "plumb_bob") @ point[0], rtol=0.01, atol=0.006)
