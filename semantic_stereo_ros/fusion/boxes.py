"""Oriented boxes of all objects at once: upright on the ground plane when it is known, else along the principal axes."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.fusion.label_statistics import row_counts, row_quantiles
from semantic_stereo_ros.types import GroundPlane, OrientedBox

EXTENT_FRACTIONS = (0.01, 0.99)


def fit(points: np.ndarray, kept: np.ndarray, ground: GroundPlane | None) -> list[OrientedBox]:
    """One box per object: principal axes (PCA), extents between the 1st and the 99th percentile.

    points (3, n, K) float32 m, camera frame; kept (n, K) bool, which of an object's points count.
    """
    from scipy.spatial.transform import Rotation

    chosen = row_counts(kept)
    count = np.maximum(chosen, 1)
    up = None if ground is None else np.asarray(ground.normal, np.float64)
    own = np.where(kept, points, np.float32(0.0)).transpose(1, 0, 2)
    mean = own.sum(axis=2) / count[:, None]
    centred = (own - mean.astype(np.float32)[:, :, None]) * kept[:, None, :]
    axes = _axes((centred @ centred.transpose(0, 2, 1)).astype(np.float64) / count[:, None, None], up)
    local = axes.transpose(0, 2, 1).astype(np.float32) @ centred
    ends = row_quantiles(local.transpose(1, 0, 2), kept, chosen, EXTENT_FRACTIONS).transpose(1, 0, 2)
    centre = mean + np.einsum("nij,nj->ni", axes, ends.mean(axis=2))
    size = ends[:, :, 1] - ends[:, :, 0]
    return [OrientedBox(*box) for box in zip(centre, size, Rotation.from_matrix(axes).as_quat())]


def _axes(covariance: np.ndarray, up: np.ndarray | None) -> np.ndarray:
    """(n, 3, 3) right-handed, columns are the box's axes in the camera frame; with `up` the third one is it. covariance: of the points."""
    rows = len(covariance)
    if up is not None:
        flat = np.eye(3) - np.outer(up, up)
        covariance = flat @ covariance @ flat
    _, vectors = np.linalg.eigh(covariance)  # ascending
    first = vectors[:, :, 2]
    third = np.broadcast_to(up, (rows, 3)) if up is not None else vectors[:, :, 0]
    if up is not None:
        first = first - (first @ up)[:, None] * up
        length = np.linalg.norm(first, axis=1)
        spare = np.cross(up, [0.0, 0.0, 1.0] if abs(up[2]) < 0.9 else [1.0, 0.0, 0.0])
        first = np.where(length[:, None] > 1e-6, first / np.maximum(length, 1e-6)[:, None], spare / np.linalg.norm(spare))
    first = np.where(first[:, :1] < 0, -first, first)
    second = np.cross(third, first)
    return np.stack([first, second, third], axis=2)
