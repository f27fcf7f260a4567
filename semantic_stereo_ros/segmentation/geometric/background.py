"""What is no object: walls, a floor seen from straight above, and uneven ground."""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.segmentation.geometric.region_shape import outlines
from semantic_stereo_ros.types import GroundPlane, StereoRig

_HYPOTHESES = 160
_SCORED_SAMPLES = 800
_MOST_PLANES = 4
_SMALLEST_SHARE = 0.04
_MOST_BEHIND = 0.03
_LARGEST_LEAN = 0.2
_SLOPE_ROWS = 3
_WIDE_M = 0.8


def background_planes(grid: planes.SampleGrid, rig: StereoRig, ground: GroundPlane | None) -> list[np.ndarray]:
    """Coefficients (a, b, c) of d + doffs of the planes that bound the view, by sequential RANSAC, largest first; not the ground itself.

    A face of an object is a plane as well, but the scene goes on behind it; behind a wall there is nothing but false matches.
    With a ground, the planes must stand upright on it; without one, any plane will do.
    """
    known = np.isfinite(grid.d) & np.isfinite(grid.tolerance)
    everything = int(np.count_nonzero(known))
    free = known.copy()
    u, v, d, tolerance = (x[known] for x in (grid.u, grid.v, grid.d, grid.tolerance))
    if ground is not None:
        abc = planes.coefficients_of_plane(ground, rig)
        with np.errstate(invalid="ignore"):
            free &= np.abs(grid.d - (abc[0] * grid.u + abc[1] * grid.v + abc[2])) > grid.tolerance
    found: list[np.ndarray] = []
    rng = np.random.default_rng(0)
    for _ in range(_MOST_PLANES):
        if np.count_nonzero(free) < max(20, _SMALLEST_SHARE * everything):
            break
        tried = _local_hypotheses(grid, free, rng)
        tried = tried[_is_upright(tried, rig, ground)]
        if not len(tried):
            break
        score = _score(tried, u, v, d, tolerance, free[known])
        best = planes.refine(tried[int(np.argmax(score))], grid.u[free], grid.v[free], grid.d[free], grid.tolerance[free])
        residual = grid.d - (best[0] * grid.u + best[1] * grid.v + best[2])
        with np.errstate(invalid="ignore"):
            inlier = free & (np.abs(residual) < grid.tolerance)
            behind = np.count_nonzero(known & (residual < -3 * grid.tolerance))
        count = np.count_nonzero(inlier)
        if (
            count < _SMALLEST_SHARE * everything
            or behind > max(_MOST_BEHIND * everything, 0.1 * count)
            or not _is_upright(best[None], rig, ground)[0]
        ):
            break
        found.append(best)
        free &= ~inlier
    return found


def stands_out(mask: np.ndarray, d: np.ndarray, allowed: np.ndarray) -> bool:
    """True when much of the outline of (h, w) `mask` is nearer than what is beside it: the face of an object, not a wall."""
    smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    front, _, outline = outlines(smooth.astype(np.int32), 1, d, allowed)
    return bool(front[1] > 0.3 * max(int(outline[1]), 1))


def _local_hypotheses(grid: planes.SampleGrid, free: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Planes through three samples, the other two within a sixth of the rows and an eighth of the columns about the first: mostly of one
    surface."""
    rows, columns = grid.d.shape
    first = rng.choice(np.flatnonzero(free), _HYPOTHESES)
    row, column = np.divmod(first, columns)
    triples = [first]
    for _ in range(2):
        other_row = np.clip(row + rng.integers(-rows // 6, rows // 6 + 1, _HYPOTHESES), 0, rows - 1)
        other_column = np.clip(column + rng.integers(-columns // 8, columns // 8 + 1, _HYPOTHESES), 0, columns - 1)
        triples.append(other_row * columns + other_column)
    index = np.stack(triples, axis=1)
    index = index[free.ravel()[index].all(axis=1)]
    tried = planes.hypotheses(grid.u.ravel(), grid.v.ravel(), grid.d.ravel(), index)
    return tried[np.isfinite(tried).all(axis=1)]


def _is_upright(tried: np.ndarray, rig: StereoRig, ground: GroundPlane | None) -> np.ndarray:
    if ground is None:
        return np.ones(len(tried), bool)
    a, b, c = tried.T
    normals = np.stack([a * rig.fx, b * rig.fy, a * rig.cx + b * rig.cy + c], axis=1)
    return np.abs(normals @ ground.normal) < _LARGEST_LEAN * np.linalg.norm(normals, axis=1)


def _score(tried: np.ndarray, u: np.ndarray, v: np.ndarray, d: np.ndarray, tolerance: np.ndarray, free: np.ndarray) -> np.ndarray:
    """MSAC score over the free samples (see geometry/ground.py), less twice the samples seen behind the plane."""
    few = slice(None, None, max(1, d.size // _SCORED_SAMPLES))
    u, v, d, tolerance, free = (x[few].astype(np.float32) for x in (u, v, d, tolerance, free))
    a, b, c = tried.astype(np.float32).T[:, :, None]
    residual = (d - (a * u + b * v + c)) / tolerance
    inliers = (np.clip(1 - residual * residual, 0, 1) * free).sum(axis=1)
    return inliers - 2 * np.count_nonzero(residual < -3, axis=1)


def terrain(d: np.ndarray, height_m: np.ndarray, near_ground: np.ndarray, ground: GroundPlane, rig: StereoRig, stride: int) -> np.ndarray:
    """(h, w) bool: kerbs, lawns, slopes - connected components, wide and low, that face up but do not lie in the ground plane.

    A horizontal surface at height h changes its disparity by bf * |n_y| / (fy * (offset - h)) px per row; an upright one hardly does.
    """
    up_facing = np.zeros(d.shape, np.uint8)
    reach = _SLOPE_ROWS
    if d.shape[0] <= 2 * reach:
        return up_facing > 0
    below_camera = np.maximum(np.float32(ground.offset_m) - height_m, np.float32(0.1))
    expected = np.float32(rig.bf * abs(ground.normal[1]) / rig.fy * 2 * reach * stride) / below_camera[reach:-reach]
    change = d[2 * reach :] - d[: -2 * reach]
    up_facing[reach:-reach] = (change > 0.5 * expected) & (change < 2 * expected)
    up_facing &= near_ground.astype(np.uint8)
    up_facing = cv2.morphologyEx(up_facing, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(up_facing, connectivity=4)
    labels = np.asarray(labels, np.int32)
    some = np.flatnonzero(labels)
    label = labels.ravel()[some]
    pixels = np.maximum(np.bincount(label, minlength=count), 1)
    mean_d = np.bincount(label, weights=d.ravel()[some], minlength=count) / pixels
    mean_height = np.bincount(label, weights=height_m.ravel()[some], minlength=count) / pixels
    width_m = stats[:, cv2.CC_STAT_WIDTH] * (stride * rig.baseline_m) / np.maximum(mean_d, 1e-3)
    wide = width_m > np.maximum(_WIDE_M, 4 * mean_height)
    wide[0] = False
    return wide[labels]
