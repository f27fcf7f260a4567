"""Disparity <-> depth and the uncertainty of both. Z = bf / (d + doffs), sigma_Z = Z^2 / bf * sigma_d (first order)."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.types import StereoRig


def disparity_to_depth(disparity_px: np.ndarray, rig: StereoRig) -> np.ndarray:
    """Z in m, same shape, float32 (float64 kept); NaN where the disparity is NaN or d + doffs <= 0 (at or behind infinity)."""
    dtype = np.result_type(disparity_px.dtype, np.float32)
    shifted = np.asarray(disparity_px, dtype=dtype) + dtype.type(rig.doffs_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(shifted > 0, dtype.type(rig.bf) / shifted, dtype.type(np.nan))


def depth_to_disparity(depth_m: np.ndarray, rig: StereoRig) -> np.ndarray:
    """Raw disparity x_left - x_right in px of depths in m; NaN where the depth is NaN or not positive."""
    dtype = np.result_type(depth_m.dtype, np.float32)
    depth = np.asarray(depth_m, dtype=dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(depth > 0, dtype.type(rig.bf) / depth, dtype.type(np.nan)) - dtype.type(rig.doffs_px)


def depth_sigma(depth_m: np.ndarray, sigma_px: np.ndarray, rig: StereoRig) -> np.ndarray:
    """Standard deviation of Z in m, first order: Z^2 / bf * sigma_d."""
    return depth_m * depth_m * (sigma_px / np.float32(rig.bf))
