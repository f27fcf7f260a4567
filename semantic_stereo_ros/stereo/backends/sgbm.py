"""OpenCV's semi-global matching (H. Hirschmueller, 2008) and block matching: no weights, no GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from semantic_stereo_ros.checks import ConfigError, missing_dependency
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.ambiguity import AmbiguityCheck
from semantic_stereo_ros.stereo.photometric import NO_CHANGE, clipped, match_tones, measure_tones
from semantic_stereo_ros.stereo.refine import (
    SUBPIXELS,
    UNKNOWN,
    RightView,
    SampledPair,
    SubpixelStep,
    smooth_along_image,
    smooth_regions,
    textured,
)
from semantic_stereo_ros.stereo.uncertainty import CONSTANT_SIGMA_PX, sigma_and_confidence
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig

AUTOMATIC_MIN_DISPARITY = -10000

AMBIGUOUS_SHARE = 0.1
"""Of the image, from which on it is said that it is unknown because it repeats or has no texture."""

_LIMIT_PX = 2047
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
        "3way",
        "matcher: 3way (3 paths, the fastest semi-global one, on all cores), sgbm (5 paths, one core), hh4 (4), hh (8), bm (blocks only)",
        choices=(*_SGBM_MODES, "bm"),
    )
    min_disparity_px: int = option(
        AUTOMATIC_MIN_DISPARITY,
        f"smallest disparity searched; {AUTOMATIC_MIN_DISPARITY} = automatic: that of a point at infinity, -doffs",
        unit="px",
        minimum=AUTOMATIC_MIN_DISPARITY,
        maximum=10000,
    )
    num_disparities: int = option(
        128, "disparities searched, a multiple of 16; the nearest depth is about fx * baseline / this", unit="px", minimum=16, maximum=2032
    )
    block_size: int = option(0, "width of the matched block, odd; 0 = automatic: 3, for bm 15", unit="px", minimum=0, maximum=255)
    p1: int = option(0, "penalty of a disparity step of 1 px; 0 = automatic: 8 * block_size^2", minimum=0, maximum=1000000)
    p2: int = option(0, "penalty of a larger step, above p1; 0 = automatic: 3 * p1", minimum=0, maximum=4000000)
    uniqueness_ratio: int = option(10, "margin by which the best match must win over the second best", unit="%", minimum=0, maximum=100)
    pre_filter_cap: int = option(31, "clipping of the horizontal gradient that is matched", minimum=1, maximum=63)
    match_exposure: bool = option(True, "map the right image's tones to the left's where they differ (exposure, gain, offset, gamma)")
    min_texture: float = option(
        1.0,
        "pixels with no horizontal gradient this large within 12 px become unknown; 0 = off",
        unit="grey levels/px",
        minimum=0.0,
        maximum=127.0,
    )
    speckle_size: int = option(
        100, "regions of at most this many pixels that stand apart become unknown; 0 = off", unit="px", minimum=0, maximum=1000000
    )
    speckle_range_px: float = option(1.0, "step between neighbours that parts two regions", unit="px", minimum=0.0, maximum=100.0)
    left_right_check: bool = option(True, "make unknown what the right camera cannot see or sees nearer")
    max_difference_px: float = option(2.0, "largest difference that the left-right check lets pass", unit="px", minimum=0.0, maximum=100.0)
    ambiguity_check: bool = option(True, "make unknown the surfaces whose texture repeats along the rows (tiles, fences) or says nothing")
    refine: bool = option(True, "fractions of a pixel from the images where 5x5 pixels are one surface; edges stay")
    wls: bool = option(False, "smooth known pixels along the image's edges (weighted least squares; needs opencv-contrib); fills nothing")
    wls_lambda: float = option(8.0, "strength of the weighted-least-squares filter", minimum=0.0, maximum=1e6)
    wls_sigma: float = option(1.5, "grey-level step that stops the weighted-least-squares filter", minimum=0.1, maximum=255.0)
    confidence: bool = option(True, "estimate sigma and confidence per pixel; off = one sigma for all, confidence 1")


class Backend:
    """StereoSGBM or StereoBM over the whole width: the images are padded so that every column can be answered."""

    stateful = False
    max_batch = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        self._matching: _Matching | None = None
        self._notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Check what one option alone cannot. Raises ConfigError, and MissingDependencyError for wls without opencv-contrib."""
        config = self.config
        if config.num_disparities % 16:
            below = config.num_disparities // 16 * 16
            raise ConfigError(f"num_disparities must be a multiple of 16, got {config.num_disparities}: use {below} or {below + 16}")
        if config.block_size and config.block_size % 2 == 0:
            raise ConfigError(f"block_size must be odd, or 0 for automatic, got {config.block_size}: use {config.block_size + 1}")
        if config.mode == "bm" and 0 < config.block_size < 5:
            raise ConfigError(f"block_size must be 5 or more for mode bm, got {config.block_size}: use 0 for automatic, or 15")
        if config.p1 and config.p2 and config.p2 <= config.p1:
            raise ConfigError(f"p2 must be above p1, got p1 {config.p1} and p2 {config.p2}: use 0 for automatic, or 3 * p1")
        if config.wls and not hasattr(cv2, "ximgproc"):
            raise missing_dependency("cv2.ximgproc", "wls", "the stereo option wls")

    def load(self) -> None:
        """Nothing to load. Raises what `check` raises."""
        self.check()

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair. Raises ConfigError when the images are smaller than the matched block or the range is too large."""
        config = self.config
        if self._matching is None or self._matching.rig != frame.rig:
            self._matching = _Matching(config, frame.rig)
        matching = self._matching
        left, right = matching.fill(frame)
        disparity_16 = matching.match()
        self._notes = matching.notes()
        unknown = disparity_16 == UNKNOWN
        known = ~unknown
        disparity_px = np.empty(frame.shape, np.float32)
        np.multiply(disparity_16, np.float32(1 / SUBPIXELS), out=disparity_px)
        np.copyto(disparity_px, 0, where=unknown)
        regions = known
        if config.refine or config.confidence:
            regions = smooth_regions(disparity_16)
            matching.pair.show(left, right)
        if config.refine:
            matching.subpixel_step(matching.pair, disparity_px, regions)
        if config.wls:
            disparity_px = smooth_along_image(disparity_px, known, left, config.wls_lambda, config.wls_sigma)
        if config.confidence:
            sigma_px, confidence = sigma_and_confidence(matching.pair, disparity_px, known, regions)
            confidence *= known
        else:
            sigma_px = np.full(frame.shape, CONSTANT_SIGMA_PX, np.float32)
            confidence = known.astype(np.float32)
        np.copyto(disparity_px, np.nan, where=unknown)
        np.copyto(sigma_px, np.nan, where=unknown)
        least = matching.min_disparity_px
        return Disparity(disparity_px, sigma_px, confidence, frame.rig, float(least), float(least + config.num_disparities))

    def notes(self) -> tuple[str, ...]:
        """Of the last pair: what was changed before matching (unlike exposures), and how much of it cannot be told (repeating texture)."""
        return self._notes

    def reset(self, reason: str) -> None:
        """Nothing but buffers is kept between frames."""

    def close(self) -> None:
        """Free the matcher and the buffers."""
        self._matching = None


class _Matching:
    """OpenCV's matcher and the buffers for one rig.

    The matcher cannot answer columns whose search leaves the image: the largest disparity's worth on the left, and with a
    negative smallest disparity that much on the right. So both images are padded there, and the answers cut.
    """

    def __init__(self, config: Config, rig: StereoRig) -> None:
        height, width = rig.shape
        least = config.min_disparity_px
        if least == AUTOMATIC_MIN_DISPARITY:
            least = math.floor(-rig.doffs_px)
        if least < -_LIMIT_PX or least + config.num_disparities > _LIMIT_PX:
            raise ConfigError(
                f"disparities from {least} to {least + config.num_disparities} px do not fit OpenCV's 16-bit maps, which hold "
                f"{-_LIMIT_PX} to {_LIMIT_PX} px: set min_disparity_px and num_disparities, or check doffs ({rig.doffs_px:g} px)"
            )
        before, after = max(least + config.num_disparities, 0), max(-least, 0)
        self.config = config
        self.rig = rig
        self.tones = NO_CHANGE
        self._ambiguous_share = 0.0
        self.min_disparity_px = least
        self.pair = SampledPair(rig.shape)
        self.subpixel_step = SubpixelStep(rig.shape)
        self._columns = slice(before, before + width)
        self._left = np.empty((height, before + width + after), np.uint8)
        self._right = np.empty_like(self._left)
        self._raw = np.empty(self._left.shape, np.int16)
        self._matcher = self._make_matcher()
        self._right_view = RightView(rig.shape)
        self._ambiguity_check = AmbiguityCheck(rig.shape, config.num_disparities)

    def _make_matcher(self) -> Any:
        config = self.config
        block = config.block_size or (15 if config.mode == "bm" else 3)
        if block > min(self.rig.size_wh):
            width, height = self.rig.size_wh
            raise ConfigError(f"the images are {width}x{height}, smaller than the matched block of {block} px: use a smaller block_size")
        if config.mode == "bm":
            matcher = cv2.StereoBM.create(config.num_disparities, block)
            matcher.setMinDisparity(self.min_disparity_px)
            matcher.setUniquenessRatio(config.uniqueness_ratio)
            matcher.setPreFilterCap(config.pre_filter_cap)
            return matcher
        p1 = config.p1 or min(8 * block * block, config.p2 // 2 or 1000000)
        return cv2.StereoSGBM.create(
            minDisparity=self.min_disparity_px,
            numDisparities=config.num_disparities,
            blockSize=block,
            P1=p1,
            P2=config.p2 or 3 * p1,
            disp12MaxDiff=-1,
            preFilterCap=config.pre_filter_cap,
            uniquenessRatio=config.uniqueness_ratio,
            mode=_SGBM_MODES[config.mode],
        )

    def fill(self, frame: StereoFrame) -> tuple[np.ndarray, np.ndarray]:
        """Both images as 8-bit grey inside the padded buffers; the padding repeats the border columns. Views without padding."""
        table = _tone_table(frame.left, frame.right) if frame.left.dtype == np.uint16 else None
        views = []
        for image, padded in ((frame.left, self._left), (frame.right, self._right)):
            grey = padded[:, self._columns]
            plain = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), image.dtype)
            grey[...] = plain if table is None else np.take(table, plain.astype(np.intp))
            views.append(grey)
        self.tones = NO_CHANGE
        if self.config.match_exposure:
            most = self.min_disparity_px + self.config.num_disparities
            self.tones = measure_tones(views[0], views[1], self.min_disparity_px, most)
            if self.tones.matters:
                match_tones(self.tones, views[0], views[1])
        for grey, padded in zip(views, (self._left, self._right)):
            padded[:, : self._columns.start] = grey[:, :1]
            padded[:, self._columns.stop :] = grey[:, -1:]
        return views[0], views[1]

    def match(self) -> np.ndarray:
        """(H, W) int16 map of the unpadded images in 1/16 px, UNKNOWN where the matcher or a check gave none."""
        config = self.config
        raw = self._matcher.compute(self._left, self._right, self._raw)
        disparity_16 = raw[:, self._columns].copy()
        disparity_16[disparity_16 < self.min_disparity_px * SUBPIXELS] = UNKNOWN
        if config.min_texture:
            disparity_16[~textured(self._left[:, self._columns], config.min_texture)] = UNKNOWN
        if self.tones.matters:
            disparity_16[clipped(self.tones, self._left[:, self._columns])] = UNKNOWN
        if config.left_right_check:
            hidden = self._right_view.difference(disparity_16) > round(config.max_difference_px * SUBPIXELS)
            disparity_16[hidden] = UNKNOWN
        if config.ambiguity_check:
            ambiguous = self._ambiguity_check(self._left[:, self._columns], self._right[:, self._columns], disparity_16)
            ambiguous &= disparity_16 != UNKNOWN
            self._ambiguous_share = float(ambiguous.mean())
            disparity_16[ambiguous] = UNKNOWN
        if config.speckle_size:
            cv2.filterSpeckles(disparity_16, float(UNKNOWN), config.speckle_size, config.speckle_range_px * SUBPIXELS)
        return disparity_16

    def notes(self) -> tuple[str, ...]:
        """What is to be said of the last pair, one sentence each."""
        said = [self.tones.sentence] if self.tones.matters else []
        if self._ambiguous_share > AMBIGUOUS_SHARE:
            said.append(
                f"{self._ambiguous_share:.0%} of the image repeats along the rows or has no texture (tiles, fences, bare walls) and is "
                "unknown: give the cameras something unique to see there, or light it with a random pattern"
            )
        return tuple(said)


def _tone_table(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(65536,) uint8: one linear mapping for both images, from the 0.1 to the 99.9 percentile of their values."""
    sample = np.concatenate([image[::4, ::4].ravel() for image in (left, right)])
    low, high = np.percentile(sample, (0.1, 99.9))
    levels = (np.arange(65536, dtype=np.float32) - low) * (255 / max(high - low, 1.0))
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
