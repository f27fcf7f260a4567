"""Parts of the network that work through their widest tensors slab by slab of rows. Each takes the place, and weights, of a plain one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.aggregation import PATCH, CostAggregation
from semantic_stereo_ros.models.foundation_stereo.blocks import leaky, relu
from semantic_stereo_ros.models.foundation_stereo.context import ContextNetwork
from semantic_stereo_ros.models.foundation_stereo.fast.streaming import (
    ROWS,
    RowChain,
    RowCollector,
    RowConv,
    axial_planar,
    conv_norm,
    residual_2d,
)

SLAB = 32


class StreamedContext(ContextNetwork):
    def quarter_size(self, image: Tensor) -> Tensor:
        """The layers at full size are the widest tensors but the volume."""
        if torch.is_grad_enabled() or torch.jit.is_tracing():
            return super().quarter_size(image)
        blocks = [block for layer in (self.layer1, self.layer2, self.layer3) for block in layer]
        stem = RowConv(self.conv1, lambda y: relu(self.norm1(y)))
        chain = RowChain(stem, *(residual_2d(block) for block in blocks))  # pyright: ignore[reportArgumentType]
        height = image.shape[ROWS]
        result = RowCollector(height // 4)
        for start in range(0, height, SLAB):
            result.add(chain.push(image[..., start : start + SLAB, :], start + SLAB >= height))
        return result.result()


class StreamedAggregation(CostAggregation):
    """Full-resolution volumes stream through; only what is coarser exists as a whole."""

    def down(self, slabs: Iterator[tuple[Tensor | None, bool]], height: int) -> tuple[Tensor, Tensor]:
        """Reads the slabs of a volume of `height` rows.

        Returns e1 before its axial convolutions (B, 56, D/2, h/2, w/2), and patches (B, 28, D/4, h/4, w/4).
        """
        first = self.conv1[0]
        conv, norm = self.conv_patch
        assert isinstance(conv, nn.Conv3d)
        halving, patching = conv_norm(first), RowConv(conv, norm)  # pyright: ignore[reportArgumentType]
        halves, patches = RowCollector(height // 2), RowCollector(height // PATCH)
        for slab, last in slabs:
            halves.add(halving.push(slab, last))
            patches.add(patching.push(slab, last))
        return halves.result(), patches.result()

    def up(self, half: Tensor, tokens: Tensor, rows: int) -> Iterator[tuple[Tensor, bool]]:
        """The filtered volume's slabs (B, 28, D, n, w), and whether each is the last."""
        height = 2 * half.shape[ROWS]
        tokens = tokens.contiguous(memory_format=torch.channels_last_3d)
        first, second = self.conv_out
        chain = RowChain(axial_planar(first), axial_planar(second))  # pyright: ignore[reportArgumentType]
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            slab = chain.push(self.doubled(half, start, stop).add_(patches_up(tokens, start, stop)), stop == height)
            if slab is not None:
                yield slab, stop == height

    def doubled(self, half: Tensor, start: int, stop: int) -> Tensor:
        """Rows start..stop (even, or the end) of conv1_up(half)."""
        low, high = max(start // 2 - 1, 0), min(stop // 2 + 1, half.shape[ROWS])
        y = self.conv1_up.conv(half[:, :, :, low:high])[:, :, :, start - 2 * low : stop - 2 * low]
        return leaky(self.conv1_up.bn(y))


def patches_up(tokens: Tensor, start: int, stop: int) -> Tensor:
    """Rows start..stop (multiples of 4) of the trilinear enlargement by 4."""
    height = tokens.shape[ROWS]
    low, high = max(start // PATCH - 1, 0), min(stop // PATCH + 1, height)
    # Rows first: fewer of them, and much smaller, are made in vain.
    y = F.interpolate(tokens[:, :, :, low:high], scale_factor=(1.0, float(PATCH), 1.0), mode="trilinear", align_corners=False)
    y = y[:, :, :, start - PATCH * low : stop - PATCH * low].contiguous(memory_format=torch.channels_last_3d)
    return F.interpolate(y, scale_factor=(float(PATCH), 1.0, float(PATCH)), mode="trilinear", align_corners=False)
