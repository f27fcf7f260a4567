"""Checks and uncertainty of a fixed-point disparity map, for matchers that give no more than the map itself.

Everything here works on OpenCV's int16 disparities in sixteenths of a pixel, in whole-image NumPy and OpenCV calls.
"""

from __future__ import annotations

import cv2
import numpy as np

UNKNOWN = np.int16(-32768)
"""Marks an unknown pixel of a fixed-point map: below every disparity, so a maximum ignores it."""

SUBPIXELS = 16


class RightView:
    """The disparity map as the right camera sees it, by forward warping; buffers are kept for one image size."""

    def __init__(self, shape: tuple[int, int]) -> None:
        height, width = shape
        self._width = width
        self._columns = np.arange(width, dtype=np.int16)[None]
        self._row_starts = (np.arange(height, dtype=np.int32) * (width + 1))[:, None]
        self._map = np.empty(height * (width + 1), np.int16)

    def difference(self, disparity_16: np.ndarray) -> np.ndarray:
        """(H, W) int16: how far, in 1/16 px, each pixel lies behind the nearest pixel that the right camera sees at the same place.

        Where two left pixels land on one right pixel, the right camera sees the nearer one and the farther one is occluded
        or wrong: its difference is positive. A pixel that lands outside the right image gets the largest int16, as does UNKNOWN.
        """
        target = self._columns - ((disparity_16 + np.int16(SUBPIXELS // 2)) >> 4)
        outside = (target < 0) | (target >= self._width) | (disparity_16 == UNKNOWN)
        target[outside] = self._width
        index = (target + self._row_starts).ravel()
        self._map.fill(UNKNOWN)
        np.maximum.at(self._map, index, disparity_16.ravel())
        nearest = np.take(self._map, index).reshape(disparity_16.shape)
        difference = cv2.subtract(nearest, disparity_16)
        difference[outside] = 32767
        return difference
