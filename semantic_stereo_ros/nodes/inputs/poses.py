"""What comes beside the images and is looked up by their stamp: the camera's poses, confidence maps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

import numpy as np
from nav_msgs.msg import Odometry

from semantic_stereo_ros.checks import CalibrationError
from semantic_stereo_ros.nodes.messages.conversions import pose_to_matrix, stamp_to_ns

Item = TypeVar("Item")


class StampBuffer(Generic[Item]):
    """The newest `capacity` items by stamp. Filled by the executor, read by the worker."""

    def __init__(self, capacity: int = 10) -> None:
        self._capacity = capacity
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._arrived = threading.Condition()

    def add(self, stamp_ns: int, item: Item) -> None:
        """Keep it; an item of the same stamp is replaced."""
        with self._arrived:
            self._items.pop(stamp_ns, None)
            self._items[stamp_ns] = item
            while len(self._items) > self._capacity:
                self._items.popitem(last=False)
            self._arrived.notify_all()

    def at(self, stamp_ns: int, timeout_s: float = 0.2) -> Item | None:
        """The item of exactly this stamp; waits for it. None when it does not come in time."""
        with self._arrived:
            self._arrived.wait_for(lambda: stamp_ns in self._items, timeout_s)
            return self._items.get(stamp_ns)


class PoseBuffer:
    """The newest `capacity` poses of the left optical frame in the world. Filled by the executor, read by the worker."""

    def __init__(self, capacity: int = 200) -> None:
        self._poses: StampBuffer[np.ndarray] = StampBuffer(capacity)

    def add_message(self, message: Odometry) -> None:
        """Keep the pose of one message: header.frame_id is the world, child_frame_id the left optical frame."""
        self._poses.add(stamp_to_ns(message.header.stamp), pose_to_matrix(message.pose.pose))

    def at(self, stamp_ns: int, timeout_s: float = 0.2) -> np.ndarray:
        """4x4 float64, camera to world, at exactly this stamp; waits for it. Raises CalibrationError when none comes in time."""
        pose = self._poses.at(stamp_ns, timeout_s)
        if pose is None:
            raise CalibrationError(
                f"no pose has come with the image's stamp {stamp_ns / 1e9:.6f} s: input.use_pose needs one on `pose` for each image, "
                "sent before the images"
            )
        return pose
