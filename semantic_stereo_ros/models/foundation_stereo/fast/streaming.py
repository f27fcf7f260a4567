"""Convolutions over a volume, or an image, that arrives in slabs of rows, so that it never exists as a whole.

A stage takes slabs of (B, C, D, rows, w) or (B, C, rows, w) in order and returns the rows that are complete so far, or None. Each
convolution keeps the few rows that its kernel still needs: nothing is computed twice, and where the slabs are cut changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo.blocks import ConvNorm, Residual2d, Residual3d, leaky, relu
from semantic_stereo_ros.models.foundation_stereo.fast.pixelwise_parts import FastAxialPlanar

ROWS = -2  # axis of image rows


class RowStage(Protocol):
    def push(self, slab: Tensor | None, last: bool) -> Tensor | None:
        """The next rows, or None when there are none; `last` ends the volume."""
        ...


class RowCollector:
    """Puts slabs together again: in one tensor from the first slab on, so that no other memory outlives the slabs."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._whole: Tensor | None = None
        self._done = 0

    def add(self, slab: Tensor | None) -> None:
        if slab is None:
            return
        if self._whole is None:
            shape = list(slab.shape)
            shape[ROWS] = self._height
            self._whole = torch.empty(shape, dtype=slab.dtype, device=slab.device, memory_format=layout_of(slab))
        self._whole[..., self._done : self._done + slab.shape[ROWS], :] = slab
        self._done += slab.shape[ROWS]

    def result(self) -> Tensor:
        assert self._whole is not None and self._done == self._height
        return self._whole


def layout_of(x: Tensor) -> torch.memory_format:
    """Channels last where the channels of an image or volume come last in memory."""
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


def joined(above: Tensor, below: Tensor) -> Tensor:
    """Rows of both. Where channels come last in memory they do so in the result, and torch copies whole rows."""
    if layout_of(above) == torch.contiguous_format:
        return torch.cat([above, below], ROWS)
    return torch.cat([above.movedim(1, -1), below.movedim(1, -1)], ROWS - 1).movedim(-1, 1)


def row_count(x: Tensor | None) -> int:
    return 0 if x is None else x.shape[ROWS]


@dataclass
class Kernel:
    """What RowConv needs of a convolution, for one that is no module."""

    weight: Tensor
    padding: tuple[int, ...]
    bias: Tensor | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        self.kernel_size = tuple(self.weight.shape[2:])
        self.stride = self.dilation = (1,) * len(self.kernel_size)


Convolution = nn.Conv2d | nn.Conv3d | Kernel


def convolve(x: Tensor, conv: Convolution, padding: tuple[int, ...]) -> Tensor:
    """conv(x) with another padding.

    On a CPU torch sends volumes of few rows to a kernel that unfolds them, 27 times the memory and several times slower than oneDNN's.
    """
    if x.dtype == torch.float32 and hardware.eager_on_cpu(x) and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups)
    return (F.conv3d if x.ndim == 5 else F.conv2d)(x, conv.weight, conv.bias, conv.stride, padding, 1, conv.groups)


class RowConv:
    """One convolution and what follows it, point by point."""

    def __init__(self, conv: Convolution, after: Callable[[Tensor], Tensor]) -> None:
        self._conv, self._after = conv, after
        self._kernel, self._stride, self._pad = conv.kernel_size[ROWS], conv.stride[ROWS], int(conv.padding[ROWS])
        self._kept: Tensor | None = None
        self._started = False

    def push(self, slab: Tensor | None, last: bool) -> Tensor | None:
        top = self._pad if not self._started and slab is not None else 0
        self._started = self._started or slab is not None
        bottom = self._pad if last else 0
        x = slab if self._kept is None else self._kept if slab is None else joined(self._kept, slab)
        del slab
        if x is None:
            return None
        pad = (0, 0)
        if top == bottom == self._pad:  # the whole volume at once: the convolution pads by itself
            pad = (self._pad, self._pad)
        elif top or bottom:
            x = F.pad(x, (0, 0, top, bottom))
        count = (x.shape[ROWS] + sum(pad) - self._kernel) // self._stride + 1
        if not last:  # what a stride steps over may be in the next slab
            count = min(count, x.shape[ROWS] // self._stride)
        if count <= 0:
            self._kept = x
            return None
        used = x.shape[ROWS] if sum(pad) else (count - 1) * self._stride + self._kernel
        *outer, _, columns = (int(p) for p in self._conv.padding)
        y = convolve(x[..., :used, :], self._conv, (*outer, pad[0], columns))
        # A copy: a view would keep the whole slab alive.
        self._kept = None if last else x[..., count * self._stride :, :].clone()
        del x
        return self._after(y)


class RowChain:
    """Stages one after the other."""

    def __init__(self, *stages: RowStage) -> None:
        self._stages = stages

    def push(self, slab: Tensor | None, last: bool) -> Tensor | None:
        passed = [slab]
        del slab
        for stage in self._stages:
            passed.append(stage.push(passed.pop(), last))  # taken out: only the stage holds its input, and can let go of it
        return passed.pop()


class RowResidual:
    """relu(inner(x) + skip(x)), with skip(x), or x itself, held back until inner's rows arrive."""

    def __init__(self, inner: RowStage, skip: RowStage | None = None) -> None:
        self._inner, self._skip = inner, skip
        self._waiting: Tensor | None = None

    def push(self, slab: Tensor | None, last: bool) -> Tensor | None:
        x = slab if self._skip is None else self._skip.push(slab, last)
        if x is not None:
            self._waiting = x if self._waiting is None else joined(self._waiting, x)
        y = self._inner.push(slab, last)
        if y is None:
            return None
        assert self._waiting is not None
        count = row_count(y)
        x, rest = self._waiting[..., :count, :], self._waiting[..., count:, :]
        y = relu(y.add_(x))
        self._waiting = None if last else rest.clone()
        return y


def conv_norm(block: ConvNorm) -> RowConv:
    assert isinstance(block.conv, nn.Conv3d)
    return RowConv(block.conv, lambda y: leaky(block.bn(y)))


def residual(block: Residual3d) -> RowResidual:
    return RowResidual(RowChain(RowConv(block.conv1, lambda y: relu(block.bn1(y))), RowConv(block.conv2, block.bn2)))


def residual_2d(block: Residual2d) -> RowResidual:
    first, second = RowConv(block.conv1, lambda y: relu(block.norm1(y))), RowConv(block.conv2, lambda y: relu(block.norm2(y)))
    skip = None
    if block.downsample is not None:
        conv, norm = block.downsample
        assert isinstance(conv, nn.Conv2d)
        skip = RowConv(conv, norm)
    return RowResidual(RowChain(first, second), skip)


def single_output(conv: nn.Conv3d) -> RowConv:
    """A convolution (kd, kh, kw) to one channel, as one (1, kh, kw) to kd channels that are then added up along disparity.

    Libraries compute many channels side by side: one channel takes them as long as eight or sixteen.
    """
    depth = conv.kernel_size[0]
    assert conv.out_channels == 1 and conv.bias is not None and depth % 2 == 1
    weight, bias = conv.weight.squeeze(0).transpose(0, 1).unsqueeze(2), conv.bias
    kernel = Kernel(weight, (0, *(int(p) for p in conv.padding[1:])))

    def add_up(y: Tensor) -> Tensor:
        levels = y.shape[2]
        padded = F.pad(y, (0, 0, 0, 0, depth // 2, depth // 2))
        return sum((padded[:, k : k + 1, k : k + levels] for k in range(1, depth)), padded[:, :1, :levels] + bias)

    return RowConv(kernel, add_up)


def axial_planar(block: FastAxialPlanar) -> RowConv:
    """The planar convolution streams; the one along disparity takes what comes."""
    conv, norm = block.conv1
    assert isinstance(conv, nn.Conv3d)
    return RowConv(conv, lambda y: block.along_disparity(relu(norm(y))))
