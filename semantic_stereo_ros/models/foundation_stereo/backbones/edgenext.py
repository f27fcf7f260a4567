"""EdgeNeXt-small (Maaz et al., 2022): the convolutional features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.backbones.vit import Mlp

DIMS = (48, 96, 160, 304)
DEPTHS = (3, 3, 9, 3)
KERNELS = (3, 5, 7, 9)
SPLITS = (0, 1, 2, 3)  # depth-wise convolutions of the last block's split attention; 0 = an ordinary block
HEADS = 8


class ChannelNorm(nn.LayerNorm):
    """Layer norm of each pixel over its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.conv_dw = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class CrossCovariance(nn.Module):
    """Attention between channels: a (C/8, C/8) matrix per head, whatever the image's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        batch, count, channels = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, HEADS, channels // HEADS).permute(2, 0, 3, 4, 1)
        attention = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        return self.proj((attention.softmax(-1) @ v).permute(0, 3, 1, 2).reshape(batch, count, channels))


class FourierPositions(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(64, channels, 1)
        self._tables: tuple[object, Tensor] | None = None

    def forward(self, height: int, width: int) -> Tensor:
        """(1, channels, height, width)."""
        weight = self.token_projection.weight
        key = (height, width, weight.device, weight.dtype)
        if self._tables is None or self._tables[0] != key:
            y, x = _waves(height), _waves(width)
            table = torch.cat([y.T[:, :, None].expand(-1, -1, width), x.T[:, None, :].expand(-1, height, -1)])
            self._tables = (key, table[None].to(weight))
        return self.token_projection(self._tables[1])


def _waves(count: int) -> Tensor:
    """(count, 32) sines and cosines of 1..count over the whole, float64."""
    j = torch.arange(32)
    angle = torch.arange(1, count + 1, dtype=torch.float64)[:, None] / (count + 1e-6) * (2 * math.pi) / 10000 ** (2 * (j // 2) / 32)
    return torch.where(j % 2 == 0, angle.sin(), angle.cos())


class SplitAttentionBlock(nn.Module):
    """Split depth-wise transpose attention (SDTA)."""

    def __init__(self, channels: int, splits: int) -> None:
        super().__init__()
        self.gamma_xca = nn.Parameter(torch.full((channels,), 1e-6))
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        part = math.ceil(channels / (splits + 1))
        self.convs = nn.ModuleList(nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(splits))
        self.pos_embd = FourierPositions(channels) if splits == 1 else None
        self.norm_xca = nn.LayerNorm(channels, 1e-6)
        self.xca = CrossCovariance(channels)
        self.norm = nn.LayerNorm(channels, 1e-6)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        chunks = x.chunk(len(self.convs) + 1, 1)
        s, parts = chunks[0], []
        for index, conv in enumerate(self.convs):
            s = conv(s if index == 0 else s + chunks[index])
            parts.append(s)
        t = torch.cat([*parts, chunks[-1]], 1)
        if self.pos_embd is not None:
            t = t + self.pos_embd(height, width)
        t = t.flatten(2).transpose(1, 2)
        t = t + self.gamma_xca * self.xca(self.norm_xca(t))
        return x + (self.gamma * self.mlp(self.norm(t))).transpose(1, 2).unflatten(2, (height, width))


class Stage(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        channels, depth, splits = DIMS[index], DEPTHS[index], SPLITS[index]
        self.downsample = nn.Identity()
        if index:
            self.downsample = nn.Sequential(ChannelNorm(DIMS[index - 1]), nn.Conv2d(DIMS[index - 1], channels, 2, 2))
        blocks: list[nn.Module] = [ConvBlock(channels, KERNELS[index]) for _ in range(depth - bool(splits))]
        if splits:
            blocks.append(SplitAttentionBlock(channels, splits))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


def make_stem() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, DIMS[0], 4, 4), ChannelNorm(DIMS[0]))


def make_stages() -> nn.Sequential:
    return nn.Sequential(*(Stage(index) for index in range(4)))


def run(stem: nn.Module, stages: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Features at 1/4, 1/8, 1/16, 1/32 of the image, 48, 96, 160, 304 channels."""
    x = stem(x)
    outputs = []
    for stage in stages:
        x = stage(x)
        outputs.append(x)
    return outputs
