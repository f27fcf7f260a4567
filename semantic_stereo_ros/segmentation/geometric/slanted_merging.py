"""A long side that recedes so steeply that it parts from the front - a car seen from behind - belongs to what its plane runs into."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.segmentation.geometric.region_merging import join, runs

_WIDEST_GAP_PIXELS = 16
_SMALLEST_SAMPLES = 25
_LEAST_SHARE = 0.45
# The drawn-on plane may miss the other's edge by this many allowed steps, and by this share of the step between the edges plus this many
# allowed steps: the slant must explain the step, or two upright faces one behind the other would become one.
_MOST_MISSED = 1.0
_MOST_UNEXPLAINED = 0.4
_SLACK = 0.25


def join_slants(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray) -> tuple[int, np.ndarray]:
    """(count, labels) after joining neighbours in a row of which the plane of the one, drawn on, meets the edge of the other.

    labels (h, w) int32; d: d + doffs, px; allowed: largest step within one surface, px.
    """
    planes = _planes(labels, count, d, allowed)
    width = labels.shape[1]
    starts, ends = runs(labels)
    flat, depth, limits = labels.ravel(), d.ravel(), allowed.ravel()
    named = np.flatnonzero(flat[starts] > 0)
    left, right = named[:-1], named[1:]
    fits = (starts[left] // width == starts[right] // width) & (flat[starts[left]] != flat[starts[right]])
    fits &= starts[right] - ends[left] <= _WIDEST_GAP_PIXELS
    left, right = left[fits], right[fits]
    at_left, at_right = np.maximum(ends[left] - 1, starts[left]), np.minimum(starts[right] + 1, ends[right])
    limit = np.minimum(limits[at_left], limits[at_right])
    meets = np.zeros(len(left), bool)
    step = np.abs(depth[at_left] - depth[at_right])
    for label, other in ((flat[at_left], at_right), (flat[at_right], at_left)):
        a, b, c = planes[label].T
        with np.errstate(invalid="ignore"):
            miss = np.abs(a * (other % width) + b * (other // width) + c - depth[other])
            meets |= (miss < _MOST_MISSED * limit) & (miss < _MOST_UNEXPLAINED * step + _SLACK * limit)
    first, second = flat[at_left[meets]], flat[at_right[meets]]
    pairs, votes = np.unique(np.stack([np.minimum(first, second), np.maximum(first, second)]), axis=1, return_counts=True)
    bonds = []
    for (a, b), number in zip(pairs.T.tolist(), votes.tolist()):
        rows = min(np.count_nonzero((labels == label).any(axis=1)) for label in (a, b))
        if number >= max(6, _LEAST_SHARE * rows):
            bonds.append((a, b))
    return join(labels, count, bonds)


def _planes(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(count + 1, 3) least-squares a, b, c of d = a*u + b*v + c over each label; NaN for small ones and for those that are not flat."""
    sparse = (slice(None, None, 2), slice(None, None, 2))
    label = labels[sparse].ravel().astype(np.int64)
    columns = np.broadcast_to(np.arange(0, labels.shape[1], 2, dtype=np.float64), labels[sparse].shape).ravel()
    lines = np.repeat(np.arange(0, labels.shape[0], 2, dtype=np.float64), labels[sparse].shape[1])
    some = np.flatnonzero(label)
    label, u, v, z = label[some], columns[some], lines[some], d[sparse].ravel()[some].astype(np.float64)

    def total(values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(label, weights=values, minlength=count + 1)

    n = np.maximum(total(), 1)
    mean_u, mean_v, mean_z = total(u) / n, total(v) / n, total(z) / n
    u, v, z = u - mean_u[label], v - mean_v[label], z - mean_z[label]
    uu, uv, vv, uz, vz, zz = total(u * u), total(u * v), total(v * v), total(u * z), total(v * z), total(z * z)
    determinant = np.where(uu * vv - uv * uv > 1e-6 * (uu * vv + 1e-9), uu * vv - uv * uv, np.nan)
    a, b = (uz * vv - vz * uv) / determinant, (vz * uu - uz * uv) / determinant
    rms = np.sqrt(np.maximum(zz - a * uz - b * vz, 0) / n)
    flat = (n >= _SMALLEST_SAMPLES) & (rms < 1.0 * total(allowed[sparse].ravel()[some].astype(np.float64)) / n)
    planes = np.stack([a, b, mean_z - a * mean_u - b * mean_v], axis=1)
    planes[~flat] = np.nan
    return planes
