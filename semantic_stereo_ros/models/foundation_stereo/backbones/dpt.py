"""The dense prediction head (Ranftl et al., 2021) of Depth Anything V2, up to the feature that is read."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.variants import Variant


class ResidualUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Adds a finer level, refines, resizes to `size`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)

    def forward(self, x: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        x = self.resConfUnit2(x)
        # A pointwise convolution and a linear resize commute; the smaller image is cheaper.
        return F.interpolate(self.out_conv(x), size, mode="bilinear", align_corners=True)


class Scratch(nn.Module):
    refinenet1: Fusion
    refinenet2: Fusion
    refinenet3: Fusion
    refinenet4: Fusion

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width = variant.fusion
        for level, channels in enumerate(variant.dpt, 1):
            setattr(self, f"layer{level}_rn", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            setattr(self, f"refinenet{level}", Fusion(width))
        self.output_conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        # The checkpoints hold the layers of a monocular disparity that is not read.
        self.output_conv2 = nn.Sequential(nn.Conv2d(width // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1))


class DepthHead(nn.Module):
    """Four maps (B, E, P, Q) -> (B, V, 8 P, 8 Q)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        a, b, _, d = variant.dpt
        self.projects = nn.ModuleList(nn.Conv2d(variant.width, channels, 1) for channels in variant.dpt)
        self.resize_layers = nn.ModuleList(
            [nn.ConvTranspose2d(a, a, 4, 4), nn.ConvTranspose2d(b, b, 2, 2), nn.Identity(), nn.Conv2d(d, d, 3, 2, 1)]
        )
        self.scratch = Scratch(variant)

    def forward(self, maps: list[Tensor]) -> Tensor:
        s = self.scratch
        levels = []
        for index in range(4):
            x = self.resize_layers[index](self.projects[index](maps[index]))
            levels.append(getattr(s, f"layer{index + 1}_rn")(x))
        l1, l2, l3, l4 = levels
        path = s.refinenet4(l4, None, size(l3))
        path = s.refinenet3(path, l3, size(l2))
        path = s.refinenet2(path, l2, size(l1))
        path = s.refinenet1(path, l1, (2 * l1.shape[-2], 2 * l1.shape[-1]))
        return s.output_conv1(path)


def size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
