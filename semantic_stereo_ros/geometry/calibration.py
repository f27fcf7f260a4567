"""What a calibrated pair is before it is rectified, and the rig that a pair of projection matrices means.

Conventions are OpenCV's: x_right = R @ x_left + T, so a right camera that stands to the right has T[0] < 0; in ROS terms
P_right[0, 3] = -fx * baseline (sensor_msgs/CameraInfo, REP-104).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from semantic_stereo_ros.checks import CalibrationError, check_positive
from semantic_stereo_ros.types import StereoRig

_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
_ALIASES = {"fisheye": "equidistant", "radtan": "plumb_bob", "brown_conrady": "plumb_bob", "none": "plumb_bob", "": "plumb_bob"}
SWAPPED = "the right camera lies left of the left one: swap left and right"


@dataclass(frozen=True, eq=False)
class CameraModel:
    """One raw camera. matrix: 3x3 float64, px. distortion: coefficients in OpenCV's order.

    model: plumb_bob (k1 k2 p1 p2 [k3]), rational_polynomial (8, 12 or 14) or equidistant (k1..k4, also called fisheye).
    Raises CalibrationError for values that are not finite, an unknown model or a wrong number of coefficients.
    """

    matrix: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(5))
    model: str = "plumb_bob"
    name: str = "camera"

    def __post_init__(self) -> None:
        matrix = finite_matrix(f"the {self.name}'s camera matrix K", self.matrix, (3, 3))
        check_positive(f"the {self.name}'s focal length fx (px)", matrix[0, 0])
        check_positive(f"the {self.name}'s focal length fy (px)", matrix[1, 1])
        model = _ALIASES.get(self.model, self.model)
        if model not in _COEFFICIENTS:
            raise CalibrationError(f"the {self.name}'s distortion model {self.model!r} is unknown; known: {', '.join(_COEFFICIENTS)}")
        distortion = np.asarray(self.distortion, dtype=np.float64).ravel()
        if distortion.size == 0:
            distortion = np.zeros(_COEFFICIENTS[model][-1])
        if not np.isfinite(distortion).all():
            raise CalibrationError(f"the {self.name}'s distortion coefficients must be finite, got {distortion.tolist()}")
        if distortion.size not in _COEFFICIENTS[model]:
            wanted = " or ".join(map(str, _COEFFICIENTS[model]))
            raise CalibrationError(f"the {self.name}'s model {model} has {wanted} distortion coefficients, got {distortion.size}")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "distortion", distortion)
        object.__setattr__(self, "model", model)


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """A raw pair. size_wh: of both cameras' images.

    Either rotation (3, 3) and translation_m (3,), left to right (x_right = R x_left + T), or the four matrices of a ROS
    camera_info pair: rectification_left/right (3, 3) and projection_left/right (3, 4); the latter win when both are given.
    Raises CalibrationError with what came and what to do.
    """

    left: CameraModel
    right: CameraModel
    size_wh: tuple[int, int]
    rotation: np.ndarray | None = None
    translation_m: np.ndarray | None = None
    rectification_left: np.ndarray | None = None
    projection_left: np.ndarray | None = None
    rectification_right: np.ndarray | None = None
    projection_right: np.ndarray | None = None

    def __post_init__(self) -> None:
        width, height = (int(n) for n in self.size_wh)
        if width <= 0 or height <= 0:
            raise CalibrationError(f"the image size must be two positive integers (width, height), got {self.size_wh}")
        object.__setattr__(self, "size_wh", (width, height))
        if (self.left.model == "equidistant") != (self.right.model == "equidistant"):
            raise CalibrationError(f"both cameras must be fisheye or none, got {self.left.model} and {self.right.model}")
        ros = (self.rectification_left, self.projection_left, self.rectification_right, self.projection_right)
        if all(m is not None for m in ros):
            for name, shape in _ROS_SHAPES.items():
                object.__setattr__(self, name, finite_matrix(name, getattr(self, name), shape))
            for name in ("rectification_left", "rectification_right"):
                _check_rotation(name, getattr(self, name))
            rig_from_projection(self.projection_left, self.projection_right, self.size_wh)
        elif self.rotation is not None and self.translation_m is not None:
            rotation = finite_matrix("the rotation R", self.rotation, (3, 3))
            _check_rotation("the rotation R", rotation)
            translation = finite_matrix("the translation T (m)", np.asarray(self.translation_m).reshape(-1), (3,))
            object.__setattr__(self, "rotation", rotation)
            object.__setattr__(self, "translation_m", translation)
            _check_translation(rotation, translation)
        else:
            raise CalibrationError("a stereo calibration needs R and T between the cameras, or R1, P1, R2 and P2: none is complete")

    @property
    def has_projections(self) -> bool:
        """True when it came with its own rectification (ROS camera_info, OpenCV's R1 P1 R2 P2)."""
        return all(getattr(self, name) is not None for name in _ROS_SHAPES)

    def rectified_rig(self) -> StereoRig:
        """The rig of images that were rectified elsewhere with this calibration's own P matrices (image_rect topics).

        Raises CalibrationError when the calibration carries none.
        """
        if not self.has_projections:
            raise CalibrationError(
                "the calibration has no projection matrices P1 and P2, so the rectified camera of given rectified images is unknown: "
                "give the raw images, or a calibration with P1 and P2"
            )
        _, _, left, right = self.projections()
        return rig_from_projection(left, right, self.size_wh)

    def projections(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(R1, R2, P1, P2) as given. Only for calibrations whose has_projections is true."""
        r1, r2, p1, p2 = self.rectification_left, self.rectification_right, self.projection_left, self.projection_right
        if r1 is None or r2 is None or p1 is None or p2 is None:
            raise CalibrationError("the calibration has no projection matrices P1 and P2")
        return r1, r2, p1, p2


_ROS_SHAPES = {"rectification_left": (3, 3), "projection_left": (3, 4), "rectification_right": (3, 3), "projection_right": (3, 4)}


def rig_from_projection(projection_left, projection_right, size_wh: tuple[int, int]) -> StereoRig:
    """The rig of a rectified pair from its 3x4 projection matrices (ROS CameraInfo.p: 12 numbers do, OpenCV P1/P2, KITTI P0/P1).

    The translations are K^-1 P[:, 3], so a left camera that is not the origin (KITTI P2) is right, too.
    Raises CalibrationError for matrices that are not finite, all zero (an uncalibrated camera), of a pair that is not
    rectified (different fx, fy or cy), or with a zero or negative baseline.
    """
    left = finite_matrix("the left P", np.asarray(projection_left, np.float64).reshape(-1), (12,)).reshape(3, 4)
    right = finite_matrix("the right P", np.asarray(projection_right, np.float64).reshape(-1), (12,)).reshape(3, 4)
    for name, matrix in (("left", left), ("right", right)):
        if not matrix.any():
            raise CalibrationError(f"the {name} camera is not calibrated: its P is all zeros; calibrate the pair first")
        check_positive(f"the {name} P's fx (px)", matrix[0, 0])
        check_positive(f"the {name} P's fy (px)", matrix[1, 1])
        if not np.allclose(matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], (0, 0, 0, 0, 1), atol=1e-6):
            raise CalibrationError(f"the {name} P must have the form [fx 0 cx tx; 0 fy cy ty; 0 0 1 tz], got {matrix.tolist()}")
    for name, row, column, tolerance in (("fx", 0, 0, 1e-3 * left[0, 0]), ("fy", 1, 1, 1e-3 * left[1, 1]), ("cy", 1, 2, 0.5)):
        a, b = left[row, column], right[row, column]
        if abs(a - b) > tolerance:
            raise CalibrationError(
                f"the two P matrices are not of a rectified pair: {name} is {a:g} px left and {b:g} px right and must be equal; "
                "calibrate the cameras as a pair, or give both raw calibrations with R and T"
            )
    shift = np.linalg.solve(left[:, :3], left[:, 3]) - np.linalg.solve(right[:, :3], right[:, 3])
    if abs(shift[1]) > abs(shift[0]):
        raise CalibrationError(
            f"the cameras stand one above the other (vertical baseline {shift[1]:g} m, horizontal {shift[0]:g} m): "
            "only side-by-side pairs are supported; turn the images and calibrate again"
        )
    if shift[0] < 0:
        raise CalibrationError(f"the stereo baseline is {shift[0]:g} m, below zero: {SWAPPED}")
    return StereoRig(
        size_wh=size_wh,
        fx=left[0, 0],
        fy=left[1, 1],
        cx=left[0, 2],
        cy=left[1, 2],
        baseline_m=shift[0],
        doffs_px=right[0, 2] - left[0, 2],
    )


def finite_matrix(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    """`values` as float64 of `shape`; CalibrationError when the shape differs or a number is not finite."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape != shape:
        raise CalibrationError(f"{name} must have shape {shape}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise CalibrationError(f"{name} must be finite, got {matrix.tolist()}")
    return matrix


def _check_rotation(name: str, rotation: np.ndarray) -> None:
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise CalibrationError(f"{name} must be a rotation matrix, got {rotation.tolist()}")


def _check_translation(rotation: np.ndarray, translation_m: np.ndarray) -> None:
    """The right camera's centre in the left one's frame is -R^T T: it must lie on the right."""
    center = -rotation.T @ translation_m
    if not np.linalg.norm(center) > 0:
        raise CalibrationError("the stereo baseline must be above zero, got 0 m: the translation T between the cameras is zero")
    if abs(center[1]) > abs(center[0]):
        raise CalibrationError(
            f"the cameras stand one above the other (T = {translation_m.tolist()} m): only side-by-side pairs are supported; "
            "turn the images and calibrate again"
        )
    if center[0] < 0:
        raise CalibrationError(f"the translation T = {translation_m.tolist()} m says that {SWAPPED}")


def apply_binning_roi(
    intrinsics,
    size_wh: tuple[int, int],
    binning_xy: tuple[int, int] = (1, 1),
    roi_xywh: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> tuple[np.ndarray, tuple[int, int]]:
    """A 3x3 K or 3x4 P of the full sensor (9 or 12 numbers) -> (the matrix of the delivered image, its size_wh).

    sensor_msgs/CameraInfo: the region of interest is given in full-resolution pixels and is cut before binning; binning 0 means 1
    and an all-zero roi means the full image. Same arithmetic as image_geometry's PinholeCameraModel: f / b, (c - offset) / b, Tx / b.
    Raises CalibrationError when the roi does not lie inside the image.
    """
    matrix = np.array(intrinsics, dtype=np.float64).reshape(3, -1)
    x, y, width, height = (int(n) for n in roi_xywh)
    if width == 0 or height == 0:
        x, y, width, height = 0, 0, int(size_wh[0]), int(size_wh[1])
    if x < 0 or y < 0 or x + width > size_wh[0] or y + height > size_wh[1]:
        raise CalibrationError(
            f"the region of interest (x {x}, y {y}, {width}x{height}) must lie inside the camera's {size_wh[0]}x{size_wh[1]} pixels"
        )
    bx, by = max(int(binning_xy[0]), 1), max(int(binning_xy[1]), 1)
    matrix[0, 2] -= x
    matrix[1, 2] -= y
    matrix[0] /= bx
    matrix[1] /= by
    return matrix, (width // bx, height // by)
