"""Where one surface ends and another begins: steps of the disparity between neighbouring pixels, and what stays connected."""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.types import StereoRig

# A surface seen so obliquely that Z grows by this many times the lateral step is still one surface (76 degrees).
_STEEPEST_SURFACE = 4.0
# Neighbours share most of their matching error: the sigma of their difference is this share of one pixel's.
_SIGMA_OF_DIFFERENCE = 0.6


def fill_from_nearest(known: np.ndarray, *images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """((h, w) float32 distance to the nearest known pixel, images with every unknown pixel set to the value of that pixel)."""
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


def linked_components(mask: np.ndarray, right: np.ndarray, down: np.ndarray) -> tuple[int, np.ndarray]:
    """(count, (h, w) int32 labels 1..count, 0 outside `mask`) of the graph of 4-neighbours that the links leave connected.

    Pixels lie at the even places of a doubled grid and links between them: an image component there is a component of the graph.
    """
    height, width = mask.shape
    grid = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    grid[::2, ::2] = mask
    grid[::2, 1::2] = right & mask[:, 1:] & mask[:, :-1]
    grid[1::2, ::2] = down & mask[1:] & mask[:-1]
    count, labels = cv2.connectedComponents(grid, connectivity=4)
    return count - 1, np.ascontiguousarray(labels[::2, ::2])
