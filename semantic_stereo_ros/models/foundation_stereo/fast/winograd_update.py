"""Parts of the recurrent update by winograd.convolve: for a CPU in float32. They take the place, and weights, of plain ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.cpu import dense, winograd
from semantic_stereo_ros.models.cpu.winograd import At, Scratch
from semantic_stereo_ros.models.foundation_stereo.context import HIDDEN
from semantic_stereo_ros.models.foundation_stereo.fast.stepped_update import SteppedMotionEncoder, SteppedUnit
from semantic_stereo_ros.models.foundation_stereo.update import MOTION, REDUCED, GatedUnit


def pays(x: Tensor) -> bool:
    """Whether an image (B, C, h, w) is large enough; a compiler does better with the direct form."""
    return hardware.eager_on_cpu(x) and x.shape[0] * x.shape[2] * x.shape[3] >= winograd.LEAST_PIXELS


class WinogradUnit(SteppedUnit):
    """Inside, images are (B, h, w, C)."""

    scratch: Scratch

    def base(self, constant: Tensor) -> Tensor:
        return super().base(constant).contiguous(memory_format=torch.channels_last)

    def first(self, constant: Tensor, *inputs: Tensor) -> Tensor:
        if not pays(constant):
            return super().first(constant, *inputs)
        weight = self.conv0[0].weight
        assert isinstance(weight, Tensor)
        base = rows_first(constant)
        parts = [rows_first(x) for x in inputs]
        out = self.scratch.take("first", *base.shape)
        x = winograd.convolve(parts, weight[:, HIDDEN:], None, self.scratch, lambda y, at: y.add_(base[at]).relu_(), out)
        return x.permute(0, 3, 1, 2)

    def forward(self, attention: Tensor, hidden: Tensor, x: Tensor) -> Tensor:
        """As SelectiveUnit does, in the memory of `hidden` where its channels come last."""
        if not pays(hidden):
            return super().forward(attention, hidden, x)
        small, large, conv = self.small_gru, self.large_gru, self.conv1[0]
        assert isinstance(conv, nn.Conv2d)
        x, h, attention = rows_first(x), rows_first(hidden), rows_first(attention)
        joined = self.scratch.take("joined", *x.shape[:3], conv.out_channels)
        winograd.convolve([x, h], conv.weight, conv.bias, self.scratch, lambda y, at: y.relu_(), joined)

        def gates(y: Tensor, at: At) -> Tensor:
            """z and r * hidden."""
            y.sigmoid_()
            y[..., HIDDEN:].mul_(h[at])
            return y

        weight = torch.cat([large.convz.weight, large.convr.weight])
        gated = self.scratch.take("gated", *x.shape[:3], 2 * HIDDEN)
        z, held = winograd.convolve([joined], weight, _joined_bias(large), self.scratch, gates, gated).chunk(2, 3)
        few_gates = torch.cat([small.convz.weight, small.convr.weight]).flatten(1)
        few_bias, few_last = _joined_bias(small), small.convq.weight.flatten(1)

        def unite(q: Tensor, at: At) -> Tensor:
            """Both units' results, weighed."""
            result = torch.lerp(h[at], q.tanh_(), z[at])
            few_z, r = dense.linear(joined[at], few_gates, few_bias).sigmoid_().chunk(2, 2)
            q = dense.linear(torch.cat([r.mul_(h[at]), x[at]], 2), few_last, small.convq.bias).tanh_()
            return result.lerp_(torch.lerp(h[at], q, few_z), attention[at])

        winograd.convolve([held, x], large.convq.weight, large.convq.bias, self.scratch, unite, h)
        return h.permute(0, 3, 1, 2)


class WinogradMotionEncoder(SteppedMotionEncoder):
    """It works in buffers that the units need only after it."""

    scratch: Scratch

    def space(self, disparity: Tensor) -> Tensor:
        batch, _, height, width = disparity.shape
        return self.scratch.take("first", batch, height, width, REDUCED).permute(0, 3, 1, 2)

    def reduce(self, samples: Tensor) -> Tensor:
        if not hardware.eager_on_cpu(samples):
            return super().reduce(samples)
        conv = self.convc1
        return dense.linear(rows_first(samples), conv.weight.flatten(1), conv.bias).relu_().permute(0, 3, 1, 2)

    def forward(self, cost: Tensor, disparity: Tensor) -> Tensor:
        if not pays(cost):
            return super().forward(cost, disparity)
        shape, disparity = rows_first(self.shape(disparity)), rows_first(disparity)
        second, last = self.convc2, self.conv
        cost = rows_first(cost)
        again = self.scratch.take("joined", *cost.shape)
        winograd.convolve([cost], second.weight, second.bias, self.scratch, lambda y, at: y.relu_(), again)

        def join(y: Tensor, at: At) -> Tensor:
            return torch.cat([y.relu_(), disparity[at]], 2)

        motion = disparity.new_empty(*disparity.shape[:3], MOTION)
        return winograd.convolve([again, shape], last.weight, last.bias, self.scratch, join, motion).permute(0, 3, 1, 2)


def rows_first(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h, w, C); without a copy where channels come last in memory."""
    return x.permute(0, 2, 3, 1).contiguous()


def _joined_bias(unit: GatedUnit) -> Tensor:
    assert unit.convz.bias is not None and unit.convr.bias is not None
    return torch.cat([unit.convz.bias, unit.convr.bias])
