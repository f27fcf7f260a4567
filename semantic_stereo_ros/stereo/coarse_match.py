"""A small match over every disparity that the pair can have: where things are, before the real match is told where to look.

Both images are shrunk to about 16,000 pixels and matched semi-globally (H. Hirschmueller, 2008). What is kept is reliable rather than
dense: unique, textured, visible to the right camera, and part of a connected region.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.stereo.refine import SUBPIXELS, UNKNOWN, RightView
from semantic_stereo_ros.types import StereoRig

LARGEST_SHARE_OF_WIDTH = 0.75
"""Nearer than this share of the image width, the two views of an object hardly overlap."""

BELOW_INFINITY_PX = 2.0
"""How far behind infinity the search begins, so that what is very far is a minimum inside the range."""

_PIXELS = 16000
_LEAST_SIDE = 12
_LEAST_REGION = 0.001  # of the image
_LEAST_GRADIENT = 1.0  # grey levels per px of the small image
_FLAT_BLOCK = (7, 7)


@dataclass(frozen=True, eq=False)
class CoarseMap:
    """disparity_16: (h, w) int16 in 1/16 px of the small images, UNKNOWN where not reliable. left, right: the (h, w) uint8 small
    images; scale_px: pixels of the full image per small one."""

    disparity_16: np.ndarray
    left: np.ndarray
    right: np.ndarray
    scale_px: float

    @property
    def known(self) -> np.ndarray:
        """(h, w) bool."""
        return self.disparity_16 != UNKNOWN

    @property
    def step_px(self) -> float:
        """Full pixels per unit of disparity_16."""
        return self.scale_px / SUBPIXELS


class CoarseMatcher:
    """The matcher and its sizes for one rig."""

    def __init__(self, rig: StereoRig) -> None:
        width, height = rig.size_wh
        scale = max(1, round(math.sqrt(width * height / _PIXELS)))
        self.size_wh = (-(-width // scale), -(-height // scale))
        self.scale_px = width / self.size_wh[0]
        reach_px = LARGEST_SHARE_OF_WIDTH * width
        self._least = math.floor(max(-rig.doffs_px - BELOW_INFINITY_PX, -reach_px) / self.scale_px)
        count = -(-(math.ceil(reach_px / self.scale_px) - self._least) // 16) * 16
        self._before, self._after = max(self._least + count, 0), max(-self._least, 0)
        self._matcher = cv2.StereoSGBM.create(
            minDisparity=self._least,
            numDisparities=count,
            blockSize=3,
            P1=72,
            P2=216,
            disp12MaxDiff=-1,
            preFilterCap=31,
            uniquenessRatio=15,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        )
        self._right_view = RightView((self.size_wh[1], self.size_wh[0]))

    def __call__(self, left: np.ndarray, right: np.ndarray) -> CoarseMap | None:
        """The reliable coarse disparities of a pair of (H, W) uint8 images; None when they are too small for it."""
        if min(self.size_wh) < _LEAST_SIDE:
            return None
        small = [cv2.resize(image, self.size_wh, interpolation=cv2.INTER_AREA) for image in (left, right)]
        padded = [pad(image, self._before, self._after) for image in small]
        disparity_16 = self._matcher.compute(*padded)[:, self._before : self._before + self.size_wh[0]].copy()
        disparity_16[disparity_16 < self._least * SUBPIXELS] = UNKNOWN
        disparity_16[~_textured(small[0])] = UNKNOWN
        disparity_16[self._right_view.difference(disparity_16) > SUBPIXELS] = UNKNOWN
        cv2.filterSpeckles(disparity_16, float(UNKNOWN), math.ceil(_LEAST_REGION * disparity_16.size), SUBPIXELS)
        return CoarseMap(disparity_16, small[0], small[1], self.scale_px)


MIRRORED_COLUMNS = 16
"""Columns of mirrored image right of the last: OpenCV's filter makes the last column of both images equal, which matches at zero."""


def pad(image: np.ndarray, before: int, after: int) -> np.ndarray:
    """(H, before + W + after + MIRRORED_COLUMNS) image: repeated at the left, mirrored at the right where it is wide enough."""
    at_left = cv2.copyMakeBorder(image, 0, 0, before, 0, cv2.BORDER_REPLICATE)
    return cv2.copyMakeBorder(at_left, 0, 0, 0, after + MIRRORED_COLUMNS, cv2.BORDER_REFLECT_101)


def _textured(image: np.ndarray) -> np.ndarray:
    """(h, w) bool: the horizontal gradient of the block is worth matching on average."""
    slope = cv2.convertScaleAbs(cv2.Sobel(image, cv2.CV_16S, 1, 0, ksize=1))
    return cv2.blur(slope, _FLAT_BLOCK) >= 2 * _LEAST_GRADIENT
