"""What a connected piece of surface is like: how large, how near its surroundings, how much of its outline stands out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Regions:
    """One row per label 0..count (row 0 is the background's and means nothing). pixels: of the working image; size_m (n, 3): extent
    along x, y, z between the 2nd and 98th percentile; low_m, high_m: 5th and 95th percentile of the height above ground (of -y without
    one); outline_front, outline_behind: neighbours across a depth step that are farther, that are nearer; border: (n,) pixels at the image's border.
    """

    pixels: np.ndarray
    size_m: np.ndarray
    center_m: np.ndarray
    low_m: np.ndarray
    high_m: np.ndarray
    outline_front: np.ndarray
    outline_behind: np.ndarray
    outline: np.ndarray
    border: np.ndarray

    @property
    def front_share(self) -> np.ndarray:
        """(n,) share of the stepped outline where the region is the nearer side; 0.5 where it has none."""
        total = self.outline_front + self.outline_behind
        return np.where(total > 0, self.outline_front / np.maximum(total, 1), 0.5)


def describe(
    labels: np.ndarray,
    count: int,
    min_pixels: int,
    xyz: tuple[np.ndarray, np.ndarray, np.ndarray],
    height: np.ndarray,
    d: np.ndarray,
    allowed: np.ndarray,
) -> Regions:
    """Measure the regions of (h, w) labels that have `min_pixels` or more; the others keep zeros."""
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=count + 1)
    starts = np.concatenate([[0], np.cumsum(pixels)])
    order = np.argsort(flat, kind="stable")
    size, center = np.zeros((count + 1, 3), np.float32), np.zeros((count + 1, 3), np.float32)
    low, high = np.zeros(count + 1, np.float32), np.zeros(count + 1, np.float32)
    for label in np.flatnonzero(pixels >= min_pixels):
        if label == 0:
            continue
        where = order[starts[label] : starts[label + 1]]
        for axis in range(3):
            first, middle, last = _spread(xyz[axis].ravel()[where], 0.02)
            size[label, axis], center[label, axis] = last - first, middle
        low[label], _, high[label] = _spread(height.ravel()[where], 0.05)
    front, behind, outline = outlines(labels, count, d, allowed)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return Regions(pixels, size, center, low, high, front, behind, outline, np.bincount(edge, minlength=count + 1))


def _spread(values: np.ndarray, share: float) -> tuple[float, float, float]:
    n = values.size
    places = (int(share * (n - 1)), n // 2, int(np.ceil((1 - share) * (n - 1))))
    part = np.partition(values, places)
    return float(part[places[0]]), float(part[places[1]]), float(part[places[2]])


def outlines(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    front, behind, outline = (np.zeros(count + 1, np.int64) for _ in range(3))
    for a, b in (((slice(None), slice(1, None)), (slice(None), slice(None, -1))), ((slice(1, None),), (slice(None, -1),))):
        places = np.flatnonzero(labels[a] != labels[b])
        label_a, label_b = labels[a].ravel()[places], labels[b].ravel()[places]
        step = (d[a] - d[b]).ravel()[places]
        limit = np.minimum(allowed[a], allowed[b]).ravel()[places]
        nearer = np.where(step > 0, label_a, label_b)
        farther = np.where(step > 0, label_b, label_a)
        real = np.abs(step) >= limit
        front += np.bincount(nearer[real], minlength=count + 1)
        behind += np.bincount(farther[real], minlength=count + 1)
        outline += np.bincount(label_a, minlength=count + 1) + np.bincount(label_b, minlength=count + 1)
    return front, behind, outline
