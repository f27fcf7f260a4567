"""Colour as the tie-breaker at the rim of a mask: matchers fatten foregrounds by a few pixels, and the image knows better.

Beside each rim, the object's brightness is learnt from its inside and the background's from beyond the rim. Where the two differ clearly,
a rim pixel that looks like the background is given back; where they do not, nothing is changed.
"""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.types import StereoFrame, as_rgb8

_RIM_PIXELS = 3
_WINDOW_PIXELS = 7
_LEAST_CONTRAST = 12.0  # grey levels of 255
_LEAST_CONTRAST_SIGMAS = 0.5


def grey8(frame: StereoFrame) -> np.ndarray:
    """(H, W) uint8 brightness of the left image."""
    image = frame.left
    if image.dtype == np.uint8 and image.ndim == 2:
        return image
    return cv2.cvtColor(as_rgb8(image), cv2.COLOR_RGB2GRAY)


def trim(labels: np.ndarray, grey: np.ndarray, stride: int) -> np.ndarray:
    """(H, W) uint16 labels without the rim pixels that look like the background beside them. grey: (H, W) uint8.

    The brightness of both sides is learnt on every `stride`-th pixel.
    """
    kernel = np.ones((2 * _RIM_PIXELS + 1,) * 2, np.uint8)
    lowest, highest = cv2.erode(labels, kernel), cv2.dilate(labels, kernel)
    rim = np.flatnonzero((labels > 0) & (lowest == 0))
    if not rim.size:
        return labels
    small = (slice(None, None, stride), slice(None, None, stride))
    brightness = grey[small].astype(np.float32)
    own = labels[small] > 0
    inside = _learn(brightness, (own & (lowest[small] == highest[small])).astype(np.float32), stride)
    thin = _learn(brightness, own.astype(np.float32), stride)
    outside = _learn(brightness, (highest[small] == 0).astype(np.float32), stride)
    mean_in, deviation_in = (np.where(inside[2] < 2, b, a) for a, b in zip(inside[:2], thin[:2]))
    mean_out, deviation_out, weight_out = outside
    contrast = np.abs(mean_in - mean_out)
    clear = (contrast > _LEAST_CONTRAST) & (contrast > _LEAST_CONTRAST_SIGMAS * (deviation_in + deviation_out)) & (weight_out > 2)

    v, u = np.divmod(rim, labels.shape[1])
    at = (v // stride, u // stride)
    here = cv2.blur(grey, (3, 3)).ravel()[rim].astype(np.float32)
    background = clear[at] & (np.abs(here - mean_in[at]) > np.abs(here - mean_out[at]))
    trimmed = labels.copy()
    trimmed.ravel()[rim[background]] = 0
    return trimmed


def _learn(brightness: np.ndarray, weight: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted mean, standard deviation and weight in a window about each pixel."""
    size = (2 * max(1, round(_WINDOW_PIXELS / stride)) + 1,) * 2
    weighted = brightness * weight
    total, first, second = (
        cv2.boxFilter(x, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT) for x in (weight, weighted, brightness * weighted)
    )
    share = 1 / np.maximum(total, 1)
    mean = first * share
    return mean, np.sqrt(np.maximum(second * share - mean * mean, 1)), total
