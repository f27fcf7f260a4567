"""Matching features of both images: the CNN's pyramid, fused top-down, joined with the monocular prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.backbones import edgenext
from semantic_stereo_ros.models.foundation_stereo.backbones.prior import MonocularPrior
from semantic_stereo_ros.models.foundation_stereo.blocks import ConvInstance, instance_norm, relu
from semantic_stereo_ros.models.foundation_stereo.variants import Variant


class InstanceResidual(nn.Module):
    """relu(x + y), y = conv2 of conv1, instance-normalised; `outer` puts a ReLU on y as well."""

    def __init__(self, channels: int, bias: bool, outer: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.outer = outer

    def forward(self, x: Tensor) -> Tensor:
        y = instance_norm(self.conv2(relu(instance_norm(self.conv1(x)))))
        return relu((relu(y) if self.outer else y) + x)


class FuseUp(nn.Module):
    """Doubles `low`, joins it with `skip` and refines: (B, 2 * skip channels, h, w)."""

    def __init__(self, low: int, skip: int) -> None:
        super().__init__()
        self.conv1 = ConvInstance(nn.ConvTranspose2d(low, skip, 4, 2, 1, bias=False))
        self.conv2 = InstanceResidual(2 * skip, bias=False, outer=False)

    def forward(self, low: Tensor, skip: Tensor) -> Tensor:
        return self.conv2(torch.cat([self.conv1(low), skip], 1))


class FeatureExtractor(nn.Module):
    """(B, 3, H, W) normalised RGB -> features at 1/4, 1/8, 1/16, 1/32, and the monocular prior at 1/4."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.stem = edgenext.make_stem()
        self.stages = edgenext.make_stages()
        self.dino = MonocularPrior(variant)
        self.deconv32_16 = FuseUp(304, 160)
        self.deconv16_8 = FuseUp(320, 96)
        self.deconv8_4 = FuseUp(192, 48)
        width = variant.feature
        self.conv4 = nn.Sequential(
            ConvInstance(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            InstanceResidual(width, bias=True, outer=True),
            InstanceResidual(width, bias=True, outer=True),
        )

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        prior = self.dino(image)
        c4, c8, c16, c32 = edgenext.run(self.stem, self.stages, image)
        f16 = self.deconv32_16(c32, c16)
        f8 = self.deconv16_8(f16, c8)
        f4 = self.deconv8_4(f8, c4)
        f4 = self.conv4(torch.cat([f4, prior], 1))
        return [f4, f8, f16, c32], prior
