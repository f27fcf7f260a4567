"""The camera's poses by stamp."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from nav_msgs.msg import Odometry

from semantic_stereo_ros.checks import CalibrationError
from semantic_stereo_ros.nodes.conversions import pose_to_matrix, stamp_to_ns


class PoseBuffer:
    """The newest `capacity` poses of the left optical frame in the world. Filled by the executor, read by the worker."""

    def __init__(self, capacity: int = 200) -> None:
        self._capacity = capacity
        self._poses: OrderedDict[int, np.ndarray] = OrderedDict()
        self._arrived = threading.Condition()

    def add_message(self, message: Odometry) -> None:
        """Keep the pose of one message: header.frame_id is the world, child_frame_id the left optical frame."""
        pose = pose_to_matrix(message.pose.pose)
        with self._arrived:
            self._poses[stamp_to_ns(message.header.stamp)] = pose
            self._arrived.notify_all()
            while len(self._poses) > self._capacity:
                self._poses.popitem(last=False)

    def at(self, stamp_ns: int, timeout_s: float = 0.2) -> np.ndarray:
        """4x4 float64, camera to world, at exactly this stamp; waits for it. Raises CalibrationError when none comes in time."""
        with self._arrived:
            self._arrived.wait_for(lambda: stamp_ns in self._poses, timeout_s)
            pose = self._poses.get(stamp_ns)
        if pose is None:
            raise CalibrationError(
                f"no pose has come with the image's stamp {stamp_ns / 1e9:.6f} s: input.use_pose needs one on `pose` for each image, "
                "sent before the images"
            )
        return pose
