"""Cameras without their images: a pinhole camera, and a ring of named ones on one body.

Frames of reference: a camera's is its optical frame of REP-103 (x right, y down, z forward), in metres; `body` is the robot's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import CalibrationError, check_array, check_finite, check_positive

ROTATION_ERROR = 1e-4
"""By how much R R^T of a pose may differ from the identity: poses are written with six digits or more."""


@dataclass(frozen=True)
class PinholeCamera:
    """u = fx * X / Z + cx, v = fy * Y / Z + cy, with pixel centres at integers; distortion is already removed. All in px.

    Raises CalibrationError for values that are not finite or not positive where they must be.
    """

    size_wh: tuple[int, int]
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        width, height = self.size_wh
        if int(width) != width or int(height) != height or width <= 0 or height <= 0:
            raise CalibrationError(f"the image size must be two positive integers (width, height), got {self.size_wh}")
        object.__setattr__(self, "size_wh", (int(width), int(height)))
        for name in ("fx", "fy"):
            object.__setattr__(self, name, check_positive(f"focal length {name} (px)", getattr(self, name)))
        for name in ("cx", "cy"):
            object.__setattr__(self, name, check_finite(f"{name} (px)", getattr(self, name)))

    @property
    def matrix(self) -> np.ndarray:
        """3x3 float64 intrinsic matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class CameraRing:
    """Cameras around one body, by name. poses_body_camera: 4x4 float64 each, camera to body.

    Raises CalibrationError when the names of cameras and poses differ, or a pose is no rotation beside a translation.
    """

    cameras: Mapping[str, PinholeCamera]
    poses_body_camera: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not self.cameras or set(self.cameras) != set(self.poses_body_camera):
            raise CalibrationError(
                "a ring needs one pose for each of its cameras, got cameras "
                f"{sorted(self.cameras)} and poses of {sorted(self.poses_body_camera)}"
            )
        for name, pose in self.poses_body_camera.items():
            check_array(f"the pose of camera {name!r}", pose, shape=(4, 4), error=CalibrationError)
            off = np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max()
            if not off <= ROTATION_ERROR or np.linalg.det(pose[:3, :3]) < 0 or not np.isfinite(pose).all():
                raise CalibrationError(
                    f"the pose of camera {name!r} is no rotation beside a translation (R R^T is off by {off:.2g}): "
                    "give a rigid 4x4 transform, camera to body"
                )

    def __iter__(self):
        """Names, cameras and poses, in the order of `cameras`."""
        return ((name, camera, self.poses_body_camera[name]) for name, camera in self.cameras.items())
