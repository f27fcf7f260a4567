"""No matching at all: the disparity or depth that the camera measured itself (RealSense, ZED, OAK, Isaac), with a sigma model.

    sigma_Z = hypot(Z^2 / (fx * baseline_m) * sigma_px, sigma_m + sigma_per_m * Z + sigma_per_m2 * Z^2)

The first term is a stereo camera's, whose errors have one size in px of disparity; the second is a depth camera's of another kind
(time of flight, structured light), as its data sheet gives it. All of it is turned into px of the frame's rig, whose baseline
then cancels: a depth camera's rig has any baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ConfigError, ImageError
from semantic_stereo_ros.geometry.depth import depth_to_disparity, disparity_to_depth
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.uncertainty import CONSTANT_SIGMA_PX
from semantic_stereo_ros.types import Disparity, Measured, StereoFrame, StereoRig


@dataclass(frozen=True)
class Config:
    """How far the camera's own measurement is believed."""

    sigma_px: float = option(
        CONSTANT_SIGMA_PX, "a stereo camera's standard deviation of disparity; 0 for other cameras", unit="px", minimum=0.0, maximum=100.0
    )
    baseline_m: float = option(
        0.0, "baseline that sigma_px belongs to; 0 = that of the frame's calibration", unit="m", minimum=0.0, maximum=100.0
    )
    sigma_m: float = option(0.0, "constant part of a depth camera's standard deviation", unit="m", minimum=0.0, maximum=100.0)
    sigma_per_m: float = option(0.0, "part that grows with the depth: 0.01 is 1 %", unit="m/m", minimum=0.0, maximum=1.0)
    sigma_per_m2: float = option(0.0, "part that grows with the depth squared", unit="m/m^2", minimum=0.0, maximum=10.0)
    min_depth_m: float = option(0.1, "what is nearer becomes unknown", unit="m", minimum=0.001, maximum=1000.0)
    max_depth_m: float = option(0.0, "what is farther becomes unknown; 0 = no limit", unit="m", minimum=0.0, maximum=100000.0)
    min_confidence: float = option(0.0, "pixels that the camera trusts less become unknown", minimum=0.0, maximum=1.0)
    confidence: float = option(0.9, "confidence of each known pixel where the camera gives none", minimum=0.01, maximum=1.0)


class Backend:
    """Turns `frame.measured` into a Disparity."""

    stateful = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self) -> None:
        """Check what one option alone cannot. Raises ConfigError for a sigma of zero at all depths and for an empty range."""
        config = self.config
        if not (config.sigma_px or config.sigma_m or config.sigma_per_m or config.sigma_per_m2):
            raise ConfigError("sigma_px, sigma_m, sigma_per_m and sigma_per_m2 are all 0, but no camera is free of error: set one of them")
        if config.max_depth_m and config.max_depth_m <= config.min_depth_m:
            raise ConfigError(f"max_depth_m must be above min_depth_m = {config.min_depth_m:g}, got {config.max_depth_m:g}; 0 = no limit")

    def load(self) -> None:
        """Nothing to load. Raises what `check` raises."""
        self.check()

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Raises ImageError when the frame brings no measurement, or one that cannot be a disparity."""
        measured, rig, config = frame.measured, frame.rig, self.config
        if measured is None:
            raise ImageError(
                "the stereo backend external needs a disparity or depth that the camera measured, and the frame has none: set "
                "input.external to disparity or depth, give --disparity or --depth to `run`, or choose another backend"
            )
        depth_m = measured.depth_m
        if depth_m is None:
            _check_sign(measured, rig)
            depth_m = disparity_to_depth(measured.values, rig)
        with np.errstate(invalid="ignore"):
            known = np.isfinite(depth_m) & (depth_m >= config.min_depth_m)
            if config.max_depth_m:
                known &= depth_m <= config.max_depth_m
            if config.min_confidence and measured.confidence is not None:
                known &= measured.confidence >= config.min_confidence
        nan = np.float32(np.nan)
        disparity_px = np.where(known, depth_to_disparity(depth_m, rig) if measured.depth_m is not None else measured.values, nan)
        sigma_px = self._sigma_px(np.where(known, depth_m, nan), rig)
        confidence = np.where(known, np.float32(config.confidence) if measured.confidence is None else measured.confidence, np.float32(0))
        confidence = np.nan_to_num(np.clip(confidence, 0, 1), nan=0.0)
        farthest_px = rig.bf / config.max_depth_m if config.max_depth_m else 0.0
        return Disparity(disparity_px, sigma_px, confidence, rig, farthest_px - rig.doffs_px, rig.bf / config.min_depth_m - rig.doffs_px)

    def _sigma_px(self, depth_m: np.ndarray, rig: StereoRig) -> np.ndarray:
        """The module's model in px of the rig's disparity: sigma_d = bf / Z^2 * sigma_Z. (H, W) float32, NaN where depth_m is."""
        config = self.config
        stereo_px = config.sigma_px * rig.baseline_m / (config.baseline_m or rig.baseline_m)
        if not (config.sigma_m or config.sigma_per_m or config.sigma_per_m2):
            return np.where(np.isnan(depth_m), depth_m, np.float32(stereo_px))
        other_px = np.float32(rig.bf) * ((np.float32(config.sigma_m) / depth_m + np.float32(config.sigma_per_m)) / depth_m)
        return np.hypot(np.float32(stereo_px), other_px + np.float32(rig.bf * config.sigma_per_m2))

    def reset(self, reason: str) -> None:
        """Nothing is kept between frames."""

    def close(self) -> None:
        """Nothing is held."""


def _check_sign(measured: Measured, rig: StereoRig) -> None:
    """Drivers exist that give x_right - x_left."""
    values = measured.values[np.isfinite(measured.values)]
    negative = np.count_nonzero(values + np.float32(rig.doffs_px) < 0)
    if values.size and negative > 0.5 * values.size:
        raise ImageError(
            f"{negative / values.size:.0%} of the given disparities lie behind infinity (d + doffs < 0): a disparity is x_left - x_right, "
            "so the driver may give its negative; take its depth instead"
        )
