"""Which disparities a stream needs: the range of the reliable coarse ones, kept while it holds (docs/decisions/0009-search-range.md)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.stereo.coarse_match import BELOW_INFINITY_PX, CoarseMap, CoarseMatcher
from semantic_stereo_ros.stereo.refine import SUBPIXELS
from semantic_stereo_ros.types import StereoRig

MARGIN = 1.0
"""How far a coarse disparity may be off, in pixels of the small images."""

STEP = 16
"""OpenCV takes multiples of it."""

_LEAST_KNOWN = 0.05  # of the coarse pixels
_BULK = (0.02, 0.98)
_ENDS = (0.002, 0.999)
_LEAST_REGION = 0.002  # of the image
_LEAST_CORRELATION = 0.75  # true regions of real pairs have 0.87 and more, false ones 0.72 and less
_LEAST_FAR_SUPPORT = 0.025  # of the known pixels, where a far region would stretch the range
_CHEAP_STRETCH = 0.25  # of the range
_KEEP_FRAMES = 30
_MUCH_LESS = 0.8  # of the range
_WITHOUT_EVIDENCE = 128  # px
_WORTH_SAYING = 0.01  # of the view


@dataclass(frozen=True)
class Span:
    """Disparities from least_px to most_px."""

    least_px: float
    most_px: float

    def joined(self, other: Span) -> Span:
        return Span(min(self.least_px, other.least_px), max(self.most_px, other.most_px))

    @property
    def width_px(self) -> float:
        return self.most_px - self.least_px


@dataclass(frozen=True, eq=False)
class Evidence:
    """seen: what the range should hold. disparity_px: (h, w) float32 coarse disparities of the full image's pixels, NaN where not
    reliable; margin_px: how far they may be off."""

    seen: Span
    disparity_px: np.ndarray
    margin_px: float

    def out_of(self, searched: Span, shape: tuple[int, int]) -> OutOfRange:
        """Where the coarse match lies clearly beyond the searched disparities; shape: of the full image."""
        nearer = self.disparity_px > searched.most_px + self.margin_px
        farther = self.disparity_px < searched.least_px - self.margin_px
        within = np.isfinite(self.disparity_px) & ~(nearer | farther)
        anywhere = bool(nearer.any() or farther.any())
        return OutOfRange(_enlarged(nearer, within, shape), _enlarged(farther, within, shape), anywhere)


@dataclass(frozen=True, eq=False)
class OutOfRange:
    """nearer, farther: (H, W) bool, where a coarse match is beyond either end of the searched range; any: whether it is anywhere."""

    nearer: np.ndarray
    farther: np.ndarray
    any: bool


def _enlarged(mask: np.ndarray, within: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a (h, w) mask, with the unreliable seam of its regions."""
    if not mask.any():
        return np.zeros(shape, bool)
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    grown[within] = 0
    return cv2.resize(grown, shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def gather(coarse: CoarseMap) -> Evidence | None:
    """What a coarse match says of the range; None when too little of it is reliable."""
    known = coarse.known
    values = coarse.disparity_16[known]
    if len(values) < _LEAST_KNOWN * known.size:
        return None
    least, most = np.quantile(values, _BULK, method="nearest").astype(int)
    disparity_16, apart = coarse.disparity_16, 2 * SUBPIXELS
    near, far = known & (disparity_16 > most + apart), known & (disparity_16 < least - apart)
    ghosts = np.zeros(known.shape, bool)
    for region in _regions(near) + _regions(far):
        if not _agrees(coarse, region):
            ghosts |= region
    ends = np.quantile(disparity_16[known & ~(ghosts | _needless(disparity_16, far & ~ghosts, least, most, len(values)))], _ENDS)
    disparity_px = np.where(known & ~ghosts, disparity_16 * np.float32(coarse.step_px), np.float32(np.nan))
    return Evidence(Span(*map(float, ends * coarse.step_px)), disparity_px, MARGIN * coarse.scale_px)


def _needless(disparity_16: np.ndarray, far: np.ndarray, least: int, most: int, count: int) -> np.ndarray:
    """(h, w) bool: the regions of `far` that are too small for what they would add to the range; to miss them endangers nobody."""
    needless = np.zeros(far.shape, bool)
    support = 0
    for region in sorted(_regions(far), key=lambda region: np.median(disparity_16[region])):
        support += region.sum()
        cheap = least - disparity_16[region].min() <= _CHEAP_STRETCH * (most - least)
        if support < _LEAST_FAR_SUPPORT * count and not cheap:
            needless |= region
    return needless


def _regions(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a (h, w) bool mask."""
    if not mask.any():
        return []
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return [labels == label for label in range(1, count)]


def _agrees(coarse: CoarseMap, region: np.ndarray) -> bool:
    """The region is large enough, and the right image's slopes are its own at its disparities (normalised cross-correlation)."""
    if region.sum() < _LEAST_REGION * region.size:
        return False
    rows, columns = np.nonzero(region)
    landing = columns - (coarse.disparity_16[region].astype(np.int32) + SUBPIXELS // 2) // SUBPIXELS
    slopes = [cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=1) for image in (coarse.left, coarse.right)]
    own, found = slopes[0][rows, columns], slopes[1][rows, landing]
    own, found = own - own.mean(), found - found.mean()
    return bool(own @ found >= _LEAST_CORRELATION * math.sqrt((own @ own) * (found @ found)) > 0)


class RangeFinder:
    """The range to search in each frame of a stream: fixed, or what the frames show.

    That grows at once, and shrinks only when _KEEP_FRAMES frames could have done with much less. limits: what can be searched at all.
    fixed: always all of it; fixed_start: always from its beginning.
    """

    def __init__(self, rig: StereoRig, limits: Span, *, fixed: bool = False, fixed_start: bool = False) -> None:
        self._rig = rig
        self._limits = limits
        self._fixed = fixed
        self._start = fixed or fixed_start
        self._coarse = CoarseMatcher(rig)
        self._margin_px = MARGIN * self._coarse.scale_px
        self._hint = None if rig.disparity_hint_px is None else Span(*rig.disparity_hint_px)
        self._recent: deque[Span] = deque(maxlen=_KEEP_FRAMES)
        self._current: Span | None = limits if fixed else None
        self.notes: tuple[str, ...] = ()

    def __call__(self, left: np.ndarray, right: np.ndarray) -> tuple[Span, OutOfRange | None]:
        """(what to search, a multiple of STEP wide; what lies beyond it, None where that is unknown) of (H, W) uint8 images."""
        coarse = self._coarse(left, right)
        evidence = None if coarse is None else gather(coarse)
        searched = self._limits if self._fixed else self._follow(None if evidence is None else evidence.seen)
        if evidence is None:
            self.notes = ()
            return searched, None
        out = evidence.out_of(searched, self._rig.shape)
        self.notes = _notes(out, evidence.seen, searched, self._rig) if self._fixed and out.any else ()
        return searched, out

    def _follow(self, seen: Span | None) -> Span:
        """seen: what this frame shows, None when it does not tell."""
        current = self._current
        if seen is None:
            return current or self._rounded(self._hint or Span(self._limits.least_px, self._limits.least_px + _WITHOUT_EVIDENCE))
        if self._hint is not None:
            seen = seen.joined(self._hint)
        self._recent.append(seen)
        needed = Span(min(s.least_px for s in self._recent), max(s.most_px for s in self._recent))
        if current is None or not self._holds(current, seen):
            current = self._rounded(self._widened(needed))
        elif len(self._recent) == _KEEP_FRAMES:
            less = self._rounded(self._widened(needed))
            if less.width_px <= min(current.width_px - 2 * STEP, _MUCH_LESS * current.width_px):
                current = less
        self._current = current
        return current

    def _holds(self, current: Span, seen: Span) -> bool:
        slack_px = self._margin_px / 4
        least, most = max(seen.least_px - slack_px, self._limits.least_px), min(seen.most_px + slack_px, self._limits.most_px)
        return current.least_px <= least and most <= current.most_px

    def _widened(self, seen: Span) -> Span:
        least, most = seen.least_px - self._margin_px, seen.most_px + self._margin_px
        if self._start or least - self._limits.least_px <= _CHEAP_STRETCH * (most - least):
            least = self._limits.least_px  # infinity costs little here, and what is far need not be large
        return Span(least, most)

    def _rounded(self, span: Span) -> Span:
        least = math.floor(min(max(span.least_px, self._limits.least_px), self._limits.most_px - STEP))
        most = min(span.most_px, self._limits.most_px)
        return Span(float(least), float(least + max(1, math.ceil((most - least) / STEP)) * STEP))


def limits_of(rig: StereoRig, min_range_m: float, max_range_m: float) -> Span:
    """What can be searched: from a little behind max_range_m (infinity where it is 0) to min_range_m or the image's width."""
    farthest_px = (rig.bf / max_range_m if max_range_m else 0.0) - rig.doffs_px - BELOW_INFINITY_PX
    nearest_px = rig.bf / min_range_m - rig.doffs_px if min_range_m else math.inf
    return Span(farthest_px, max(min(nearest_px, float(rig.size_wh[0])), farthest_px + STEP))


def _notes(out: OutOfRange, seen: Span, searched: Span, rig: StereoRig) -> tuple[str, ...]:
    """One sentence on a fixed range that misses a part of the view."""
    missed = [(mask.mean(), side) for mask, side in ((out.nearer, "nearer"), (out.farther, "farther"))]
    told = [f"{share:.0%} of the view is {side}" for share, side in missed if share >= _WORTH_SAYING]
    if not told:
        return ()
    text = f"sgbm searches disparities from {searched.least_px:.0f} to {searched.most_px:.0f} px, as num_disparities says, but"
    needed = f"{seen.least_px:.0f} to {seen.most_px:.0f} px are seen"
    return (f"{text} {' and '.join(told)} ({needed}) and stays unknown: set stereo.sgbm.num_disparities to 0 (automatic)",)
