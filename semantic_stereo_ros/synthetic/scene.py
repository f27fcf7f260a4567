"""What a synthetic scene is made of: bodies with a shape, a texture and a motion, a camera path and a light.

The world is z up, x forward, y left (REP-103), metres and seconds. Everything is a function of time, so that any frame can be rendered
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from semantic_stereo_ros.synthetic.texture import Texture

_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # optical axes (x right, y down, z forward) as world columns


@dataclass(frozen=True)
class Sway:
    """amplitude * sin(2 pi t / period_s + phase): a smooth path that stays near its middle."""

    amplitude: tuple[float, ...] = (0.0, 0.0, 0.0)
    period_s: float = 6.0
    phase: float = 0.0

    def at(self, time_s: float) -> np.ndarray:
        return np.asarray(self.amplitude) * np.sin(2.0 * np.pi * time_s / self.period_s + self.phase)


@dataclass(frozen=True, eq=False)
class Body:
    """One surface or solid. base_pose: 4x4 shape -> world at rest; velocity_mps and sway move it along world axes.

    object_id: 0 for what is no object (floor, walls), otherwise 1..65535, stable over the sequence.
    """

    name: str
    shape: str
    size_m: tuple[float, float, float]
    texture: Texture
    base_pose: np.ndarray = field(default_factory=lambda: np.eye(4))
    object_id: int = 0
    velocity_mps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sway: Sway | None = None
    yaw_rate: float = 0.0

    @property
    def moving(self) -> bool:
        swaying = self.sway is not None and any(self.sway.amplitude)
        return swaying or any(self.velocity_mps) or self.yaw_rate != 0.0

    def pose(self, time_s: float) -> np.ndarray:
        """4x4 float64, shape -> world."""
        pose = self.base_pose.copy()
        if self.yaw_rate:
            pose[:3, :3] = yaw_matrix(self.yaw_rate * time_s) @ pose[:3, :3]
        pose[:3, 3] += np.asarray(self.velocity_mps) * time_s
        if self.sway is not None:
            pose[:3, 3] += self.sway.at(time_s)
        return pose


@dataclass(frozen=True)
class CameraPath:
    """The left camera: position (m), yaw (left) and pitch (down) in rad, each with a constant rate and a sway."""

    position_m: tuple[float, float, float] = (0.0, 0.0, 1.2)
    yaw: float = 0.0
    pitch: float = 0.15
    velocity_mps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rate: float = 0.0
    position_sway: Sway | None = None
    angle_sway: Sway | None = None  # (yaw, pitch, roll)

    def pose(self, time_s: float) -> np.ndarray:
        """4x4 float64, camera (optical) -> world."""
        position = np.asarray(self.position_m) + np.asarray(self.velocity_mps) * time_s
        if self.position_sway is not None:
            position = position + self.position_sway.at(time_s)
        angles = np.array([self.yaw + self.yaw_rate * time_s, self.pitch, 0.0])
        if self.angle_sway is not None:
            angles = angles + self.angle_sway.at(time_s)
        pose = np.eye(4)
        pose[:3, :3] = yaw_matrix(angles[0]) @ _pitch_matrix(angles[1]) @ _roll_matrix(angles[2]) @ _OPTICAL
        pose[:3, 3] = position
        return pose


@dataclass(frozen=True)
class SceneModel:
    """The whole world. light: direction towards the lamp, world axes; ambient: share of light that comes from everywhere."""

    bodies: tuple[Body, ...]
    camera: CameraPath = CameraPath()
    light: tuple[float, float, float] = (-0.35, 0.45, 0.82)
    ambient: float = 0.55
    shadows: bool = False


def yaw_matrix(angle: float) -> np.ndarray:
    """Rotation about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _pitch_matrix(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _roll_matrix(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def place(position_m: tuple[float, float, float], yaw: float = 0.0) -> np.ndarray:
    """4x4 pose of an upright body."""
    pose = np.eye(4)
    pose[:3, :3] = yaw_matrix(yaw)
    pose[:3, 3] = position_m
    return pose


def facing(position_m: tuple[float, float, float], normal: tuple[float, float, float]) -> np.ndarray:
    """4x4 pose of a plane through `position_m` whose z axis is `normal` (horizontal) and whose y axis points up."""
    z = np.asarray(normal, np.float64) / np.linalg.norm(normal)
    y = np.array([0.0, 0.0, 1.0])
    x = np.cross(y, z)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, y, z], axis=1)
    pose[:3, 3] = position_m
    return pose
