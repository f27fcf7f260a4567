"""Between a frame and a stereo network: size, range of disparities and dtype of the images, and the way back. All of it is here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.types import StereoFrame, StereoRig, as_rgb8

EDGE_PX = 1.0


@dataclass(frozen=True)
class View:
    """What a network sees of a rig's images: resized to rig.size_wh, and with `shift` columns added so that it finds no d < 0.

    A point at infinity has disparity -doffs; networks search from 0 up. The left image gets ceil(doffs) columns in front and the right one
    as many behind (the other way round where doffs is negative): the network's disparity is d + shift, and no pixel is lost.
    """

    full: StereoRig
    rig: StereoRig
    shift: int

    @classmethod
    def of(cls, rig: StereoRig, scale: float) -> View:
        """scale: of width and height, rounded to whole pixels."""
        width, height = rig.size_wh
        resized = rig.resized((max(1, round(width * scale)), max(1, round(height * scale))))
        return cls(rig, resized, math.ceil(resized.doffs_px))

    @property
    def factor(self) -> float:
        """Pixels of the frame per pixel of the network, along x."""
        return self.full.size_wh[0] / self.rig.size_wh[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the network's images."""
        return self.rig.shape[0], self.rig.shape[1] + abs(self.shift)

    @property
    def right_columns(self) -> tuple[int, int]:
        """First and last column of the network's right image that are not added ones."""
        first = max(-self.shift, 0)
        return first, first + self.rig.size_wh[0] - 1

    def images(self, frame: StereoFrame, device: torch.device) -> tuple[Tensor, Tensor]:
        """Left and right (1, 3, h, w + |shift|) float32 0..255 RGB. 16-bit images are tone-mapped by one mapping for both."""
        both = as_rgb8(np.concatenate((frame.left, frame.right)))
        result = []
        for image, behind in zip(np.split(both, 2), (self.shift < 0, self.shift > 0)):
            if self.rig.size_wh != self.full.size_wh:
                image = cv2.resize(image, self.rig.size_wh, interpolation=cv2.INTER_LINEAR)
            x = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float()
            result.append(F.pad(x, (0, abs(self.shift), 0, 0) if behind else (abs(self.shift), 0, 0, 0), mode="replicate"))
        return result[0], result[1]

    def cut(self, x: Tensor) -> Tensor:
        """(1, 1, h, w + |shift|) of the left image -> (1, 1, h, w)."""
        start = max(self.shift, 0)
        return x[..., start : start + self.rig.size_wh[0]]

    def disparity_back(self, disparity: Tensor) -> Tensor:
        """The network's disparity (1, 1, h, w + |shift|) as x_left - x_right of the frame, (H, W) float32 px. Edges stay edges."""
        x = (self.cut(disparity) - self.shift) * self.factor
        if self.rig.size_wh != self.full.size_wh:
            smooth, nearest = self._enlarged(x, "bilinear"), self._enlarged(x, "nearest-exact")
            x = torch.where((smooth - nearest).abs() > EDGE_PX * self.factor, nearest, smooth)
        return x[0, 0]

    def back(self, x: Tensor) -> Tensor:
        """Another map (1, 1, h, w + |shift|) of the left image for the frame's pixels, (H, W) float32; its values stay."""
        x = self.cut(x)
        return (x if self.rig.size_wh == self.full.size_wh else self._enlarged(x, "bilinear"))[0, 0]

    def range_px(self, max_disp: int) -> tuple[float, float]:
        """Smallest and largest x_left - x_right of the frame that a network sees which searches 0..max_disp."""
        return -self.shift * self.factor, (max_disp - self.shift) * self.factor

    def _enlarged(self, x: Tensor, mode: str) -> Tensor:
        return F.interpolate(x, self.full.shape, mode=mode, align_corners=False if mode == "bilinear" else None)
