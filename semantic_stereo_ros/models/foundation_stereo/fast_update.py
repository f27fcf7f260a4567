"""Parts of the recurrent update by winograd.convolve: for a CPU in float32. They wrap the ordinary parts and share their weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models import winograd
from semantic_stereo_ros.models.foundation_stereo.context import HIDDEN
from semantic_stereo_ros.models.foundation_stereo.update import GatedUnit, MotionEncoder, SelectiveUnit
from semantic_stereo_ros.models.winograd import Scratch


def pays(x: Tensor) -> bool:
    """Whether an image (B, C, h, w) is large enough; a compiler does better with the direct form."""
    return not torch.compiler.is_compiling() and x.shape[0] * x.shape[2] * x.shape[3] >= winograd.LEAST_PIXELS


class FastUnit(nn.Module):
    """SelectiveUnit. Inside, images are (B, h, w, C)."""

    def __init__(self, unit: SelectiveUnit, scratch: Scratch) -> None:
        super().__init__()
        self.unit, self.scratch = unit, scratch

    def base(self, constant: Tensor) -> Tensor:
        return self.unit.base(constant)

    def first(self, base: Tensor, *inputs: Tensor) -> Tensor:
        if not pays(base):
            return self.unit.first(base, *inputs)
        weight = self.unit.conv0[0].weight
        assert isinstance(weight, Tensor)
        parts = [rows_first(x) for x in inputs]
        x = winograd.convolve(parts, weight[:, HIDDEN:].split([p.shape[3] for p in parts], 1), None, self.scratch)
        return x.add_(rows_first(base)).relu_().permute(0, 3, 1, 2)

    def forward(self, attention: Tensor, hidden: Tensor, x: Tensor) -> Tensor:
        unit = self.unit
        if not pays(hidden):
            return unit(attention, hidden, x)
        second = unit.conv1[0].weight
        assert isinstance(second, Tensor)
        x = rows_first(x)
        h, width = rows_first(hidden), x.shape[3]
        bias = unit.conv1[0].bias
        joined = winograd.convolve([x, h], second.split([width, HIDDEN], 1), bias, self.scratch).relu_()  # pyright: ignore[reportArgumentType]
        small, large = unit.small_gru, unit.large_gru
        weight = torch.cat([large.convz.weight, large.convr.weight])
        gates = winograd.convolve([joined], [weight], _joined_bias(large), self.scratch).sigmoid_()
        few = F.linear(joined, torch.cat([small.convz.weight, small.convr.weight]).flatten(1), _joined_bias(small)).sigmoid_()
        del joined, weight
        z, r = gates.chunk(2, 3)
        weights = large.convq.weight.split([HIDDEN, width], 1)
        q = winograd.convolve([r.mul_(h), x], weights, large.convq.bias, self.scratch).tanh_()
        result = torch.lerp(h, q, z)
        del gates, z, r, q
        z, r = few.chunk(2, 3)
        weight = small.convq.weight.flatten(1)
        q = F.linear(r.mul_(h), weight[:, :HIDDEN], small.convq.bias).add_(F.linear(x, weight[:, HIDDEN:])).tanh_()
        return result.lerp_(torch.lerp(h, q, z), rows_first(attention)).permute(0, 3, 1, 2)


class FastMotionEncoder(nn.Module):
    """MotionEncoder."""

    def __init__(self, encoder: MotionEncoder, scratch: Scratch) -> None:
        super().__init__()
        self.encoder, self.scratch = encoder, scratch

    def reduce(self, samples: Tensor) -> Tensor:
        return self.encoder.reduce(samples)

    def forward(self, cost: Tensor, disparity: Tensor) -> Tensor:
        encoder = self.encoder
        if not pays(cost):
            return encoder(cost, disparity)
        shape = rows_first(encoder.shape(disparity))
        cost = winograd.convolve([rows_first(cost)], [encoder.convc2.weight], encoder.convc2.bias, self.scratch).relu_()
        weights = encoder.conv.weight.split([cost.shape[3], shape.shape[3]], 1)
        y = winograd.convolve([cost, shape], weights, encoder.conv.bias, self.scratch).relu_()
        return torch.cat([y, rows_first(disparity)], 3).permute(0, 3, 1, 2)


def rows_first(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h, w, C); without a copy where channels come last in memory."""
    return x.permute(0, 2, 3, 1).contiguous()


def _joined_bias(unit: GatedUnit) -> Tensor:
    assert unit.convz.bias is not None and unit.convr.bias is not None
    return torch.cat([unit.convz.bias, unit.convr.bias])
