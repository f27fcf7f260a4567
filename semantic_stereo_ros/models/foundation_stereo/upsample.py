"""From a quarter of the size to the whole: each pixel is a learned mean of its nine coarse neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import leaky

SCALE = 4


class Conv(nn.Module):
    """A convolution and a leaky ReLU; the wrapper's name is in the checkpoints."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return leaky(self.conv(x))


class JoinStem(nn.Module):
    """(B, 32, H/4, W/4) mask feature and (B, 32, H/2, W/2) image stem -> (B, 64, H/2, W/2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(nn.ConvTranspose2d(32, 32, 4, 2, 1, bias=False))
        self.conv2 = Conv(nn.Conv2d(64, 64, 3, padding=1, bias=False))

    def forward(self, x: Tensor, stem: Tensor) -> Tensor:
        return self.conv2(torch.cat([self.conv1(x), stem], 1))


def upsample(disparity: Tensor, logits: Tensor) -> Tensor:
    """disparity (B, 1, h, w) in quarter-scale px, logits (B, 9, 4 h, 4 w) -> (B, 1, 4 h, 4 w) in px."""
    batch, _, height, width = disparity.shape
    patches = F.unfold(SCALE * disparity, 3, padding=1).view(batch, 9, height, 1, width, 1)
    weights = logits.float().softmax(1).view(batch, 9, height, SCALE, width, SCALE)
    return (patches * weights).sum(1).view(batch, 1, SCALE * height, SCALE * width)
