"""From ideal colours to what two imperfect cameras deliver: blur, gain, offset, noise, quantisation; and a known miscalibration."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class SyntheticSensor:
    """Imperfections of the pair. Grey levels are those of 8 bit, whatever the dtype.

    noise_sigma: Gaussian noise of each image, grey levels. right_gain, right_offset: the right image is gain * image + offset.
    blur_px: sigma of the lens blur of both. color: RGB or grey images. dtype: uint8, or uint16 (8-bit levels times 256).
    """

    noise_sigma: float = 2.0
    right_gain: float = 1.0
    right_offset: float = 0.0
    blur_px: float = 0.4
    color: bool = True
    dtype: type = np.uint8

    def expose(self, color: np.ndarray, right: bool, seed: tuple[int, ...]) -> np.ndarray:
        """(H, W, 3) float32 in 0..1 -> (H, W) or (H, W, 3) image of this sensor's dtype; the noise depends on `seed` alone."""
        image = color if self.color else color @ np.array([0.299, 0.587, 0.114], np.float32)
        image = image * np.float32(255.0)
        if self.blur_px > 0:
            image = cv2.GaussianBlur(image, (0, 0), self.blur_px, borderType=cv2.BORDER_REFLECT_101)
        if right:
            image = image * np.float32(self.right_gain) + np.float32(self.right_offset)
        if self.noise_sigma > 0:
            rng = np.random.default_rng(seed)
            image += np.float32(self.noise_sigma) * rng.standard_normal(image.shape, dtype=np.float32)
        scale, top = (np.float32(1.0), 255) if self.dtype == np.uint8 else (np.float32(256.0), 65535)
        return np.clip(np.rint(image * scale), 0, top).astype(self.dtype)


@dataclass(frozen=True)
class SyntheticMiscalibration:
    """How the right image departs from what the rig says; the rig itself stays as it is.

    The right image's content moves by vertical_px down and horizontal_px to the right, and turns by roll_deg (clockwise as seen)
    about the principal point. horizontal_px acts as an error of doffs: matched disparities are smaller by it.
    """

    vertical_px: float = 0.0
    horizontal_px: float = 0.0
    roll_deg: float = 0.0

    def ideal_pixels(self, u: np.ndarray, v: np.ndarray, center: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Where the content of the right image's pixels (u, v) would lie in a perfectly rectified right image."""
        u, v = u - self.horizontal_px, v - self.vertical_px
        if not self.roll_deg:
            return u, v
        c, s = np.cos(np.radians(self.roll_deg)), np.sin(np.radians(self.roll_deg))
        x, y = u - center[0], v - center[1]
        return center[0] + c * x + s * y, center[1] - s * x + c * y
