"""Where an object could stand unseen: unknown regions of the view that are near, in the way and large enough to hide one.

An object in an unknown region stands before whatever bounds the region, so it looks at least as large as it would at that distance. See
docs/decisions/0011-free-space.md.
"""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.fusion.assemble import ObstacleConfig
from semantic_stereo_ros.fusion.object_statistics import RANGE_MARGIN_PX
from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.types import Disparity, GroundPlane, HiddenSpace, StereoRig

_COLUMNS = 160
_SMALLEST_PX = 12.0  # side of the smallest thing that is reported: segmentation.geometric.min_pixels
_UNKNOWN_SHARE = 0.8  # a hole with false matches in it is still a hole
_MOST_UNKNOWN_BESIDE = 0.5  # a match among unknown pixels, as in the sky, bounds nothing
_STRIP_SLACK = 1.1
_SKY_SHARE = 1 / 3  # upper part of the view that says nothing of the way where no ground is known


def hidden_space(disparity: Disparity, ground: GroundPlane | None, size_m: float, range_m: float) -> HiddenSpace | None:
    """Whether an object `size_m` wide and high could stand unseen before the camera, `range_m` away at most; None where it could not.

    Unknown are pixels without a disparity and those at the near end of the searched range. A region counts where a square of the object's
    size in the image, at the distance of what bounds the region (the ground behind it, or the farther of its neighbours in the row), is
    unknown. Left out: what lies beyond `range_m` or above the band of obstacles (without a ground: the view's upper third), and the strip
    at the left border that the right camera does not see. What is known to be nearer than the range searched always counts.
    """
    rig = disparity.rig
    step = max(1, rig.size_wh[0] // _COLUMNS)
    shape = rig.shape[0] // step, rig.shape[1] // step
    if min(shape) < 1:
        return None
    known = _known(disparity)
    unknown = 1 - _cells(known, shape, step)
    middle = slice(step // 2, None, step), slice(step // 2, None, step)
    d = disparity.disparity_px[middle][: shape[0], : shape[1]] + np.float32(rig.doffs_px)
    trusted = (known[middle][: shape[0], : shape[1]] > 0) & (cv2.blur(unknown, (3, 3)) < _MOST_UNKNOWN_BESIDE)
    before, after = _neighbours(d, trusted)
    unknown[_unseen_by_right(before, after, rig, step)] = 0
    bound, in_the_way = _bounds(np.fmin(before, after), ground, rig, step, range_m)
    side_px = np.maximum(np.float32(size_m / rig.baseline_m) * bound, np.float32(_SMALLEST_PX))
    hides = in_the_way & (_square_means(unknown, side_px / step) >= _UNKNOWN_SHARE)
    if disparity.beyond is not None:
        beyond = _cells(disparity.beyond.astype(np.uint8) * 255, shape, step)
        hides |= _square_means(beyond, np.full(shape, _SMALLEST_PX / step, np.float32)) >= _UNKNOWN_SHARE
    if not hides.any():
        return None
    return HiddenSpace(1 - float(np.count_nonzero(known)) / known.size, _place(hides), size_m)


def _known(disparity: Disparity) -> np.ndarray:
    """(H, W) uint8, 255 where the disparity is known, in front of the camera and clear of the near end of the searched range."""
    infinity = float(np.nextafter(np.float32(-disparity.rig.doffs_px), np.float32(np.inf)))
    return np.asarray(cv2.inRange(disparity.disparity_px, infinity, disparity.max_px - RANGE_MARGIN_PX))  # type: ignore[call-overload]


def _cells(mask: np.ndarray, shape: tuple[int, int], step: int) -> np.ndarray:
    """(h, w) float32: share of each cell of step x step pixels where (H, W) uint8 `mask` is 255."""
    whole = mask[: shape[0] * step, : shape[1] * step]
    return cv2.resize(whole, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)


def _neighbours(d: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 each: d of the nearest known cell before, and after, in the row; NaN where there is none."""
    rows, columns = np.ogrid[: d.shape[0], : d.shape[1]]
    last = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    following = np.minimum.accumulate(np.where(known, columns, d.shape[1])[:, ::-1], axis=1)[:, ::-1]
    before = np.where(last >= 0, d[rows, np.maximum(last, 0)], np.float32(np.nan))
    after = np.where(following < d.shape[1], d[rows, np.minimum(following, d.shape[1] - 1)], np.float32(np.nan))
    return before, after


def _unseen_by_right(before: np.ndarray, after: np.ndarray, rig: StereoRig, step: int) -> np.ndarray:
    """(h, w) bool: the strip at the left border, as wide as the disparity of what follows it: x_right = x_left - d < 0."""
    columns = (np.arange(before.shape[1], dtype=np.float32) * step)[None]
    with np.errstate(invalid="ignore"):
        return np.isnan(before) & (columns < np.float32(_STRIP_SLACK) * (after - np.float32(rig.doffs_px)) + 2 * step)


def _bounds(
    surroundings: np.ndarray, ground: GroundPlane | None, rig: StereoRig, step: int, range_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) d + doffs, px, of what an object in each cell must stand before, and whether that is in the way of the camera."""
    farthest = np.float32(rig.bf / range_m)
    if ground is None:
        bound = np.where(np.isnan(surroundings), farthest, surroundings)
        in_the_way = bound >= farthest
        in_the_way[: int(_SKY_SHARE * len(bound))] = False
        return bound, in_the_way
    abc = planes.coefficients_of_plane(ground, rig) * (step, step, 1)
    abc[2] += (step // 2) * (abc[0] + abc[1]) / step
    rows, columns = np.ogrid[: surroundings.shape[0], : surroundings.shape[1]]
    on_ground = (abc[0] * columns + abc[1] * rows + abc[2]).astype(np.float32)
    bound = np.fmax(surroundings, on_ground)
    with np.errstate(invalid="ignore", divide="ignore"):
        height_m = np.float32(ground.offset_m) * (1 - on_ground / bound)
        return bound, (bound >= farthest) & (height_m < ObstacleConfig().obstacle_max_height_m)


def _square_means(image: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(h, w) float64 mean of `image` over the square of `side` (h, w) cells about each cell; 0 for what lies outside."""
    height, width = image.shape
    integral = cv2.integral(image)
    number = np.maximum(np.rint(np.minimum(np.nan_to_num(side), height + width)).astype(np.int32), 1)
    rows, columns = np.ogrid[:height, :width]
    top, left = rows - number // 2, columns - number // 2
    bottom, right = np.clip(top + number, 0, height), np.clip(left + number, 0, width)
    top, left = np.clip(top, 0, height), np.clip(left, 0, width)
    total = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return total / np.square(number, dtype=np.float64)


def _place(hides: np.ndarray) -> str:
    """Where in the image the largest connected component of the (h, w) bool mask lies: 'at the lower left', 'in the middle'."""
    _, _, stats, centres = cv2.connectedComponentsWithStats(hides.astype(np.uint8))
    x, y = centres[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))] / hides.shape[::-1]
    row = "upper" if y < 1 / 3 else "lower" if y > 2 / 3 else ""
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    return f"at the {row} {column}".replace("  ", " ").strip() if column else f"in the {row} middle".replace("  ", " ")
