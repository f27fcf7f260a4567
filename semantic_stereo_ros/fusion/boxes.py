"""Oriented boxes of all objects at once: upright on the ground plane when it is known, else along the principal axes."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.fusion.label_statistics import histogram
from semantic_stereo_ros.types import GroundPlane, OrientedBox

EXTENT_FRACTIONS = (0.01, 0.99)
BINS = 512


def fit(points: np.ndarray, label: np.ndarray, usable: np.ndarray, ground: GroundPlane | None) -> dict[int, OrientedBox]:
    """Boxes by label. points (N, 3) m, camera frame, with their (N,) labels; usable (n + 1,) bool says which labels to fit."""
    rows = usable.size
    count = np.maximum(np.bincount(label, minlength=rows), 1)
    up = None if ground is None else np.asarray(ground.normal, np.float64)
    mean = np.stack([np.bincount(label, points[:, k], rows) / count for k in range(3)], axis=1)
    centred = points - mean.astype(np.float32)[label]
    axes = _axes(centred, label, count, up)
    local = np.einsum("nk,nkj->nj", centred, axes.astype(np.float32)[label])
    ends = np.zeros((rows, 3, 2))
    for k in range(3):
        # one range for all: scale each object by its own spread first
        spread = np.sqrt(np.bincount(label, local[:, k] ** 2, rows) / count) + 1e-6
        table = histogram(label, local[:, k] / spread.astype(np.float32)[label], rows, BINS, (-8.0, 8.0))
        ends[:, k] = table.quantiles(EXTENT_FRACTIONS) * spread[:, None]
    centre = mean + np.einsum("nij,nj->ni", axes, ends.mean(axis=2))
    size = ends[:, :, 1] - ends[:, :, 0]
    quaternion = _quaternions(axes)
    return {int(i): OrientedBox(centre[i], size[i], quaternion[i]) for i in np.flatnonzero(usable)}


def _axes(centred: np.ndarray, label: np.ndarray, count: np.ndarray, up: np.ndarray | None) -> np.ndarray:
    """(rows, 3, 3) right-handed, columns are the box's axes in the camera frame; with `up` the third one is it."""
    rows = count.size
    flat = centred
    if up is not None:
        flat = centred - (centred @ up.astype(np.float32))[:, None] * up.astype(np.float32)
    covariance = np.empty((rows, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            covariance[:, i, j] = covariance[:, j, i] = np.bincount(label, flat[:, i] * flat[:, j], rows) / count
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
