"""What the recurrent update knows of the left image: hidden states, inputs and attention at 1/4, 1/8, 1/16."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import ConvNorm, Residual2d, relu

HIDDEN = 128
LEVELS = ("04", "08", "16")


@dataclass
class Context:
    """Three levels each: hidden states (B, 128, ..), inputs (B, 128, ..), attention (B, 1, ..) in 0..1."""

    hidden: list[Tensor]
    inputs: list[Tensor]
    attention: list[Tensor]


def _pair(inside: int, outside: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Residual2d(inside, outside, stride), Residual2d(outside, outside))


class ContextNetwork(nn.Module):
    def __init__(self, prior: int) -> None:
        super().__init__()
        self.norm1: nn.Module = nn.BatchNorm2d(64)
        self.conv1 = nn.Conv2d(3, 64, 7, padding=3)
        self.layer1, self.layer2, self.layer3 = _pair(64, 64, 1), _pair(64, 96, 2), _pair(96, HIDDEN, 2)
        self.layer4, self.layer5 = _pair(HIDDEN, HIDDEN, 2), _pair(HIDDEN, HIDDEN, 2)
        self.down = nn.Sequential(nn.Conv2d(HIDDEN, HIDDEN, 4, 4), nn.BatchNorm2d(HIDDEN))  # in the checkpoints, not used
        self.conv2 = ConvNorm(nn.Conv2d(HIDDEN + prior, HIDDEN, 3, padding=1, bias=False), HIDDEN)
        self.norm = nn.BatchNorm2d(2 * HIDDEN)  # in the checkpoints, not used

        def head() -> nn.Sequential:
            return nn.Sequential(Residual2d(HIDDEN, HIDDEN), nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1))

        self.outputs04 = nn.ModuleList([head(), head()])
        self.outputs08 = nn.ModuleList([head(), head()])
        self.outputs16 = nn.ModuleList(nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1) for _ in range(2))

    def forward(self, image: Tensor, prior: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Both heads' outputs per level, before their activations."""
        x = self.quarter_size(image)
        x4 = self.conv2(torch.cat([x, prior], 1))
        x8 = self.layer4(x4)
        x16 = self.layer5(x8)
        result = []
        for level, x in zip(LEVELS, (x4, x8, x16)):
            first, second = (head(x) for head in getattr(self, f"outputs{level}"))
            result.append((first, second))
        return result

    def quarter_size(self, image: Tensor) -> Tensor:
        """(B, 128, H/4, W/4)."""
        return self.layer3(self.layer2(self.layer1(relu(self.norm1(self.conv1(image))))))


class ChannelAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Conv2d(HIDDEN, 8, 1, bias=False), nn.ReLU(), nn.Conv2d(8, HIDDEN, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return (self.fc(x.mean((2, 3), keepdim=True)) + self.fc(x.amax((2, 3), keepdim=True))).sigmoid()


class SpatialAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.samconv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.samconv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


def make_context(heads: list[tuple[Tensor, Tensor]], cam: nn.Module, sam: nn.Module) -> Context:
    """Of what ContextNetwork gives: one head starts the hidden states, of the other the channels and pixels that matter are chosen."""
    hidden, inputs, attention = [], [], []
    for first, second in heads:
        hidden.append(first.tanh())
        x = relu(second)
        inputs.append(cam(x) * x)
        attention.append(sam(inputs[-1]))
    return Context(hidden, inputs, attention)
