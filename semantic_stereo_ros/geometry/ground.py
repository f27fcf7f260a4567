"""The ground plane of one frame, from its disparities alone, and heights above it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, GroundPlane, StereoRig

_HYPOTHESES = 240
_SCORED_SAMPLES = 800
_USUAL_PITCH_DEG, _USUAL_ROLL_DEG = 30.0, 15.0  # standard deviations of how cameras are mounted
_LEAST_AGREEING = 0.3
_LEAST_SLOPE = 0.6


@dataclass(frozen=True)
class GroundConfig:
    """What may pass for ground."""

    max_pitch_deg: float = option(50.0, "largest pitch of the camera against the ground", unit="deg", minimum=0.0, maximum=85.0)
    max_roll_deg: float = option(25.0, "largest roll of the camera against the ground", unit="deg", minimum=0.0, maximum=85.0)
    min_fraction: float = option(0.08, "smallest share of the known pixels that must lie on the ground", minimum=0.0, maximum=1.0)


@dataclass(frozen=True, eq=False)
class _Samples:
    """A sparse grid of known pixels: (N,) u, v px, d + doffs px, inlier tolerance px, local slopes of d, their tolerance, and whether the
    surface there faces up."""

    u: np.ndarray
    v: np.ndarray
    d: np.ndarray
    tolerance: np.ndarray
    slope_u: np.ndarray
    slope_v: np.ndarray
    slope_tolerance: np.ndarray
    faces_up: np.ndarray


def estimate_ground(disparity: Disparity, config: GroundConfig | None = None, prior: GroundPlane | None = None) -> GroundPlane | None:
    """The ground plane by RANSAC, or None when nothing in view can be ground (a wall, a view straight down, too few known pixels).

    The lowest large plane whose normal lies within the config's roll and pitch of straight up, the less tilted before the more tilted, and
    whose pixels slope as it does: a plane through a terrace of upright things is none. The fit is deterministic. `prior`, the plane of
    an earlier frame, enters as one more hypothesis: a good one steadies the choice, a wrong one loses.
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
    best = tried[int(np.argmax(_score(tried, samples, rig)))]
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
    slopes = grid.slope_u[known], grid.slope_v[known], grid.slope_tolerance[known]
    return _Samples(grid.u[known], grid.v[known], grid.d[known], grid.tolerance[known], *slopes, faces_up[known])


def _is_level(abc: np.ndarray, rig: StereoRig, config: GroundConfig) -> np.ndarray:
    """(...,) bool: the planes (..., 3) whose normal lies within the limits of straight up (-y), camera above them."""
    a, b, c = abc[..., 0], abc[..., 1], abc[..., 2]
    x, y, z = -a * rig.fx, -b * rig.fy, -(a * rig.cx + b * rig.cy + c)
    with np.errstate(invalid="ignore"):
        up = -y
        roll_ok = np.abs(x) <= up * np.tan(np.radians(config.max_roll_deg))
        pitch_ok = np.abs(z) <= np.hypot(x, up) * np.tan(np.radians(config.max_pitch_deg))
        return (up > 0) & roll_ok & pitch_ok


def _score(tried: np.ndarray, samples: _Samples, rig: StereoRig) -> np.ndarray:
    """MSAC score (inliers count by how well they fit; Torr & Zisserman, 2000) of the samples that do not slope otherwise, weighted by how
    usual the tilt is, less the pixels seen below the plane: a table top loses to the floor under it."""
    few = slice(None, None, max(1, samples.d.size // _SCORED_SAMPLES))
    some = _Samples(*(getattr(samples, f.name)[few].astype(np.float32) for f in fields(samples)))
    a, b, c = tried.astype(np.float32).T[:, :, None]
    residual = (some.d - (a * some.u + b * some.v + c)) / some.tolerance
    inliers = np.clip(1 - residual * residual, 0, 1)
    inliers[_slopes_otherwise(a, b, some)] = 0
    below = np.count_nonzero(residual < -3, axis=1)
    return inliers.sum(axis=1) * _tilt_prior(tried, rig) - below


def _slopes_otherwise(a: np.ndarray, b: np.ndarray, samples: _Samples) -> np.ndarray:
    """Whether local slopes contradict planes of slopes a along u, b along v: by half of b and what noise explains. Unknown ones do not."""
    allowed = 0.5 * np.abs(b) + samples.slope_tolerance
    with np.errstate(invalid="ignore"):
        return (np.abs(samples.slope_v - b) > allowed) | (np.abs(samples.slope_u - a) > allowed)


def _slopes_agree(abc: np.ndarray, samples: _Samples, inlier: np.ndarray) -> bool:
    """Whether inliers slope as the plane does: many of them, where scattered matches slope anyhow, and their median as much, where upright
    things one above the other do not slope at all."""
    sloped = inlier & np.isfinite(samples.slope_u) & np.isfinite(samples.slope_v)
    if not sloped.any():
        return True
    agreeing = np.count_nonzero(sloped & ~_slopes_otherwise(abc[0], abc[1], samples))
    steep = float(np.median(samples.slope_v[sloped])) > _LEAST_SLOPE * abc[1]
    return steep and bool(agreeing >= _LEAST_AGREEING * np.count_nonzero(sloped))


def _tilt_prior(abc: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(M,) in 0..1: Gaussian in the pitch and the roll of the camera against each of the planes (M, 3)."""
    a, b, c = abc.T
    x, y, z = -a * rig.fx, -b * rig.fy, -(a * rig.cx + b * rig.cy + c)
    roll, pitch = np.degrees(np.arctan2(x, -y)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    return np.exp(-0.5 * (np.square(roll / _USUAL_ROLL_DEG) + np.square(pitch / _USUAL_PITCH_DEG)))


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
    if not _slopes_agree(abc, samples, inlier):
        return None
    normal, offset = planes.plane_from_coefficients(abc, rig)
    heights = offset * (1 - predicted[inlier] / samples.d[inlier])
    sigma = 1.4826 * float(np.median(np.abs(heights - np.median(heights))))
    return GroundPlane(normal=normal, offset_m=offset, sigma_m=sigma)
