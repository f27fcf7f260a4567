"""Blocks that several parts are made of. Attribute names are those of the checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def relu(x: Tensor) -> Tensor:
    """In place where nothing is to be differentiated."""
    return F.relu(x, inplace=not x.requires_grad)


def leaky(x: Tensor) -> Tensor:
    """Slope 0.01, in place where nothing is to be differentiated."""
    return F.leaky_relu(x, inplace=not x.requires_grad)


def instance_norm(x: Tensor) -> Tensor:
    """Zero mean and unit variance of each channel of each image (B, C, H, W); in place where nothing is to be differentiated."""
    if x.requires_grad or torch.jit.is_tracing():
        return F.instance_norm(x)
    # Sums of channels-last images are several times as fast as torch's variance of them.
    x = x.sub_(x.mean((2, 3), keepdim=True, dtype=torch.float32).to(x.dtype))
    variance = torch.linalg.vector_norm(x, 2, (2, 3), keepdim=True, dtype=torch.float32).square_() / (x.shape[2] * x.shape[3])
    return x.mul_((variance + 1e-5).rsqrt_().to(x.dtype))


class ConvNorm(nn.Module):
    """conv without bias -> batch norm -> leaky ReLU, 2-D or 3-D, or transposed 3-D."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.bn: nn.Module = nn.BatchNorm3d(channels) if isinstance(conv, (nn.Conv3d, nn.ConvTranspose3d)) else nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return leaky(self.bn(self.conv(x)))


def conv3(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> ConvNorm:
    return ConvNorm(nn.Conv3d(inside, outside, kernel, stride, kernel // 2, bias=False), outside)


def up3(inside: int, outside: int) -> ConvNorm:
    return ConvNorm(nn.ConvTranspose3d(inside, outside, 4, 2, 1, bias=False), outside)


class ConvInstance(nn.Module):
    """conv without bias -> instance norm without parameters -> leaky ReLU."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return leaky(instance_norm(self.conv(x)))


class Residual3d(nn.Module):
    """relu(x + bn2(conv2(relu(bn1(conv1 x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))) + x)


class AxialPlanar(nn.Module):
    """A 3-D convolution split into one over the image plane (1, 3, 3) and one along disparity (17, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(channels))
        self.conv2 = nn.Sequential(nn.Conv3d(channels, channels, (17, 1, 1), padding=(8, 0, 0)), nn.BatchNorm3d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.conv2(relu(self.conv1(x))))


class Gate(nn.Module):
    """Image features decide which channels of the volume pass: (B, c, h, w) -> (B, v, 1, h, w) in 0..1."""

    def __init__(self, feature: int, volume: int) -> None:
        super().__init__()
        first = ConvNorm(nn.Conv2d(feature, feature // 2, 1, bias=False), feature // 2)
        self.feat_att = nn.Sequential(first, nn.Conv2d(feature // 2, volume, 1))

    def forward(self, feature: Tensor) -> Tensor:
        return self.feat_att(feature).sigmoid().unsqueeze(2)


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """In place where nothing is to be differentiated."""
    return x * gate if x.requires_grad else x.mul_(gate)


class Residual2d(nn.Module):
    """relu(x' + relu(norm2(conv2(relu(norm1(conv1 x)))))), x' = x, or a strided 1x1 path where shapes change."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.norm1: nn.Module = nn.BatchNorm2d(outside)
        self.norm2: nn.Module = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.norm3: nn.Module = nn.BatchNorm2d(outside)  # listed twice in the checkpoints: one shared module
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride), self.norm3)

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.norm1(self.conv1(x)))
        y = relu(self.norm2(self.conv2(y)))
        if self.downsample is not None:
            x = self.downsample(x)
        return relu(y + x)
