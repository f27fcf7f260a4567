"""The newest camera_info of each side and what follows from them: a rig, or a rectifier for raw images."""

from __future__ import annotations

import threading

import numpy as np
from sensor_msgs.msg import CameraInfo

from semantic_stereo_ros.checks import CalibrationError
from semantic_stereo_ros.geometry.rectification import Rectifier
from semantic_stereo_ros.nodes.messages.conversions import check_same_view, info_key, info_to_rig, infos_to_calibration, infos_to_rig
from semantic_stereo_ros.types import StereoRig


class CameraInfoCache:
    """Filled by the executor, read by the worker. The geometry is computed once per change, by whom it needs.

    needed: the sides without whose info nothing can be done; infos of other sides are only compared.
    """

    def __init__(self, rectify: bool, needed: tuple[str, ...] = ("left", "right")) -> None:
        self._rectify = rectify
        self._needed = needed
        self._lock = threading.Lock()
        self._infos: dict[str, CameraInfo] = {}
        self._keys: dict[str, tuple] = {}
        self._computed_for: tuple | None = None
        self._rig: StereoRig | None = None
        self._rectifier: Rectifier | None = None

    def update(self, side: str, info: CameraInfo) -> bool:
        """Keep the newest info of a side. True when an earlier one of that side said something else."""
        key = info_key(info)
        with self._lock:
            before = self._keys.get(side)
            if before != key:
                self._infos[side], self._keys[side] = info, key
            return before is not None and before != key

    def missing(self) -> tuple[str, ...]:
        """The sides of which no info has come yet."""
        with self._lock:
            return tuple(side for side in self._needed if side not in self._infos)

    def rectified(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, StereoRig]:
        """The images, rectified when asked for, and their rig. Raises CalibrationError or ImageError."""
        rig, rectifier = self._geometry()
        if rectifier is not None:
            left, right = rectifier(left, right)
        return left, right, rig

    def rig_of_left(self, baseline_m: float) -> StereoRig:
        """The rig of the left camera's pixels with a baseline from elsewhere. Raises CalibrationError, also when another camera_info
        that came says something else of the same pixels."""
        with self._lock:
            infos = dict(self._infos)
        left = infos.pop("left", None)
        if left is None:
            raise CalibrationError("no camera_info has come for the left camera yet")
        for name, other in infos.items():
            check_same_view(left, other, name)
        return info_to_rig(left, baseline_m)

    def _geometry(self) -> tuple[StereoRig, Rectifier | None]:
        with self._lock:
            infos, key = dict(self._infos), tuple(sorted(self._keys.items()))
        if len(infos) < 2:
            raise CalibrationError("no camera_info has come for both cameras yet")
        if key != self._computed_for or self._rig is None:
            self._computed_for, self._rig = None, None
            if self._rectify:
                self._rectifier = Rectifier(infos_to_calibration(infos["left"], infos["right"]))
                self._rig = self._rectifier.rig
            else:
                self._rig = infos_to_rig(infos["left"], infos["right"])
            self._computed_for = key
        return self._rig, self._rectifier
