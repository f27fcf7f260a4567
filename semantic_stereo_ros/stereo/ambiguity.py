"""Which surfaces of a disparity map could as well be elsewhere, because their texture repeats along the rows or says nothing.

Tiles, bricks and fences match themselves a period farther as well as where they are (the wallpaper illusion), and noise on a bare
wall matches anything. A pixel is distinctive when its block in the left image fits the right image where the map says clearly better
than it fits any other place of its own row in the left image within the search range: that the left image repeats can be told even
where the right one shows none of the rivals. Distinctive pixels speak for the surface that they belong to: a surface is a connected
part of the map, and one with hardly any of them is unknown. What repeats stays known only near distinctive pixels of such a surface
and away from repeating ones that are unknown: the end of a fence and the foot of a tiled wall stay, their phantoms go.
"""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.stereo.refine import SUBPIXELS, UNKNOWN

SCALE = 2
"""Images are halved: what repeats within less than SHORTEST_PERIOD * SCALE px is not seen as repeating."""

SHORTEST_PERIOD = 3
BLOCK = (17, 3)  # halved px: wide along the row that is searched, flat because the disparity of a floor changes from row to row
CLEARLY_BETTER = 0.25
"""By this share of the block's mean gradient the fit must be better than that of the best rival."""

LEAST_SHARE = 0.05
"""Share of distinctive pixels below which a surface is unknown: random texture has 0.5 to 0.9, weak real texture 0.06, repeating 0.02."""

AROUND = (45, 45)  # halved px
LEAST_SHARE_AROUND = 0.06
SPREADING_SHARE = 0.05
"""A repeating pixel is unknown with a smaller share of distinctive ones around it, or with a larger share of unknown repeating ones."""

_GAIN = 4  # of the halved image's gradient, so that rounding to 8 bit does not matter
_NOISE = 2.0
_STRUCTURE = 4.0
_STEP_PX = 2.0


class AmbiguityCheck:
    """Finds the ambiguous surfaces of pairs of one shape; `longest_px` is the width of the search range."""

    def __init__(self, shape: tuple[int, int], longest_px: int) -> None:
        height, width = (-(-n // SCALE) for n in shape)
        self._shape, self._size_wh = shape, (width, height)
        self._periods = range(SHORTEST_PERIOD, min(-(-longest_px // SCALE), width - 1))
        self._columns = np.arange(width, dtype=np.float32)[None]
        self._rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
        self._rival = np.empty((height, width), np.uint8)

    def __call__(self, left: np.ndarray, right: np.ndarray, disparity_16: np.ndarray) -> np.ndarray:
        """(H, W) bool, True where a pixel's surface is ambiguous; of no meaning where it is unknown.

        left, right: (H, W) uint8; disparity_16: (H, W) int16 in 1/16 px, UNKNOWN where unknown.
        """
        sampled = np.ascontiguousarray(disparity_16[::SCALE, ::SCALE])
        known = sampled != UNKNOWN
        distinctive, structured = self._evidence(left, right, sampled)
        distinctive &= known
        parts = (known & ~_steps(sampled)).view(np.uint8)
        count, surface, stats, _ = cv2.connectedComponentsWithStats(parts, connectivity=4, ltype=cv2.CV_32S)
        size = stats[:, cv2.CC_STAT_AREA]
        size[0] = 0  # between surfaces
        gone = (np.bincount(surface[distinctive], minlength=count) < LEAST_SHARE * size)[surface]
        repeating = structured & known & ~distinctive
        gone |= repeating & (_share_around(distinctive & ~gone) < LEAST_SHARE_AROUND)
        gone |= repeating & (_share_around(gone & structured) > SPREADING_SHARE)
        ambiguous = gone.view(np.uint8)
        # what lies between surfaces goes with those beside it
        np.copyto(ambiguous, cv2.dilate(ambiguous, np.ones((3, 3), np.uint8)), where=surface == 0)
        height, width = self._shape
        full = cv2.resize(ambiguous, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)[:height, :width]
        return full.view(bool)

    def _evidence(self, left: np.ndarray, right: np.ndarray, sampled_16: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(h, w) bool twice: the block fits where the map says and nowhere else in the row nearly as well; it has vertical edges."""
        slope_left, slope_right = self._slope(left), self._slope(right)
        source = self._columns - sampled_16 * np.float32(1 / (SUBPIXELS * SCALE))
        seen = cv2.remap(slope_right, source, self._rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        misfit = cv2.blur(cv2.absdiff(slope_left, seen), BLOCK).astype(np.float32)
        energy = cv2.blur(cv2.absdiff(slope_left, np.full_like(slope_left, 128)), BLOCK).astype(np.float32)
        return self._best_rival(slope_left) - misfit > CLEARLY_BETTER * (energy + _NOISE), energy > _STRUCTURE

    def _slope(self, image: np.ndarray) -> np.ndarray:
        """(h, w) uint8: horizontal gradient of the halved image, 128 + _GAIN grey levels per px, clipped."""
        halved = cv2.resize(image, self._size_wh, interpolation=cv2.INTER_AREA)
        return cv2.Sobel(halved, cv2.CV_8U, 1, 0, ksize=1, scale=_GAIN / 2, delta=128)

    def _best_rival(self, slope: np.ndarray) -> np.ndarray:
        """(h, w) uint8: least mean difference of a block to one that lies a period to the left or right in the same image."""
        best = self._rival
        best.fill(255)
        for period in self._periods:
            misfit = cv2.blur(cv2.absdiff(slope[:, :-period], slope[:, period:]), BLOCK)
            for side in (best[:, :-period], best[:, period:]):
                cv2.min(side, misfit, dst=side)
        return best


def _steps(disparity_16: np.ndarray) -> np.ndarray:
    """(h, w) bool: the right or the lower neighbour's disparity is known and another surface's."""
    limit, known = _STEP_PX * SUBPIXELS, disparity_16 != UNKNOWN
    steps = np.zeros(disparity_16.shape, bool)
    steps[:, :-1] = (cv2.absdiff(disparity_16[:, 1:], disparity_16[:, :-1]) > limit) & known[:, 1:]
    steps[:-1] |= (cv2.absdiff(disparity_16[1:], disparity_16[:-1]) > limit) & known[1:]
    return steps


def _share_around(mask: np.ndarray) -> np.ndarray:
    """(h, w) float32: share of True pixels around each."""
    return cv2.blur(mask.astype(np.float32), AROUND)
