"""Objects and clouds in another frame than the camera's: output.target_frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from std_msgs.msg import Header

from semantic_stereo_ros.msg import ObjectDistanceArray
from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns
from semantic_stereo_ros.nodes.runtime.transforms import FrameTransforms, TransformError
from semantic_stereo_ros.tracking.track import turned

TIMEOUT_S = 0.1
"""How long a frame waits for its transform: TF is often some milliseconds behind the images."""


@dataclass(frozen=True, eq=False)
class Placement:
    """header: of what is placed. matrix: (4, 4) float64, p_header = matrix p_camera; None leaves all where it is."""

    header: Header
    matrix: np.ndarray | None = None

    def points(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) of the camera's frame, in the same dtype; NaN stays NaN."""
        if self.matrix is None:
            return points_m
        matrix = self.matrix.astype(points_m.dtype)
        return points_m @ matrix[:3, :3].T + matrix[:3, 3]

    def objects(self, message: ObjectDistanceArray) -> ObjectDistanceArray:
        """Move, in place, all of the objects that has axes; depth, distance and nearest stay those of the camera."""
        message.header = self.header
        if self.matrix is None:
            return message
        rotation = self.matrix[:3, :3]
        for item in message.objects:
            self._move(item.position)
            self._move(item.box_pose.position)
            item.position_covariance = _turned(rotation, item.position_covariance)
            item.velocity_covariance = _turned(rotation, item.velocity_covariance)
            velocity = item.velocity
            velocity.x, velocity.y, velocity.z = (rotation @ (velocity.x, velocity.y, velocity.z)).tolist()
            axes = item.box_pose.orientation
            quaternion = np.array((axes.x, axes.y, axes.z, axes.w))
            if np.isfinite(quaternion).all():
                axes.x, axes.y, axes.z, axes.w = turned(quaternion, rotation).tolist()
        return message

    def _move(self, point: Any) -> None:
        point.x, point.y, point.z = self.points(np.array((point.x, point.y, point.z))).tolist()


def _turned(rotation: np.ndarray, covariance: Any) -> np.ndarray:
    """R C R^T, row-major (9,)."""
    return (rotation @ np.reshape(covariance, (3, 3)) @ rotation.T).ravel()


class TargetFrame:
    """Where the camera is in the target frame; asked at most once per frame."""

    def __init__(self, transforms: FrameTransforms) -> None:
        self._transforms = transforms
        self._failed: tuple[Header, TransformError] | None = None

    def place(self, target: str, header: Header) -> Placement:
        """header: of the camera's frame, which an empty target means. Raises TransformError when TF does not know in time."""
        if not target:
            return Placement(header)
        if self._failed is not None and self._failed[0] is header:
            raise self._failed[1]
        try:
            matrix = self._transforms.lookup(header.frame_id, target, stamp_to_ns(header.stamp), TIMEOUT_S)
        except TransformError as error:
            self._failed = header, error
            raise
        return Placement(Header(stamp=header.stamp, frame_id=target), matrix)
