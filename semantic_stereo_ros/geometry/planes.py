"""Planes seen by a rectified stereo pair. In disparity space a plane is linear: d + doffs = a*u + b*v + c.

With X = Z * ray, Z = bf / (d + doffs) and n . X + offset = 0 this gives (a fx, b fy, a cx + b cy + c) = -bf / offset * n:
fitting needs no 3D points, and the noise along d is what the matcher reports (Labayrade et al., v-disparity, IV 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.types import Disparity, GroundPlane, StereoRig

_GRID_COLUMNS = 80


@dataclass(frozen=True, eq=False)
class SampleGrid:
    """A sparse grid of the pixels of a disparity map. Each (rows, columns) float64: u, v px; d + doffs px, NaN where unknown; how far
    from a plane an inlier may lie, px; the local slopes of d along u and v, px per px, NaN where unknown; and what noise makes of those."""

    u: np.ndarray
    v: np.ndarray
    d: np.ndarray
    tolerance: np.ndarray
    slope_u: np.ndarray
    slope_v: np.ndarray
    slope_tolerance: np.ndarray


def sample_grid(disparity: Disparity) -> SampleGrid:
    """About 80 columns of samples; the tolerance is two sigmas, half a pixel at least, plus 1 % of d for uneven surfaces."""
    height, width = disparity.rig.shape
    step = max(2, width // _GRID_COLUMNS)
    reach = max(1, min(step // 2, (height - 1) // 2))
    rows, columns = np.arange(reach, height - reach, step), np.arange(reach, width - reach, step)

    def pick(image: np.ndarray, dv: int = 0, du: int = 0) -> np.ndarray:
        return image[np.ix_(rows + dv, columns + du)].astype(np.float64)

    d = pick(disparity.disparity_px) + disparity.rig.doffs_px
    with np.errstate(invalid="ignore"):
        d[~(d > 0)] = np.nan
    slope_v = (pick(disparity.disparity_px, reach) - pick(disparity.disparity_px, -reach)) / (2 * reach)
    slope_u = (pick(disparity.disparity_px, 0, reach) - pick(disparity.disparity_px, 0, -reach)) / (2 * reach)
    v, u = np.meshgrid(rows.astype(np.float64), columns.astype(np.float64), indexing="ij")
    noise = np.maximum(2.0 * pick(disparity.sigma_px), 0.5)
    return SampleGrid(u, v, d, noise + 0.01 * d, slope_u, slope_v, 0.5 * noise / (2 * reach))


def plane_from_coefficients(abc: np.ndarray, rig: StereoRig) -> tuple[np.ndarray, float]:
    """(normal (3,) of unit length, offset_m > 0) of d + doffs = a*u + b*v + c: the camera lies on the side the normal points to."""
    a, b, c = (float(x) for x in abc)
    vector = np.array([a * rig.fx, b * rig.fy, a * rig.cx + b * rig.cy + c])
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise ValueError("the coefficients (0, 0, 0) are no plane")
    return -vector / length, rig.bf / length


def coefficients_of_plane(plane: GroundPlane, rig: StereoRig) -> np.ndarray:
    """(3,) float64 (a, b, c) with d + doffs = a*u + b*v + c on the plane, px."""
    x, y, z = -plane.normal * (rig.bf / plane.offset_m)
    a, b = x / rig.fx, y / rig.fy
    return np.array([a, b, z - a * rig.cx - b * rig.cy])


def plane_disparity(abc: np.ndarray, rig: StereoRig, stride: int = 1) -> np.ndarray:
    """(ceil(H/stride), ceil(W/stride)) float32: d + doffs of the plane at every stride-th pixel, px; <= 0 beyond its horizon."""
    width, height = rig.size_wh
    columns = np.float32(abc[0]) * np.arange(0, width, stride, dtype=np.float32)
    rows = np.float32(abc[1]) * np.arange(0, height, stride, dtype=np.float32) + np.float32(abc[2])
    return rows[:, None] + columns[None, :]


def hypotheses(u: np.ndarray, v: np.ndarray, d: np.ndarray, triples: np.ndarray) -> np.ndarray:
    """(M, 3) coefficients of the planes through each of the (M, 3) index triples, RANSAC's minimal samples; NaN for collinear pixels."""
    u, v, d = (x[triples].astype(np.float64) for x in (u, v, d))
    u1, u2, v1, v2 = u[:, 1] - u[:, 0], u[:, 2] - u[:, 0], v[:, 1] - v[:, 0], v[:, 2] - v[:, 0]
    d1, d2 = d[:, 1] - d[:, 0], d[:, 2] - d[:, 0]
    determinant = u1 * v2 - u2 * v1
    determinant[np.abs(determinant) < 1.0] = np.nan
    a = (d1 * v2 - d2 * v1) / determinant
    b = (u1 * d2 - u2 * d1) / determinant
    return np.stack([a, b, d[:, 0] - a * u[:, 0] - b * v[:, 0]], axis=1)


def refine(abc: np.ndarray, u: np.ndarray, v: np.ndarray, d: np.ndarray, tolerance_px: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Iteratively reweighted least squares from a start `abc`: Tukey's biweight at `tolerance_px`, inverse-variance weighting by it."""
    design = np.stack([u, v, np.ones_like(u)], axis=1).astype(np.float64)
    scale = np.array([max(float(u.max()), 1.0), max(float(v.max()), 1.0), 1.0])
    design /= scale
    for _ in range(rounds):
        residual = (d - design @ (abc * scale)) / tolerance_px
        weight = np.square(np.clip(1 - residual * residual, 0, 1)) / np.square(tolerance_px)
        normal = design.T @ (design * weight[:, None])
        if np.linalg.cond(normal) > 1e10:
            break
        abc = np.linalg.solve(normal, design.T @ (weight * d)) / scale
    return abc
