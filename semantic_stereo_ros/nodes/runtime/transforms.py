"""Poses from one frame into another by tf2, where tf2_ros is installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose
from rclpy.node import Node
from rclpy.time import Time

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.nodes.messages.conversions import pose_to_matrix
from semantic_stereo_ros.prompts import PromptError

TIMEOUT_S = 1.0


class TransformError(SemanticStereoError):
    """Nobody knows how one frame lies in another at a moment."""


class FrameTransforms:
    """Listens to /tf from the first question on: a node that never asks does not pay for it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tf2: Any = None
        self._buffer: Any = None
        self._listener: Any = None

    def into(self, pose: np.ndarray, source: str, target: str, stamp_ns: int, timeout_s: float = TIMEOUT_S) -> np.ndarray:
        """4x4 pose given in frame `source` -> in frame `target`, for prompts. Raises PromptError instead of TransformError."""
        try:
            return self.lookup(source, target, stamp_ns, timeout_s) @ pose
        except TransformError as error:
            raise PromptError(f"a 3D box in frame {source!r} cannot be used: {error}") from error

    def lookup(self, source: str, target: str, stamp_ns: int, timeout_s: float = TIMEOUT_S) -> np.ndarray:
        """4x4 float64: p_target = T p_source, at a moment (0 = the newest known); waits for it at most `timeout_s`.

        Not to be called on the executor's thread. Raises TransformError when tf2_ros is missing or knows no way between the frames.
        """
        if source.lstrip("/") == target.lstrip("/"):
            return np.eye(4)
        self._listen(source, target)
        from rclpy.duration import Duration

        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns), Duration(seconds=timeout_s))
        except self._tf2.TransformException as error:
            raise TransformError(f"no transform from frame {source!r} to {target!r}: {error}; publish it on /tf or /tf_static") from error
        t, q = found.transform.translation, found.transform.rotation
        as_pose = Pose(orientation=q)
        as_pose.position.x, as_pose.position.y, as_pose.position.z = t.x, t.y, t.z
        return pose_to_matrix(as_pose)

    def _listen(self, source: str, target: str) -> None:
        if self._buffer is not None:
            return
        try:
            self._tf2 = importlib.import_module("tf2_ros")
        except ImportError as error:
            raise TransformError(
                f"going from frame {source!r} to {target!r} needs tf2_ros, which is not installed: stay in the left optical frame, "
                "or install tf2_ros"
            ) from error
        self._buffer = self._tf2.Buffer(node=self._node)
        self._listener = self._tf2.TransformListener(self._buffer, self._node)
