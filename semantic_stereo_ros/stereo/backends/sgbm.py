"""OpenCV's semi-global matching (H. Hirschmueller, 2008) and block matching: no weights, no GPU."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from semantic_stereo_ros.checks import ConfigError, missing_dependency
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.ambiguity import AmbiguityCheck
from semantic_stereo_ros.stereo.coarse_match import MIRRORED_COLUMNS
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
from semantic_stereo_ros.stereo.search_range import OutOfRange, RangeFinder, Span, limits_of
from semantic_stereo_ros.stereo.uncertainty import CONSTANT_SIGMA_PX, sigma_and_confidence
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig

logger = logging.getLogger(__name__)

AUTOMATIC_MIN_DISPARITY = -10000
AUTOMATIC_NUM_DISPARITIES = 0

TONES_SHARE_OF_WIDTH = 0.25
"""Disparities, per image width, among which pixels are matched to compare their tones: some suffice, and a wide search finds false ones."""

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
        f"smallest disparity searched; {AUTOMATIC_MIN_DISPARITY} (or auto) = automatic: from the images where num_disparities is, "
        "else that of a point at infinity, -doffs",
        unit="px",
        minimum=AUTOMATIC_MIN_DISPARITY,
        maximum=10000,
        words=(("auto", AUTOMATIC_MIN_DISPARITY),),
    )
    num_disparities: int = option(
        AUTOMATIC_NUM_DISPARITIES,
        "disparities searched, a multiple of 16, the nearest depth is then about fx * baseline / this; 0 (or the word auto, but not as a "
        "ROS parameter) = automatic: those that the images show, as far as min_range_m and max_range_m allow",
        unit="px",
        minimum=0,
        maximum=2032,
        words=(("auto", AUTOMATIC_NUM_DISPARITIES),),
    )
    min_range_m: float = option(
        0.0, "nearer depths are not searched when num_disparities is automatic; 0 = no limit", unit="m", minimum=0.0, maximum=1000.0
    )
    max_range_m: float = option(500.0, "what is farther becomes unknown; 0 = no limit", unit="m", minimum=0.0, maximum=100000.0)
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
    """StereoSGBM or StereoBM over the whole width: the images are padded so that every column can be answered.

    The automatic range is that of the stream: it grows at once and shrinks late, and `reset` forgets it.
    """

    stateful = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._matching: _Matching | None = None
        self._range: RangeFinder | None = None
        self._notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Check what one option alone cannot. Raises ConfigError, and MissingDependencyError for wls without opencv-contrib."""
        config = self.config
        if config.num_disparities % 16:
            below = config.num_disparities // 16 * 16
            use = f"{below} or {below + 16}" if below else "16, or 0 for automatic"
            raise ConfigError(f"num_disparities must be a multiple of 16, got {config.num_disparities}: use {use}")
        if config.max_range_m and config.max_range_m <= config.min_range_m:
            raise ConfigError(f"max_range_m must be above min_range_m = {config.min_range_m:g}, got {config.max_range_m:g}; 0 = no limit")
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
        config, rig = self.config, frame.rig
        if self._matching is None or self._range is None or self._matching.rig != rig:
            self._range = _range_finder(config, rig)
            self._matching = _Matching(config, rig)
        matching = self._matching
        left, right = matching.read(frame)
        searched, out = self._range(left, right)
        matching.search(searched)
        disparity_16, beyond = matching.match(out)
        self._notes = (*self._range.notes, *matching.notes())
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
        else:
            sigma_px = np.full(frame.shape, CONSTANT_SIGMA_PX, np.float32)
            confidence = np.ones(frame.shape, np.float32)
        if config.max_range_m:
            unknown |= disparity_px < np.float32(rig.bf / config.max_range_m - rig.doffs_px)
        np.copyto(confidence, 0, where=unknown)
        np.copyto(disparity_px, np.nan, where=unknown)
        np.copyto(sigma_px, np.nan, where=unknown)
        return Disparity(disparity_px, sigma_px, confidence, rig, searched.least_px, searched.most_px, beyond)

    def notes(self) -> tuple[str, ...]:
        """Of the last pair: what a range that the options fix misses of it, what was changed before matching (unlike exposures), and how
        much of it cannot be told (repeating texture)."""
        return self._notes

    def reset(self, reason: str) -> None:
        """Forget the range that earlier frames needed."""
        self._range, self._notes = None, ()

    def close(self) -> None:
        """Free the matcher and the buffers."""
        self._matching = self._range = None


def _range_finder(config: Config, rig: StereoRig) -> RangeFinder:
    """Raises ConfigError for a range that does not fit OpenCV's maps."""
    limits = limits_of(rig, config.min_range_m, config.max_range_m)
    start_px = None if config.min_disparity_px == AUTOMATIC_MIN_DISPARITY else float(config.min_disparity_px)
    if config.num_disparities != AUTOMATIC_NUM_DISPARITIES:
        least = float(math.floor(-rig.doffs_px)) if start_px is None else start_px
        limits = Span(least, least + config.num_disparities)
        finder = RangeFinder(rig, limits, fixed=True)
    else:
        if start_px is not None:
            limits = Span(start_px, max(limits.most_px, start_px + 16))
        limits = Span(limits.least_px, max(min(limits.most_px, _LIMIT_PX), limits.least_px + 16))
        finder = RangeFinder(rig, limits, fixed_start=start_px is not None)
    if limits.least_px < -_LIMIT_PX or limits.most_px > _LIMIT_PX:
        raise ConfigError(
            f"disparities from {limits.least_px:.0f} to {limits.most_px:.0f} px do not fit OpenCV's 16-bit maps, which hold "
            f"{-_LIMIT_PX} to {_LIMIT_PX} px: set min_disparity_px and num_disparities, or check doffs ({rig.doffs_px:g} px)"
        )
    return finder


class _Matching:
    """OpenCV's matcher and the buffers for one rig.

    The matcher cannot answer columns whose search leaves the image: the largest disparity's worth on the left, and with a
    negative smallest disparity that much on the right. So both images are padded there, and the answers cut.
    """

    def __init__(self, config: Config, rig: StereoRig) -> None:
        self.config = config
        self.rig = rig
        self.pair = SampledPair(rig.shape)
        self.subpixel_step = SubpixelStep(rig.shape)
        self._grey = tuple(np.empty(rig.shape, np.uint8) for _ in range(2))
        self._right_view = RightView(rig.shape)
        self._largest_seen = ((np.arange(rig.size_wh[0]) - 1) * SUBPIXELS).clip(max=32767).astype(np.int16)
        self._searched: Span | None = None
        self._tones = NO_CHANGE
        self._ambiguous_share = 0.0

    def read(self, frame: StereoFrame) -> tuple[np.ndarray, np.ndarray]:
        """Both images as (H, W) 8-bit grey of like exposure; the next call overwrites them."""
        table = _tone_table(frame.left, frame.right) if frame.left.dtype == np.uint16 else None
        for image, grey in zip((frame.left, frame.right), self._grey):
            plain = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), image.dtype)
            grey[...] = plain if table is None else np.take(table, plain.astype(np.intp))
        left, right = self._grey
        self._tones = NO_CHANGE
        if self.config.match_exposure:
            infinity_px = math.floor(-self.rig.doffs_px)
            self._tones = measure_tones(left, right, infinity_px, infinity_px + round(TONES_SHARE_OF_WIDTH * self.rig.size_wh[0]))
            if self._tones.matters:
                match_tones(self._tones, left, right)
        return left, right

    def search(self, searched: Span) -> None:
        """From now on match these disparities; a range that is new takes new buffers."""
        if searched == self._searched:
            return
        logger.info("disparities from %.0f to %.0f px are searched", searched.least_px, searched.most_px)
        height, width = self.rig.shape
        least, most = round(searched.least_px), round(searched.most_px)
        before, after = max(most, 0), max(-least, 0) + MIRRORED_COLUMNS
        self._least, self._most = least, most
        self._columns = slice(before, before + width)
        self._padded = tuple(np.empty((height, before + width + after), np.uint8) for _ in range(2))
        columns = np.arange(width, dtype=np.int32)[None]
        self._mirrored = cv2.copyMakeBorder(columns, 0, 0, 0, after, cv2.BORDER_REFLECT_101)[0, width:].astype(np.intp)
        self._raw = np.empty(self._padded[0].shape, np.int16)
        self._matcher = self._make_matcher()
        self._ambiguity_check = AmbiguityCheck(self.rig.shape, most - least)
        self._searched = searched

    def _make_matcher(self) -> Any:
        config = self.config
        block = config.block_size or (15 if config.mode == "bm" else 3)
        if block > min(self.rig.size_wh):
            width, height = self.rig.size_wh
            raise ConfigError(f"the images are {width}x{height}, smaller than the matched block of {block} px: use a smaller block_size")
        if config.mode == "bm":
            matcher = cv2.StereoBM.create(self._most - self._least, block)
            matcher.setMinDisparity(self._least)
            matcher.setUniquenessRatio(config.uniqueness_ratio)
            matcher.setPreFilterCap(config.pre_filter_cap)
            return matcher
        p1 = config.p1 or min(8 * block * block, config.p2 // 2 or 1000000)
        return cv2.StereoSGBM.create(
            minDisparity=self._least,
            numDisparities=self._most - self._least,
            blockSize=block,
            P1=p1,
            P2=config.p2 or 3 * p1,
            disp12MaxDiff=-1,
            preFilterCap=config.pre_filter_cap,
            uniquenessRatio=config.uniqueness_ratio,
            mode=_SGBM_MODES[config.mode],
        )

    def match(self, out: OutOfRange | None) -> tuple[np.ndarray, np.ndarray | None]:
        """((H, W) int16 map of the images in 1/16 px, UNKNOWN where the matcher or a check gave none; Disparity.beyond).

        out: where the scene is known to lie outside of the searched disparities.
        """
        config = self.config
        for grey, padded in zip(self._grey, self._padded):
            padded[:, self._columns] = grey
            padded[:, : self._columns.start] = grey[:, :1]
            padded[:, self._columns.stop :] = grey[:, self._mirrored]
        raw = np.asarray(self._matcher.compute(*self._padded, self._raw))
        disparity_16 = raw[:, self._columns].copy()
        # at either end of the range the best match may lie beyond it
        disparity_16[disparity_16 <= self._least * SUBPIXELS] = UNKNOWN
        disparity_16[disparity_16 >= (self._most - 1) * SUBPIXELS] = UNKNOWN
        if out is not None and out.any:
            disparity_16[out.nearer | out.farther] = UNKNOWN
        if config.min_texture:
            disparity_16[~textured(self._grey[0], config.min_texture)] = UNKNOWN
        if self._tones.matters:
            disparity_16[clipped(self._tones, self._grey[0])] = UNKNOWN
        if config.left_right_check:
            hidden = self._right_view.difference(disparity_16) > round(config.max_difference_px * SUBPIXELS)
            # the first column of the right image has no gradient of its own: it attracts what lies outside
            disparity_16[hidden | (disparity_16 > self._largest_seen)] = UNKNOWN
        if config.ambiguity_check:
            ambiguous = self._ambiguity_check(self._grey[0], self._grey[1], disparity_16) & (disparity_16 != UNKNOWN)
            self._ambiguous_share = float(ambiguous.mean())
            disparity_16[ambiguous] = UNKNOWN
        if config.speckle_size:
            cv2.filterSpeckles(disparity_16, float(UNKNOWN), config.speckle_size, config.speckle_range_px * SUBPIXELS)
        return disparity_16, None if out is None else out.nearer

    def notes(self) -> tuple[str, ...]:
        """What is to be said of the last pair, one sentence each."""
        said = [self._tones.sentence] if self._tones.matters else []
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
