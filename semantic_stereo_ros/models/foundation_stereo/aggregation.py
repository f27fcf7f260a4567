"""Filtering of the cost volume: an hourglass of 3-D convolutions and the disparity transformer beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import AxialPlanar, Gate, conv3, gated, up3
from semantic_stereo_ros.models.foundation_stereo.transformer import Encoder

PATCH = 4


class CostAggregation(nn.Module):
    def __init__(self, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv3(28, 56, stride=2), AxialPlanar(56))
        self.conv2 = nn.Sequential(conv3(56, 112, stride=2), AxialPlanar(112))
        self.conv3 = nn.Sequential(conv3(112, 168, stride=2), AxialPlanar(168))
        self.conv3_up, self.conv2_up, self.conv1_up = up3(168, 112), up3(112, 56), up3(56, 28)
        self.agg_0 = nn.Sequential(conv3(224, 112, kernel=1), AxialPlanar(112), AxialPlanar(112))
        self.agg_1 = nn.Sequential(conv3(112, 56, kernel=1), AxialPlanar(56), AxialPlanar(56))
        self.conv_out = nn.Sequential(AxialPlanar(28), AxialPlanar(28))
        self.conv_patch = nn.Sequential(nn.Conv3d(28, 28, PATCH, PATCH, groups=28), nn.BatchNorm3d(28))
        self.atts = nn.ModuleDict({"4": Encoder(attention)})
        self.feature_att_8 = Gate(192, 56)
        self.feature_att_16 = Gate(320, 112)
        self.feature_att_32 = Gate(304, 168)
        self.feature_att_up_16 = Gate(320, 112)
        self.feature_att_up_8 = Gate(192, 56)

    def forward(self, volume: Tensor, features: list[Tensor]) -> Tensor:
        """(B, 28, D, h, w) -> the same shape. features: of the left image at 1/4, 1/8, 1/16, 1/32."""
        half = self.hourglass(self.conv1[0](volume), features)
        tokens = self.atts["4"](self.conv_patch(volume))
        up = self.conv1_up(half)
        enlarged = F.interpolate(tokens, scale_factor=float(PATCH), mode="trilinear", align_corners=False)
        return self.conv_out(up + enlarged.to(up.dtype))

    def hourglass(self, half: Tensor, features: list[Tensor]) -> Tensor:
        """(B, 56, D/2, h/2, w/2) -> the same shape. features: of the left image at 1/4, 1/8, 1/16, 1/32."""
        _, f8, f16, f32 = features
        e1 = gated(self.conv1[1](half), self.feature_att_8(f8))
        e2 = gated(self.conv2(e1), self.feature_att_16(f16))
        e3 = gated(self.conv3(e2), self.feature_att_32(f32))
        x = gated(self.agg_0(torch.cat([self.conv3_up(e3), e2], 1)), self.feature_att_up_16(f16))
        del e2, e3
        x = torch.cat([self.conv2_up(x), e1], 1)
        del e1
        return gated(self.agg_1(x), self.feature_att_up_8(f8))
