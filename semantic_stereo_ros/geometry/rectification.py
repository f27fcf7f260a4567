"""From a raw, distorted pair to a rectified one: rows aligned, one StereoRig."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from semantic_stereo_ros.checks import CalibrationError, ImageError, check_array
from semantic_stereo_ros.geometry.calibration import CameraModel, StereoCalibration, rig_from_projection
from semantic_stereo_ros.types import StereoRig

__all__ = ["Rectifier", "StereoCalibration", "with_projections"]


class Rectifier:
    """Rectifies raw pairs; the maps are computed once, at the first pair, so that a calibration never takes more memory than its images.

    alpha: 0 = only valid pixels remain, 1 = every source pixel remains (black borders); for fisheye it is OpenCV's
    `balance`. It has no effect when the calibration brings its own P matrices. size_wh: size of the result, the
    calibration's own by default.
    """

    def __init__(self, calibration: StereoCalibration, alpha: float = 0.0, size_wh: tuple[int, int] | None = None) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise CalibrationError(f"alpha must lie in [0, 1], got {alpha:g}")
        self.calibration = calibration
        size = calibration.size_wh if size_wh is None else (int(size_wh[0]), int(size_wh[1]))
        if calibration.has_projections:
            r1, r2, p1, p2 = calibration.projections()
            rig = rig_from_projection(p1, p2, calibration.size_wh)
            if size != calibration.size_wh:
                rig = rig.resized(size)
                p1, p2 = _matrices(rig)
        else:
            r1, r2, p1, p2 = _planes(calibration, alpha, size)
            rig = rig_from_projection(p1, p2, size)
        self.rig: StereoRig = rig
        self._planes = {"left": (calibration.left, r1, p1), "right": (calibration.right, r2, p2)}
        self._maps: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) or (H, W, 3) uint8 or uint16 raw images -> rectified ones of self.rig, same dtype; outside is 0.

        Raises ImageError when an image has not the size of the calibration.
        """
        return self._remap("left", left), self._remap("right", right)

    def _remap(self, side: str, image: np.ndarray) -> np.ndarray:
        check_array(f"the raw {side} image", image, dtypes=(np.uint8, np.uint16))
        width, height = self.calibration.size_wh
        if image.ndim < 2 or image.shape[:2] != (height, width):
            came = f"{image.shape[1]}x{image.shape[0]}" if image.ndim >= 2 else f"shape {image.shape}"
            raise ImageError(
                f"the raw {side} image is {came} but the calibration is for {width}x{height}: use the calibration of this resolution"
            )
        if side not in self._maps:
            self._maps[side] = _maps(*self._planes[side], self.rig.size_wh)
        return cv2.remap(image, *self._maps[side], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def with_projections(calibration: StereoCalibration, alpha: float = 0.0) -> StereoCalibration:
    """The same pair with R1, R2, P1 and P2, as a ROS camera_info pair needs them: its own, or those that Rectifier would compute."""
    if calibration.has_projections:
        return calibration
    r1, r2, p1, p2 = _planes(calibration, alpha, calibration.size_wh)
    return dataclasses.replace(calibration, rectification_left=r1, rectification_right=r2, projection_left=p1, projection_right=p2)


def _planes(calibration: StereoCalibration, alpha: float, size_wh: tuple[int, int]):
    """R1, R2, P1, P2 as OpenCV finds them. Raises CalibrationError where it cannot."""
    try:
        return _stereo_rectify(calibration, alpha, size_wh)
    except cv2.error as error:
        width, height = calibration.size_wh
        raise CalibrationError(f"OpenCV cannot rectify this calibration of {width}x{height} pixels: {error.err or error}") from error


def _stereo_rectify(calibration: StereoCalibration, alpha: float, size_wh):
    left, right = calibration.left, calibration.right
    rotation, translation = calibration.rotation, calibration.translation_m
    assert rotation is not None and translation is not None
    if left.model == "equidistant":
        r1, r2, p1, p2, _ = cv2.fisheye.stereoRectify(
            left.matrix,
            left.distortion,
            right.matrix,
            right.distortion,
            calibration.size_wh,
            rotation,
            translation.reshape(3, 1),
            flags=cv2.CALIB_ZERO_DISPARITY,
            newImageSize=size_wh,
            balance=alpha,
        )
    else:
        r1, r2, p1, p2, *_ = cv2.stereoRectify(
            left.matrix,
            left.distortion,
            right.matrix,
            right.distortion,
            calibration.size_wh,
            rotation,
            translation.reshape(3, 1),
            flags=cv2.CALIB_ZERO_DISPARITY,
            alpha=alpha,
            newImageSize=size_wh,
        )
    return r1, r2, p1, p2


def _maps(camera: CameraModel, rotation: np.ndarray, projection: np.ndarray, size_wh) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-point maps: cv2.remap interpolates in 1/32 px either way, and reads half the memory."""
    make = cv2.fisheye.initUndistortRectifyMap if camera.model == "equidistant" else cv2.initUndistortRectifyMap
    maps = make(camera.matrix, camera.distortion, rotation, projection[:, :3], size_wh, cv2.CV_16SC2)
    return maps[0], maps[1]


def _matrices(rig: StereoRig) -> tuple[np.ndarray, np.ndarray]:
    left = np.hstack([rig.matrix, np.zeros((3, 1))])
    right = left.copy()
    right[0, 2], right[0, 3] = rig.cx_right, -rig.bf
    return left, right
