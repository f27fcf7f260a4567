"""The recurrent update with what stays the same computed before its steps. Each part takes the place, and weights, of a plain one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import relu
from semantic_stereo_ros.models.foundation_stereo.context import HIDDEN
from semantic_stereo_ros.models.foundation_stereo.update import REDUCED, MotionEncoder, SelectiveUnit, UpdateBlock


class SteppedUnit(SelectiveUnit):
    """`first` takes, instead of the constant input, what `base` makes of it."""

    def base(self, constant: Tensor) -> Tensor:
        """What the inputs that stay the same (B, 128, h, w) add to the first convolution."""
        conv = self.conv0[0]
        assert isinstance(conv, nn.Conv2d)
        return F.conv2d(constant, conv.weight[:, :HIDDEN], conv.bias, padding=1)

    def first(self, constant: Tensor, *inputs: Tensor) -> Tensor:
        conv = self.conv0[0]
        assert isinstance(conv, nn.Conv2d)
        return relu(F.conv2d(torch.cat(inputs, 1), conv.weight[:, HIDDEN:], padding=1).add_(constant))


class SteppedMotionEncoder(MotionEncoder):
    """`forward` takes look-ups that `reduce` has reduced already, some rows at a time."""

    def reduce(self, samples: Tensor) -> Tensor:
        """Look-ups (B, 522, h, w) -> (B, 256, h, w), each pixel by itself."""
        return relu(self.convc1(samples))

    def space(self, disparity: Tensor) -> Tensor:
        """For the reduced look-ups around a disparity (B, 1, h, w), channels last: (B, 256, h, w) with whatever it holds."""
        batch, _, height, width = disparity.shape
        weight = self.convc1.weight
        return torch.empty(batch, REDUCED, height, width, dtype=weight.dtype, device=weight.device, memory_format=torch.channels_last)

    def shape(self, disparity: Tensor) -> Tensor:
        """(B, 1, h, w) -> (B, 64, h, w)."""
        return relu(self.convd2(relu(self.convd1(disparity))))

    def forward(self, cost: Tensor, disparity: Tensor) -> Tensor:
        cost = relu(self.convc2(cost))
        shape, d = self.shape(disparity).to(cost.dtype), disparity.to(cost.dtype)
        return torch.cat([relu(self.conv(torch.cat([cost, shape], 1))), d], 1)


class SteppedUpdate(UpdateBlock):
    def bases(self, inputs: list[Tensor]) -> list[Tensor]:
        """What context.inputs add to each level's unit, once for all steps; it takes their place there."""
        return [unit.base(x) for unit, x in zip((self.gru04, self.gru08, self.gru16), inputs)]  # pyright: ignore[reportCallIssue]
