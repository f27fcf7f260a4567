"""OpenCV's semi-global matching (Hirschmueller 2008, as cv2.StereoSGBM) and block matching: no weights, no GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.refine import UNKNOWN, RightView
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig

AUTOMATIC_MIN_DISPARITY = -10000

_SGBM_MODES = {
    "sgbm": cv2.STEREO_SGBM_MODE_SGBM,
    "3way": cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    "hh": cv2.STEREO_SGBM_MODE_HH,
    "hh4": cv2.STEREO_SGBM_MODE_HH4,
}


@dataclass(frozen=True)
class Config:
    """Options of the matcher and of the checks after it."""

    mode: str = option(
        "3way", "matcher: 3way (fastest semi-global), sgbm (5 paths), hh (8), hh4 (4), bm (blocks only)", choices=(*_SGBM_MODES, "bm")
    )
    min_disparity_px: int = option(
        AUTOMATIC_MIN_DISPARITY,
        f"smallest disparity searched; {AUTOMATIC_MIN_DISPARITY} = automatic: that of infinity, -doffs",
        unit="px",
        minimum=AUTOMATIC_MIN_DISPARITY,
        maximum=10000,
    )
    num_disparities: int = option(
        128, "disparities searched, a multiple of 16; the nearest visible depth is about bf / this", unit="px", minimum=16, maximum=2032
    )
    block_size: int = option(0, "matched block's width, odd; 0 = automatic: 3, for bm 15", unit="px", minimum=0, maximum=255)
    p1: int = option(0, "penalty of a disparity step of 1; 0 = automatic: 8 * block_size^2", minimum=0, maximum=1000000)
    p2: int = option(0, "penalty of a larger step, above p1; 0 = automatic: 32 * block_size^2", minimum=0, maximum=1000000)
    uniqueness_ratio: int = option(10, "margin of the best match over the second best", unit="%", minimum=0, maximum=100)
    pre_filter_cap: int = option(63, "clipping of the horizontal gradient that is matched", minimum=1, maximum=63)
    speckle_size: int = option(
        100, "regions of fewer pixels that stand apart become unknown; 0 = keep all", unit="px", minimum=0, maximum=1000000
    )
    speckle_range_px: float = option(1.0, "step between neighbours that parts two regions", unit="px", minimum=0.0, maximum=100.0)
    left_right_check: bool = option(True, "make unknown what the right camera cannot see or sees nearer")
    max_difference_px: float = option(1.0, "largest difference that the left-right check lets pass", unit="px", minimum=0.0, maximum=100.0)
    confidence: bool = option(True, "per-pixel sigma and confidence; off = one sigma for all, confidence 1")


class Backend:
    """StereoSGBM or StereoBM over the whole width: the images are padded so that every column can be answered."""

    stateful = False
    max_batch = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        self._sized_for: StereoRig | None = None

    def load(self) -> None:
        """Check the options against each other. Raises ConfigError."""
        config = self.config
        if config.num_disparities % 16:
            down = config.num_disparities // 16 * 16
            raise ConfigError(f"num_disparities must be a multiple of 16, got {config.num_disparities}: use {down or 16} or {down + 16}")
        if config.block_size and config.block_size % 2 == 0:
            raise ConfigError(f"block_size must be odd, or 0 for automatic, got {config.block_size}: use {config.block_size + 1}")

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair."""
        if self._sized_for != frame.rig:
            self._allocate(frame.rig)
        height, width = frame.shape
        for image, padded in ((frame.left, self._left), (frame.right, self._right)):
            grey = padded[:, self._pad_left : self._pad_left + width]
            if image.dtype == np.uint16:
                image = cv2.convertScaleAbs(image, alpha=255 / 65535)
            if image.ndim == 3:
                cv2.cvtColor(image, cv2.COLOR_RGB2GRAY, dst=grey)
            else:
                grey[...] = image
            padded[:, : self._pad_left] = grey[:, :1]
            padded[:, self._pad_left + width :] = grey[:, -1:]
        raw = self._matcher.compute(self._left, self._right)[:, self._pad_left : self._pad_left + width]
        disparity_16 = np.where(raw < self._min * 16, UNKNOWN, raw)
        if self.config.left_right_check:
            disparity_16[self._right_view.difference(disparity_16) > self.config.max_difference_px * 16] = UNKNOWN
        if self.config.speckle_size:
            cv2.filterSpeckles(disparity_16, float(UNKNOWN), self.config.speckle_size, self.config.speckle_range_px * 16)
        unknown = disparity_16 == UNKNOWN
        disparity = disparity_16.astype(np.float32) * np.float32(1 / 16)
        disparity[unknown] = np.nan
        sigma = np.full_like(disparity, 0.35)
        sigma[unknown] = np.nan
        confidence = (~unknown).astype(np.float32)
        return Disparity(disparity, sigma, confidence, frame.rig, float(self._min), float(self._min + self.config.num_disparities))

    def reset(self, reason: str) -> None:
        """Nothing is kept between frames but buffers."""

    def close(self) -> None:
        self._sized_for = None

    def _allocate(self, rig: StereoRig) -> None:
        config = self.config
        height, width = rig.shape
        self._min = math.floor(-rig.doffs_px) if config.min_disparity_px == AUTOMATIC_MIN_DISPARITY else config.min_disparity_px
        largest = self._min + config.num_disparities
        self._pad_left, pad_right = max(largest, 0), max(-self._min, 0)
        self._left = np.empty((height, self._pad_left + width + pad_right), np.uint8)
        self._right = np.empty_like(self._left)
        self._right_view = RightView(rig.shape)
        self._matcher = self._make_matcher()
        self._sized_for = rig

    def _make_matcher(self) -> Any:
        config = self.config
        if config.mode == "bm":
            matcher = cv2.StereoBM.create(config.num_disparities, config.block_size or 15)
            matcher.setMinDisparity(self._min)
            matcher.setUniquenessRatio(config.uniqueness_ratio)
            matcher.setPreFilterCap(config.pre_filter_cap)
            return matcher
        block = config.block_size or 3
        return cv2.StereoSGBM.create(
            minDisparity=self._min,
            numDisparities=config.num_disparities,
            blockSize=block,
            P1=config.p1 or 8 * block * block,
            P2=config.p2 or 32 * block * block,
            disp12MaxDiff=-1,
            preFilterCap=config.pre_filter_cap,
            uniquenessRatio=config.uniqueness_ratio,
            mode=_SGBM_MODES[config.mode],
        )
