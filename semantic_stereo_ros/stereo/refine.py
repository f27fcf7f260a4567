"""What a disparity map can be asked without its matcher's costs: is it consistent with the right view, is it smooth.

Maps are OpenCV's int16 disparities in sixteenths of a pixel, UNKNOWN where not known; every step is a whole-image call.
"""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.checks import missing_dependency

UNKNOWN = np.int16(-32768)
"""Marks an unknown pixel of a fixed-point map: below every disparity, so a maximum ignores it."""

SUBPIXELS = 16

_SMOOTHED_BLOCK = (5, 5)
_SMOOTHED_STEP_PX = 1.0


class RightView:
    """The disparity map as the right camera sees it, by forward warping: a left-right check without a second match."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        self._width = width
        self._columns = np.arange(width, dtype=np.int32)[None]
        self._row_starts = (np.arange(height, dtype=np.int64) * (width + 1))[:, None]
        self._target = np.empty(shape, np.int32)
        self._index = np.empty(shape, np.int64)
        self._map = np.empty(height * (width + 1), np.int16)

    def difference(self, disparity_16: np.ndarray) -> np.ndarray:
        """(H, W) int16: how far, in 1/16 px, each pixel lies behind the nearest one that the right camera sees at the same place.

        Where several left pixels land on one right pixel, the right camera sees the nearest; the others are occluded or wrong,
        and their difference is positive. A pixel that lands outside the right image gets the largest int16, as does UNKNOWN.
        """
        target = self._target
        np.add(disparity_16, SUBPIXELS // 2, out=target, dtype=np.int32)
        np.right_shift(target, 4, out=target)
        np.subtract(self._columns, target, out=target)
        outside = (target.view(np.uint32) >= self._width) | (disparity_16 == UNKNOWN)
        np.copyto(target, self._width, where=outside)  # a spare column that takes what no right pixel shows
        index = np.add(target, self._row_starts, out=self._index).ravel()
        self._map.fill(UNKNOWN)
        np.maximum.at(self._map, index, disparity_16.ravel())
        nearest = np.take(self._map, index).reshape(disparity_16.shape)
        difference = cv2.subtract(nearest, disparity_16)
        difference[outside] = 32767
        return difference


def smooth_regions(disparity_16: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose whole 5x5 block is known and spans less than 1 px, so that it is one surface."""
    block = np.ones(_SMOOTHED_BLOCK, np.uint8)
    span = cv2.subtract(cv2.dilate(disparity_16, block), cv2.erode(disparity_16, block))
    return (span < int(_SMOOTHED_STEP_PX * SUBPIXELS)) & (disparity_16 != UNKNOWN)


def smooth(disparity_px: np.ndarray, regions: np.ndarray) -> None:
    """In place, on (H, W) float32 without NaN: the mean of the 5x5 block where `regions` says that it is one surface.

    It takes away most of semi-global matching's pull towards whole pixels; edges and slivers stay as they are.
    """
    np.copyto(disparity_px, cv2.blur(disparity_px, _SMOOTHED_BLOCK), where=regions)


def smooth_along_image(disparity_px: np.ndarray, known: np.ndarray, image: np.ndarray, smoothness: float, color_sigma: float) -> np.ndarray:
    """(H, W) float32: weighted least squares over the known pixels, guided by the edges of the uint8 `image`; no pixel is filled.

    D. Min et al., "Fast Global Image Smoothing Based on Weighted Least Squares", 2014, as OpenCV's disparity filter uses it.
    Raises MissingDependencyError without cv2.ximgproc.
    """
    if not hasattr(cv2, "ximgproc"):
        raise missing_dependency("cv2.ximgproc", "wls", "the weighted-least-squares filter (wls: true; opencv-contrib-python-headless)")
    weight = known.astype(np.float32)
    filtered = [cv2.ximgproc.fastGlobalSmootherFilter(image, source, smoothness, color_sigma) for source in (disparity_px * weight, weight)]
    return np.where(known, filtered[0] / np.maximum(filtered[1], np.float32(1e-6)), disparity_px).astype(np.float32)
