"""Pixels <-> points of the left optical frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from semantic_stereo_ros.types import StereoRig


@lru_cache(maxsize=8)
def ray_tables(rig: StereoRig) -> tuple[np.ndarray, np.ndarray]:
    """((W,), (H,)) float32, read-only: x/z of each column and y/z of each row."""
    width, height = rig.size_wh
    x_over_z = ((np.arange(width) - rig.cx) / rig.fx).astype(np.float32)
    y_over_z = ((np.arange(height) - rig.cy) / rig.fy).astype(np.float32)
    x_over_z.setflags(write=False)
    y_over_z.setflags(write=False)
    return x_over_z, y_over_z


def depth_to_points(depth_m: np.ndarray, rig: StereoRig, stride: int = 1) -> np.ndarray:
    """(H, W) depth in m -> (ceil(H/stride), ceil(W/stride), 3) float32 points, camera frame; NaN where the depth is."""
    x_over_z, y_over_z = ray_tables(rig)
    depth = depth_m[::stride, ::stride]
    points = np.empty((*depth.shape, 3), np.float32)
    np.multiply(depth, x_over_z[None, ::stride], out=points[..., 0])
    np.multiply(depth, y_over_z[::stride, None], out=points[..., 1])
    points[..., 2] = depth
    return points


def project(points_m: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(..., 3) camera-frame points -> (..., 2) left-image pixels (u, v); NaN for points at or behind the camera plane."""
    z = np.where(points_m[..., 2] > 0, points_m[..., 2], np.nan)
    u = points_m[..., 0] / z * rig.fx + rig.cx
    v = points_m[..., 1] / z * rig.fy + rig.cy
    return np.stack([u, v], axis=-1)


def transform(pose: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    """Apply a 4x4 pose to (..., 3) points."""
    return points_m @ pose[:3, :3].T + pose[:3, 3]
