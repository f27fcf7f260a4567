"""What a disparity map can be asked without its matcher's costs: is it consistent with the right view and
with the images.

Maps are OpenCV's int16 disparities in sixteenths of a pixel, UNKNOWN where not known; every step is a whole-image call.
"""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.checks import missing_dependency

UNKNOWN = np.int16(-32768)
"""Marks an unknown pixel of a fixed-point map: below every disparity, so a maximum ignores it."""

SUBPIXELS = 16

_TEXTURE_BLOCK = (25, 25)
_SMOOTHED_BLOCK = (5, 5)
_SMOOTHED_STEP_PX = 1.5


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


def textured(left: np.ndarray, minimum: float) -> np.ndarray:
    """(H, W) bool: some horizontal gradient of the (H, W) uint8 image within 12 px reaches `minimum` grey levels per px.

    Elsewhere (blown out, dark, blank) every disparity explains the images equally well.
    """
    slope = cv2.convertScaleAbs(cv2.Sobel(left, cv2.CV_16S, 1, 0, ksize=1))
    return cv2.dilate(slope, np.ones(_TEXTURE_BLOCK, np.uint8)) >= 2 * minimum


def smooth_regions(disparity_16: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose whole 5x5 block is known and spans less than 1.5 px: one surface, perhaps slanted."""
    block = np.ones(_SMOOTHED_BLOCK, np.uint8)
    span = cv2.subtract(cv2.dilate(disparity_16, block), cv2.erode(disparity_16, block))
    return (span < int(_SMOOTHED_STEP_PX * SUBPIXELS)) & (disparity_16 != UNKNOWN)


class SampledPair:
    """Every second pixel of every second row of a pair: enough for what is averaged over blocks anyway, at a quarter of the time.

    left, gradient: (h, w) uint8 and float32 samples of the left image and of its horizontal gradient in grey levels per px.
    """

    STRIDE = 2

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        height, width = (n // self.STRIDE + n % self.STRIDE for n in shape)
        self._columns = np.arange(0, self.STRIDE * width, self.STRIDE, dtype=np.float32)[None]
        self._rows = np.repeat(np.arange(0, self.STRIDE * height, self.STRIDE, dtype=np.float32)[:, None], width, axis=1)
        self._source = np.empty((height, width), np.float32)
        self._slope = np.empty(shape, np.int16)
        self._difference = np.empty((height, width), np.float32)
        self._full = np.empty((height * self.STRIDE, width * self.STRIDE), np.float32)
        self.gradient = np.empty((height, width), np.float32)

    def show(self, left: np.ndarray, right: np.ndarray) -> None:
        """Take a pair of (H, W) uint8 images."""
        self.left, self._right = self.sample(left), right
        cv2.Sobel(left, cv2.CV_16S, 1, 0, dst=self._slope, ksize=1)
        np.multiply(self.sample(self._slope), np.float32(0.5), out=self.gradient)

    def sample(self, full: np.ndarray) -> np.ndarray:
        """(h, w) contiguous samples of an (H, W) array."""
        return np.ascontiguousarray(full[:: self.STRIDE, :: self.STRIDE])

    def difference(self, disparity_px: np.ndarray) -> np.ndarray:
        """(h, w) float32, left - right image warped by (h, w) sampled disparities without NaN; the next call overwrites it."""
        np.subtract(self._columns, disparity_px, out=self._source)
        warped = cv2.remap(self._right, self._source, self._rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.subtract(self.left, warped, dst=self._difference, dtype=cv2.CV_32F)

    def full(self, sampled: np.ndarray) -> np.ndarray:
        """(H, W) float32 from (h, w) by bilinear interpolation; a view of a buffer that the next call overwrites."""
        height, width = self._full.shape
        cv2.resize(sampled, (width, height), dst=self._full, interpolation=cv2.INTER_LINEAR)
        return self._full[: self._shape[0], : self._shape[1]]


class SubpixelStep:
    """Fractions of a pixel from the images, where the 5x5 block is one surface; edges and slivers stay as they are.

    Semi-global matching pulls towards whole pixels. There a mean over the block, one step of B. D. Lucas and T. Kanade ("An
    iterative image registration technique", 1981) over 13x13 with the block's mean brightness removed, and the mean again halve
    the error that all pixels of an object share. The step is at most LIMIT_PX and fades where the gradient says little.
    """

    LIMIT_PX = 0.35
    DAMPING = 5.0  # grey levels^2 of gradient energy at which the step is halved
    BLOCK = (7, 7)  # samples

    def __init__(self, shape: tuple[int, int]) -> None:
        self._smoothed = np.empty(shape, np.float32)

    def __call__(self, pair: SampledPair, disparity_px: np.ndarray, regions: np.ndarray) -> None:
        """Refine (H, W) float32 disparities without NaN in place where `regions` is True."""
        np.copyto(disparity_px, cv2.blur(disparity_px, _SMOOTHED_BLOCK, dst=self._smoothed), where=regions)
        inside = pair.sample(regions).astype(np.float32)
        count = np.maximum(cv2.boxFilter(inside, -1, self.BLOCK), np.float32(1e-3))
        difference = pair.difference(pair.sample(disparity_px)) * inside
        gradient = pair.gradient * inside
        mean_gradient = cv2.boxFilter(gradient, -1, self.BLOCK) / count
        cross = cv2.boxFilter(difference * gradient, -1, self.BLOCK) / count
        cross -= cv2.boxFilter(difference, -1, self.BLOCK) / count * mean_gradient
        energy = cv2.sqrBoxFilter(gradient, cv2.CV_32F, self.BLOCK) / count
        energy -= mean_gradient * mean_gradient
        energy += np.float32(self.DAMPING)
        step = np.divide(cross, energy, out=cross)
        np.clip(step, -self.LIMIT_PX, self.LIMIT_PX, out=step)
        np.subtract(disparity_px, pair.full(step), out=disparity_px, where=regions)
        np.copyto(disparity_px, cv2.blur(disparity_px, _SMOOTHED_BLOCK, dst=self._smoothed), where=regions)


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


def consistent_difference(left_px: np.ndarray, right_px: np.ndarray) -> np.ndarray:
    """(H, W) float32 px: how far the left view's disparity is from the right view's at the same point; inf outside the right image.

    left_px, right_px: (H, W) float32 disparities x_left - x_right of the left and of the right image's pixels.
    """
    height, width = left_px.shape
    match = np.arange(width, dtype=np.float32) - left_px
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    outside = ~((match >= 0) & (match <= width - 1))
    seen = cv2.remap(right_px, np.where(outside, np.float32(0), match), rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(outside | ~np.isfinite(seen), np.float32(np.inf), np.abs(seen - left_px))
