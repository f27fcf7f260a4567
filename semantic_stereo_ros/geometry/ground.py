"""The ground plane of one frame, from its disparities alone, and heights above it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, GroundPlane, StereoRig

_HYPOTHESES = 240
_SCORED_SAMPLES = 800


@dataclass(frozen=True)
class GroundConfig:
    """What may pass for ground."""

    max_pitch_deg: float = option(50.0, "largest pitch of the camera against the ground", unit="deg", minimum=0.0, maximum=85.0)
    max_roll_deg: float = option(25.0, "largest roll of the camera against the ground", unit="deg", minimum=0.0, maximum=85.0)
    min_fraction: float = option(0.08, "smallest share of the known pixels that must lie on the ground", minimum=0.0, maximum=1.0)


@dataclass(frozen=True, eq=False)
class _Samples:
    """A sparse grid of known pixels: (N,) u, v px, d + doffs px, inlier tolerance px, and whether the surface there faces up."""

    u: np.ndarray
    v: np.ndarray
    d: np.ndarray
    tolerance: np.ndarray
    faces_up: np.ndarray


def estimate_ground(disparity: Disparity, config: GroundConfig | None = None, prior: GroundPlane | None = None) -> GroundPlane | None:
    """The ground plane by RANSAC, or None when nothing in view can be ground (a wall, a view straight down, too few known pixels).

    The lowest large plane whose normal lies within the config's roll and pitch of straight up; its fit is deterministic. `prior`,
    the plane of an earlier frame, enters as one more hypothesis: a good one steadies the choice, a wrong one loses.
    """
    config = config or GroundConfig()
    samples = _select(planes.sample_grid(disparity), disparity.rig, config)
    candidates = np.flatnonzero(samples.faces_up)
    rig = disparity.rig
    if candidates.size < 12:
        return None
    rng = np.random.default_rng(0)
    triples = candidates[(rng.random((_HYPOTHESES, 3)) * candidates.size).astype(np.int64)]
    tried = planes.hypotheses(samples.u, samples.v, samples.d, triples)
    if prior is not None:
        tried = np.vstack([tried, planes.coefficients_of_plane(prior, rig)])
    tried = tried[np.isfinite(tried).all(axis=1)]
    tried = tried[_is_level(tried, rig, config)]
    if not len(tried):
        return None
    best = tried[int(np.argmax(_score(tried, samples)))]
    best = planes.refine(best, samples.u, samples.v, samples.d, samples.tolerance)
    return _accept(best, samples, rig, config)


def height_above(disparity: Disparity, ground: GroundPlane, stride: int = 1) -> np.ndarray:
    """(ceil(H/stride), ceil(W/stride)) float32 height above the ground in m of every stride-th pixel; NaN where the disparity is.

    With dg the ground's disparity at the pixel: h = offset * (1 - dg / d), no 3D point needed.
    """
    rig = disparity.rig
    on_ground = planes.plane_disparity(planes.coefficients_of_plane(ground, rig), rig, stride)
    d = disparity.disparity_px[::stride, ::stride] + np.float32(rig.doffs_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(d > 0, np.float32(ground.offset_m) * (1 - on_ground / d), np.float32(np.nan))


def _select(grid: planes.SampleGrid, rig: StereoRig, config: GroundConfig) -> _Samples:
    known = np.isfinite(grid.d) & np.isfinite(grid.tolerance)
    local = np.stack([grid.slope_u, grid.slope_v, grid.d - grid.slope_u * grid.u - grid.slope_v * grid.v], axis=-1)
    # One pixel of noise over the reach tilts the local normal much: the plane's own check is the strict one.
    lenient = GroundConfig(min(config.max_pitch_deg + 20, 85), min(config.max_roll_deg + 25, 85), 0.0)
    faces_up = known & np.isfinite(local).all(axis=-1) & _is_level(local, rig, lenient)
    return _Samples(grid.u[known], grid.v[known], grid.d[known], grid.tolerance[known], faces_up[known])


def _is_level(abc: np.ndarray, rig: StereoRig, config: GroundConfig) -> np.ndarray:
    """(...,) bool: the planes (..., 3) whose normal lies within the limits of straight up (-y), camera above them."""
    a, b, c = abc[..., 0], abc[..., 1], abc[..., 2]
    x, y, z = -a * rig.fx, -b * rig.fy, -(a * rig.cx + b * rig.cy + c)
    with np.errstate(invalid="ignore"):
        up = -y
        roll_ok = np.abs(x) <= up * np.tan(np.radians(config.max_roll_deg))
        pitch_ok = np.abs(z) <= np.hypot(x, up) * np.tan(np.radians(config.max_pitch_deg))
        return (up > 0) & roll_ok & pitch_ok


def _score(tried: np.ndarray, samples: _Samples) -> np.ndarray:
    """MSAC score (inliers count by how well they fit; Torr & Zisserman, 2000) less the pixels seen below the plane: a table top loses to
    the floor under it."""
    few = slice(None, None, max(1, samples.d.size // _SCORED_SAMPLES))
    u, v, d, tolerance = (x[few].astype(np.float32) for x in (samples.u, samples.v, samples.d, samples.tolerance))
    a, b, c = tried.astype(np.float32).T[:, :, None]
    residual = (d - (a * u + b * v + c)) / tolerance
    inliers = np.clip(1 - residual * residual, 0, 1).sum(axis=1)
    below = np.count_nonzero(residual < -3, axis=1)
    return inliers - below


def _accept(abc: np.ndarray, samples: _Samples, rig: StereoRig, config: GroundConfig) -> GroundPlane | None:
    if not (np.isfinite(abc).all() and _is_level(abc, rig, config)):
        return None
    predicted = abc[0] * samples.u + abc[1] * samples.v + abc[2]
    residual = samples.d - predicted
    inlier = np.abs(residual) < samples.tolerance
    count = int(np.count_nonzero(inlier))
    below = int(np.count_nonzero(residual < -3 * samples.tolerance))
    if count < max(30, config.min_fraction * samples.d.size) or 2 * below > count:
        return None
    normal, offset = planes.plane_from_coefficients(abc, rig)
    heights = offset * (1 - predicted[inlier] / samples.d[inlier])
    sigma = 1.4826 * float(np.median(np.abs(heights - np.median(heights))))
    return GroundPlane(normal=normal, offset_m=offset, sigma_m=sigma)
