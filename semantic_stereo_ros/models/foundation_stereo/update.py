"""The recurrent update: three levels of selective gated units, and the heads that read them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import relu
from semantic_stereo_ros.models.foundation_stereo.context import HIDDEN, Context
from semantic_stereo_ros.models.foundation_stereo.lookup import LEVELS, TAPS

MOTION = 128
REDUCED = 256
SAMPLES = LEVELS * TAPS * (28 + 1)


class MotionEncoder(nn.Module):
    """Look-ups (B, 522, h, w) and disparity (B, 1, h, w) -> (B, 128, h, w), the disparity itself last."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(SAMPLES, REDUCED, 1)
        self.convc2 = nn.Conv2d(REDUCED, REDUCED, 3, padding=1)
        self.convd1 = nn.Conv2d(1, 64, 7, padding=3)
        self.convd2 = nn.Conv2d(64, 64, 3, padding=1)
        self.conv = nn.Conv2d(320, MOTION - 1, 3, padding=1)

    def forward(self, cost: Tensor, disparity: Tensor) -> Tensor:
        cost = relu(self.convc2(relu(self.convc1(cost))))
        shape = relu(self.convd2(relu(self.convd1(disparity))))
        return torch.cat([relu(self.conv(torch.cat([cost, shape], 1))), disparity], 1)


class GatedUnit(nn.Module):
    """A convolutional GRU of one kernel size."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convz = nn.Conv2d(channels, HIDDEN, kernel, padding=kernel // 2)
        self.convr = nn.Conv2d(channels, HIDDEN, kernel, padding=kernel // 2)
        self.convq = nn.Conv2d(channels, HIDDEN, kernel, padding=kernel // 2)

    def forward(self, hidden: Tensor, x: Tensor, joined: Tensor) -> Tensor:
        z, r = self.convz(joined).sigmoid(), self.convr(joined).sigmoid()
        q = self.convq(torch.cat([r * hidden, x], 1)).tanh()
        return torch.lerp(hidden, q, z)


class SelectiveUnit(nn.Module):
    """Two GRUs, of a small and a large kernel; attention (B, 1, h, w) weighs them per pixel (Selective-Stereo, Wang et al., 2024)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        joined = inputs + HIDDEN
        self.conv0 = nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1))
        self.conv1 = nn.Sequential(nn.Conv2d(joined, joined, 3, padding=1))
        self.small_gru = GatedUnit(joined, 1)
        self.large_gru = GatedUnit(joined, 3)

    def first(self, constant: Tensor, *inputs: Tensor) -> Tensor:
        """The first convolution of the inputs; `constant`, the context's, is the same in each step."""
        return relu(self.conv0(torch.cat([constant, *inputs], 1)))

    def forward(self, attention: Tensor, hidden: Tensor, x: Tensor) -> Tensor:
        """Hidden states (B, 128, h, w) and what `first` made of the inputs -> the next hidden states."""
        joined = relu(self.conv1(torch.cat([x, hidden], 1)))
        return torch.lerp(self.large_gru(hidden, x, joined), self.small_gru(hidden, x, joined), attention)


class PointwiseBlock(nn.Module):
    """ConvNeXt block (Liu et al., 2022) without its norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pwconv2(F.gelu(self.pwconv1(self.dwconv(x).permute(0, 2, 3, 1))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class DisparityHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.ReLU(inplace=True),
            PointwiseBlock(HIDDEN),
            PointwiseBlock(HIDDEN),
            nn.Conv2d(HIDDEN, 1, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UpdateBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = MotionEncoder()
        self.gru16 = SelectiveUnit(2 * HIDDEN)
        self.gru08 = SelectiveUnit(3 * HIDDEN)
        self.gru04 = SelectiveUnit(3 * HIDDEN)
        self.disp_head = DisparityHead()
        self.mask = nn.Sequential(nn.Conv2d(HIDDEN, 64, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(64, 32, 3, padding=1))

    def forward(self, context: Context, motion: Tensor) -> Tensor:
        """Advances context.hidden by one step; the change of the disparity (B, 1, h, w), float32. motion: what the encoder gives."""
        n4, n8, n16 = context.hidden
        i4, i8, i16 = context.inputs
        a4, a8, a16 = context.attention
        n16 = self.gru16(a16, n16, self.gru16.first(i16, pool(n8)))
        n8 = self.gru08(a8, n8, self.gru08.first(i8, pool(n4), enlarge(n16, n8)))
        n4 = self.gru04(a4, n4, self.gru04.first(i4, motion, enlarge(n8, n4)))
        context.hidden = [n4, n8, n16]
        return self.disp_head(n4).float()

    def mask_feature(self, hidden: Tensor) -> Tensor:
        """(B, 128, h, w) -> (B, 32, h, w): what the up-sampling reads after the last step."""
        return 0.25 * relu(self.mask(hidden))


def pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 2, 1)


def enlarge(x: Tensor, to: Tensor) -> Tensor:
    return F.interpolate(x, to.shape[-2:], mode="bilinear", align_corners=True)
