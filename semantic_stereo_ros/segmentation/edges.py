"""Where one surface ends and another begins: steps of the disparity between neighbouring pixels, and what stays connected.

What a step is depends on the question. `allowed_step_px` and `links` ask of every pixel how far a surface may go on, from a model of the
scene in metres; `breaks` asks where a mask that someone else drew is two surfaces, and answers only where slant cannot explain it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from semantic_stereo_ros.types import Disparity, StereoRig

# A surface seen so obliquely that Z grows by this many times the lateral step is still one surface (76 degrees).
_STEEPEST_SURFACE = 4.0
# Neighbours share most of their matching error: the sigma of their difference is this share of one pixel's.
_SIGMA_OF_DIFFERENCE = 0.6
# A break within a given mask: so many sigmas, this share of the disparity (a step in depth of about 4 %), and at least so many px.
_BREAK_SIGMAS, _BREAK_SHARE, _BREAK_PX = 4.0, 0.04, 0.8


def fill_from_nearest(known: np.ndarray, *images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Nearest-neighbour filling by a distance transform: ((h, w) float32 distance to the nearest known pixel, images with every unknown
    pixel set to the value of that pixel)."""
    unknown = np.logical_not(known).astype(np.uint8)
    if known.all() or not known.any():
        return np.where(known, np.float32(0), np.float32(np.inf)), list(images)
    distance, nearest = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.asarray(nearest, np.int32)
    source = np.empty(int(nearest.max()) + 1, np.int64)
    source[nearest[known]] = np.flatnonzero(known)
    index = source[nearest]
    return distance, [image.ravel()[index] for image in images]


def allowed_step_px(d: np.ndarray, sigma_px: np.ndarray, rig: StereoRig, pitch_px: float, strength: float, min_gap_m: float) -> np.ndarray:
    """(h, w) float32: the largest difference of disparity between neighbours `pitch_px` apart that is still one surface.

    d: d + doffs, px. It is `strength` sigmas of noise plus a physical gap of `min_gap_m` along Z (dd = d^2 / bf * dZ) plus the slope of
    the steepest surface (dZ = slope * pitch * Z / fx, so dd = slope * pitch * d / (fx * bf) * bf).
    """
    gap = np.float32(min_gap_m / rig.bf) * d * d
    slope = np.float32(_STEEPEST_SURFACE * pitch_px / rig.fx) * d
    return np.float32(strength * _SIGMA_OF_DIFFERENCE) * sigma_px + gap + slope


def links(d: np.ndarray, allowed_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w-1), (h-1, w) bool: whether a pixel and its right, its lower neighbour belong to one surface; NaN links nothing."""
    with np.errstate(invalid="ignore"):
        right = np.abs(d[:, 1:] - d[:, :-1]) < np.minimum(allowed_px[:, 1:], allowed_px[:, :-1])
        down = np.abs(d[1:] - d[:-1]) < np.minimum(allowed_px[1:], allowed_px[:-1])
    return right, down


def breaks(disparity: Disparity) -> tuple[np.ndarray, np.ndarray]:
    """(H, W-1), (H-1, W) bool: steps between a pixel and its right, its lower neighbour that neither noise nor slant explains.

    Unknown pixels make no step. A slope is a step that its neighbours repeat: it is subtracted as the smaller of the differences before
    and after.
    """
    d = disparity.disparity_px + np.float32(disparity.rig.doffs_px)
    right, down = (_breaks_along(d, disparity.sigma_px, axis) for axis in (1, 0))
    return right, down


def _breaks_along(d: np.ndarray, sigma_px: np.ndarray, axis: int) -> np.ndarray:
    difference = np.diff(d, axis=axis)
    before, after = (np.roll(difference, shift, axis=axis) for shift in (1, -1))
    slope = np.where(np.abs(before) < np.abs(after), before, after)
    slope = np.where(np.isfinite(slope), slope, 0)
    sigma = np.fmax(*neighbours(sigma_px, axis))
    size = np.fmin(*neighbours(d, axis))
    allowed = np.maximum(np.maximum(_BREAK_SIGMAS * np.nan_to_num(sigma), _BREAK_SHARE * np.nan_to_num(size)), _BREAK_PX)
    with np.errstate(invalid="ignore"):
        return np.abs(difference - slope) > allowed


def neighbours(image: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel but the last along an axis, and its successor."""
    return (image[:-1], image[1:]) if axis == 0 else (image[:, :-1], image[:, 1:])


def beside_breaks(disparity: Disparity) -> np.ndarray:
    """(H, W) bool: pixels with a break to a neighbour."""
    right, down = breaks(disparity)
    result = np.zeros(disparity.rig.shape, bool)
    result[1:] |= down
    result[:-1] |= down
    result[:, 1:] |= right
    result[:, :-1] |= right
    return result


def lowest_joined(count: int, bonds: Sequence[tuple[int, int]]) -> np.ndarray:
    """(count + 1,): for each label 0..count the lowest one of its connected component in the graph whose edges are the bonds."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = np.array(bonds, np.intp).reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(count + 1, count + 1)), directed=False)
    return np.unique(component, return_index=True)[1][component]


def linked_components(mask: np.ndarray, right: np.ndarray, down: np.ndarray) -> tuple[int, np.ndarray]:
    """Connected components: (count, (h, w) int32 labels 1..count, 0 outside `mask`) of the graph of 4-neighbours that the links leave.

    Pixels lie at the even places of a doubled grid and links between them: an image component there is a component of the graph.
    """
    height, width = mask.shape
    grid = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    grid[::2, ::2] = mask
    grid[::2, 1::2] = right & mask[:, 1:] & mask[:, :-1]
    grid[1::2, ::2] = down & mask[1:] & mask[:-1]
    count, labels = cv2.connectedComponents(grid, connectivity=4)
    return count - 1, np.ascontiguousarray(labels[::2, ::2])
