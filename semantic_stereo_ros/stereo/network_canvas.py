"""Between a frame and a network that wants images of certain sizes: widening, resizing and padding, and the way back. All of it is here.

In order: columns are added so that no disparity is below 0 (a point at infinity has d = -doffs); then the images are resized; then
their edges are repeated up to the network's size. Focal length, doffs and disparity scale together along x; the answer is in the
frame's pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.types import StereoFrame, StereoRig, as_rgb8

EDGE_PX = 1.0
"""Where linear and nearest interpolation of a disparity differ more (canvas px), an edge is between the pixels and none is made up."""


@dataclass(frozen=True)
class Fit:
    """For one rig and one canvas, the images that the network sees.

    shift: ceil(doffs); that many columns are put before the left image and behind the right one, or the other way round if negative.
    content_wh: size of the widened images once they are resized; canvas_wh: with the repeated edges; corner_xy: of the content in it.
    """

    rig: StereoRig
    shift: int
    content_wh: tuple[int, int]
    canvas_wh: tuple[int, int]
    corner_xy: tuple[int, int]

    @property
    def factor(self) -> float:
        """Pixels of the canvas per pixel of the frame, along x."""
        return self.content_wh[0] / (self.rig.size_wh[0] + abs(self.shift))

    def images(self, frame: StereoFrame) -> tuple[np.ndarray, np.ndarray]:
        """Left and right (h, w, 3) uint8 RGB of the canvas' size. 16-bit images are tone-mapped by one mapping for both."""
        both = as_rgb8(np.concatenate((frame.left, frame.right)))
        before, behind = max(self.shift, 0), max(-self.shift, 0)
        left, right = np.split(both, 2)
        return self._place(left, before, behind), self._place(right, behind, before)

    def _place(self, image: np.ndarray, before: int, behind: int) -> np.ndarray:
        if before or behind:
            image = cv2.copyMakeBorder(image, 0, 0, before, behind, cv2.BORDER_REPLICATE)
        if image.shape[1::-1] != self.content_wh:
            smaller = image.shape[1] > self.content_wh[0]
            image = cv2.resize(image, self.content_wh, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        (x, y), (width, height) = self.corner_xy, self.canvas_wh
        right, below = width - x - self.content_wh[0], height - y - self.content_wh[1]
        if x or y or right or below:
            image = cv2.copyMakeBorder(image, y, below, x, right, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(image)

    def disparity_back(self, disparity: np.ndarray) -> np.ndarray:
        """The canvas' disparity (h, w) float32 px as raw x_left - x_right of the frame, (H, W) float32 px. Edges stay edges."""
        return self._back(disparity) / np.float32(self.factor) - np.float32(self.shift)

    def difference_back(self, difference: np.ndarray) -> np.ndarray:
        """A difference of disparities (h, w) float32, canvas px, as one of the frame, (H, W) float32 px."""
        return self._back(difference) / np.float32(self.factor)

    def _back(self, values: np.ndarray) -> np.ndarray:
        (x, y), (width, height) = self.corner_xy, self.content_wh
        values = enlarged(values[y : y + height, x : x + width], (self.rig.size_wh[0] + abs(self.shift), self.rig.size_wh[1]))
        start = max(self.shift, 0)
        return values[:, start : start + self.rig.size_wh[0]]


def enlarged(values: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 resized to (H, W): linear, but nearest beside edges and NaN; the values stay."""
    if values.shape[::-1] == size_wh:
        return values
    values = np.ascontiguousarray(values)
    smooth = cv2.resize(values, size_wh, interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(values, size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.where(np.abs(smooth - nearest) < EDGE_PX, smooth, nearest)


def fit(rig: StereoRig, fixed_wh: tuple[int | None, int | None], multiple: int, how: str, scale: float = 1.0) -> Fit:
    """The Fit for a network.

    fixed_wh: the network's own width and height, None where it takes any `multiple`. how: 'stretch' resizes the images to the network's
    size, whatever it does to their proportions; 'pad' keeps them, reduces what is too large, and repeats the edges. scale: of what is
    not fixed. Raises ConfigError when nothing would be left of the images.
    """
    shift = math.ceil(rig.doffs_px)
    whole = rig.size_wh[0] + abs(shift), rig.size_wh[1]
    wanted = [n * scale for n in whole]
    if how == "pad":
        factor = min([scale] + [fixed / n for fixed, n in zip(fixed_wh, whole) if fixed is not None])
        content = [max(round(n * factor), 1) for n in whole]
        canvas = [fixed or math.ceil(n / multiple) * multiple for fixed, n in zip(fixed_wh, content)]
    else:
        canvas = [fixed or max(round(n / multiple), 1) * multiple for fixed, n in zip(fixed_wh, wanted)]
        content = canvas
    if rig.size_wh[0] * content[0] / whole[0] < 1:
        raise ConfigError(f"of images {rig.size_wh[0]} px wide nothing is left beside doffs = {rig.doffs_px:g} px: check the calibration")
    corner = [(c - n) // 2 for c, n in zip(canvas, content)]
    return Fit(rig, shift, (content[0], content[1]), (canvas[0], canvas[1]), (corner[0], corner[1]))
