"""Oriented boxes of all objects at once: upright on the ground plane when it is known, else along the principal axes."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.fusion.label_statistics import segment_quantiles, segment_sums
from semantic_stereo_ros.types import GroundPlane, OrientedBox

EXTENT_FRACTIONS = (0.01, 0.99)


def fit(points: np.ndarray, bounds: np.ndarray, usable: np.ndarray, ground: GroundPlane | None) -> dict[int, OrientedBox]:
    """Boxes by label. points (3, N) m, camera frame, those of label l in bounds[l]:bounds[l + 1]; usable (n + 1,) says which to fit."""
    each = np.diff(bounds)
    count = np.maximum(each, 1)
    up = None if ground is None else np.asarray(ground.normal, np.float64)
    mean = (segment_sums(points, bounds) / count).T
    centred = points - np.repeat(mean.T.astype(np.float32), each, axis=1)
    axes = _axes(centred, bounds, count, up)
    local = np.einsum("kn,kjn->jn", centred, np.repeat(axes.astype(np.float32).transpose(1, 2, 0), each, axis=2))
    # the objects' sizes differ: one range for all wants each scaled by its own spread
    spread = np.sqrt(segment_sums(local * local, bounds) / count) + 1e-6
    local /= np.repeat(spread.astype(np.float32), each, axis=1)
    ends = np.stack([segment_quantiles(local[k], bounds, EXTENT_FRACTIONS).T * spread[k][:, None] for k in range(3)], axis=1)
    centre = mean + np.einsum("nij,nj->ni", axes, ends.mean(axis=2))
    size = ends[:, :, 1] - ends[:, :, 0]
    quaternion = _quaternions(axes)
    return {int(i): OrientedBox(centre[i], size[i], quaternion[i]) for i in np.flatnonzero(usable)}


def _axes(centred: np.ndarray, bounds: np.ndarray, count: np.ndarray, up: np.ndarray | None) -> np.ndarray:
    """(rows, 3, 3) right-handed, columns are the box's axes in the camera frame; with `up` the third one is it."""
    rows = count.size
    flat = centred
    if up is not None:
        upward = up.astype(np.float32)[:, None]
        flat = centred - (centred * upward).sum(axis=0) * upward
    covariance = np.empty((rows, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            covariance[:, i, j] = covariance[:, j, i] = segment_sums(flat[i] * flat[j], bounds) / count
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


def _quaternions(axes: np.ndarray) -> np.ndarray:
    """(n, 4) xyzw of (n, 3, 3) rotation matrices (S. W. Shepperd, 1978: pick the largest component first)."""
    m = axes
    trace = m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2]
    squares = np.stack([1 + 2 * m[:, k, k] - trace for k in range(3)] + [1 + trace], axis=1)
    largest = np.argmax(squares, axis=1)
    n = np.arange(len(m))
    out = np.empty((len(m), 4))
    symmetric = {(0, 1): m[:, 0, 1] + m[:, 1, 0], (0, 2): m[:, 0, 2] + m[:, 2, 0], (1, 2): m[:, 1, 2] + m[:, 2, 1]}
    skew = (m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1])
    products = np.empty((len(m), 4, 4))
    for i in range(4):
        products[:, i, i] = squares[:, i]
    for (i, j), value in symmetric.items():
        products[:, i, j] = products[:, j, i] = value
    for k in range(3):
        products[:, k, 3] = products[:, 3, k] = skew[k]
    out = products[n, largest]
    return out / np.linalg.norm(out, axis=1, keepdims=True)
