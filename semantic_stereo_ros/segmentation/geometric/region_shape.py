"""What a connected piece of surface is like: how large, how near its surroundings, how much of its outline stands out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.types import GroundPlane

_BESIDE_PIXELS = 3


@dataclass(frozen=True, eq=False)
class Regions:
    """One row per label 0..count; row 0 means nothing. pixels: of the working image. size_m (n, 3): extent along x, y, z between the 2nd
    and the 98th percentile, center_m (n, 3) the medians; low_m, high_m: 5th and 95th percentile of the height. outline, outline_front,
    outline_behind: pixels of the outline, those nearer than what lies beside, those farther.
    """

    pixels: np.ndarray
    size_m: np.ndarray
    center_m: np.ndarray
    low_m: np.ndarray
    high_m: np.ndarray
    outline_front: np.ndarray
    outline_behind: np.ndarray
    outline: np.ndarray

    @property
    def front_share(self) -> np.ndarray:
        """(n,) share of the stepped outline where the region is the nearer side; 0.5 where it has none."""
        total = self.outline_front + self.outline_behind
        return np.where(total > 0, self.outline_front / np.maximum(total, 1), 0.5)


def worth_keeping(
    regions: Regions,
    smallest_pixels: int,
    largest_m: np.ndarray,
    depth_noise: float,
    image_pixels: int,
    ground: GroundPlane | None,
    min_height_m: float,
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: what may be an object, and structures, which are too large for one. largest_m: (n,); depth_noise: sigma of
    Z / Z^2, 1/m; it is taken off the size along Z.

    Neither are the small; what does not stand out from its surroundings anywhere, such as a rest of a wall; what fills much of the image
    without being its foreground; and what is no higher than the ground is uneven, or low and long as a kerb is.
    """
    size_m = regions.size_m.copy()
    size_m[:, 2] = np.maximum(0.0, size_m[:, 2] - 4 * depth_noise * np.square(regions.center_m[:, 2]))
    keep = regions.pixels >= smallest_pixels
    keep &= regions.outline_front >= 0.15 * regions.outline
    keep &= (regions.pixels < 0.2 * image_pixels) | (regions.front_share > 0.7)
    if ground is not None:
        keep &= regions.high_m >= min_height_m + 3 * ground.sigma_m
        keep &= (regions.high_m > 0.4) | (regions.size_m.max(axis=1) < 5 * regions.high_m)
    keep[0] = False
    too_large = size_m.max(axis=1) > largest_m
    return keep & ~too_large, keep & too_large


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
    some = np.flatnonzero(labels)
    label_there = labels.ravel()[some].astype(np.uint16 if count < 65536 else np.int32)  # 16 bits are sorted in linear time
    pixels = np.bincount(label_there, minlength=count + 1)
    starts = np.concatenate([[0], np.cumsum(pixels)])
    order = some[np.argsort(label_there, kind="stable")]
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
    return Regions(pixels, size, center, low, high, front, behind, outline)


def _spread(values: np.ndarray, share: float) -> tuple[float, float, float]:
    n = values.size
    places = (int(share * (n - 1)), n // 2, int(np.ceil((1 - share) * (n - 1))))
    part = np.partition(values, places)
    return float(part[places[0]]), float(part[places[1]]), float(part[places[2]])


def outlines(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per label: pixels of its left, right and upper outline that are nearer than, farther than what lies beside; and all of them.

    What lies beside is taken a few pixels off, since matchers draw ramps over steps. The lower outline says nothing: there an object
    meets the ground that it stands on.
    """
    front, behind, outline = (np.zeros(count + 1, np.int64) for _ in range(3))
    height, width = labels.shape
    for down, right in ((0, 1), (0, -1), (-1, 0)):
        rim = np.zeros(labels.shape, bool)
        inner = _shifted(labels, down, right)
        rim[inner[0]] = labels[inner[0]] != labels[inner[1]]
        v, u = np.divmod(np.flatnonzero(rim & (labels > 0)), width)
        label = labels[v, u]
        beside = (np.clip(v + _BESIDE_PIXELS * down, 0, height - 1), np.clip(u + _BESIDE_PIXELS * right, 0, width - 1))
        step = d[v, u] - d[beside]
        limit = np.minimum(allowed[v, u], allowed[beside])
        front += np.bincount(label[step >= limit], minlength=count + 1)
        behind += np.bincount(label[step <= -limit], minlength=count + 1)
        outline += np.bincount(label, minlength=count + 1)
    return front, behind, outline


def _shifted(image: np.ndarray, down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the pixels that have a neighbour `down`, `right` of them, and of those neighbours."""
    own, other = [], []
    for size, step in zip(image.shape, (down, right)):
        own.append(slice(max(0, -step), size - max(0, step)))
        other.append(slice(max(0, step), size - max(0, -step)))
    return (own[0], own[1]), (other[0], other[1])
