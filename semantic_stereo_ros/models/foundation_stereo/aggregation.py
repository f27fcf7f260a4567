"""Filtering of the cost volume: an hourglass of 3-D convolutions and the disparity transformer beside it.

Full-resolution volumes stream through in slabs of rows; only what is coarser, and the filtered volume itself, exist as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import AxialPlanar, Gate, conv3, leaky, up3
from semantic_stereo_ros.models.foundation_stereo.streaming import ROWS, RowChain, RowCollector, RowConv, axial_planar, conv_norm
from semantic_stereo_ros.models.foundation_stereo.trace import Trace
from semantic_stereo_ros.models.foundation_stereo.transformer import Encoder, transform

CHANNELS = 28
PATCH = 4


class CostAggregation(nn.Module):
    def __init__(self, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv3(28, 56, stride=2), AxialPlanar(56))
        self.conv2 = nn.Sequential(conv3(56, 112, stride=2), AxialPlanar(112))
        self.conv3 = nn.Sequential(conv3(112, 168, stride=2), AxialPlanar(168))
        self.conv3_up, self.conv2_up, self.conv1_up = up3(168, 112), up3(112, 56), up3(56, 28)
        self.agg_0 = nn.Sequential(conv3(224, 112, kernel=1), AxialPlanar(112), AxialPlanar(112))
        self.agg_1 = nn.Sequential(conv3(112, 56, kernel=1), AxialPlanar(56), AxialPlanar(56))
        self.conv_out = nn.Sequential(AxialPlanar(28), AxialPlanar(28))
        self.conv_patch = nn.Sequential(nn.Conv3d(28, 28, PATCH, PATCH, groups=28), nn.BatchNorm3d(28))
        self.atts = nn.ModuleDict({"4": Encoder(attention)})
        self.feature_att_8 = Gate(192, 56)
        self.feature_att_16 = Gate(320, 112)
        self.feature_att_32 = Gate(304, 168)
        self.feature_att_up_16 = Gate(320, 112)
        self.feature_att_up_8 = Gate(192, 56)

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

    def hourglass(self, half: Tensor, features: list[Tensor], trace: Trace) -> Tensor:
        """(B, 56, D/2, h/2, w/2) -> the same shape. features: of the left image at 1/4, 1/8, 1/16, 1/32."""
        _, f8, f16, f32 = features
        e1 = gated(self.conv1[1](half), self.feature_att_8(f8))
        trace.add("agg_conv1", e1)
        e2 = gated(self.conv2(e1), self.feature_att_16(f16))
        trace.add("agg_conv2", e2)
        e3 = gated(self.conv3(e2), self.feature_att_32(f32))
        trace.add("agg_conv3", e3)
        x = gated(self.agg_0(torch.cat([self.conv3_up(e3), e2], 1)), self.feature_att_up_16(f16))
        trace.add("agg_up16", x)
        del e2, e3
        x = torch.cat([self.conv2_up(x), e1], 1)
        del e1
        x = gated(self.agg_1(x), self.feature_att_up_8(f8))
        trace.add("agg_up8", x)
        return x

    def tokens(self, patches: Tensor, trace: Trace) -> Tensor:
        trace.add("agg_patch", patches)
        encoder = self.atts["4"]
        assert isinstance(encoder, Encoder)
        return transform(encoder, patches, trace)

    def up(self, half: Tensor, tokens: Tensor, rows: int, take: Callable[[Tensor, bool], None], trace: Trace) -> None:
        """Gives the filtered volume's slabs, (B, 28, D, n, w), to `take(slab, last)`."""
        height = 2 * half.shape[ROWS]
        tokens = tokens.contiguous(memory_format=torch.channels_last_3d)
        first, second = self.conv_out
        chain = RowChain(axial_planar(first), axial_planar(second))  # pyright: ignore[reportArgumentType]
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            slab = chain.push(self._joined(half, tokens, start, stop, trace), stop == height)
            if slab is not None:
                trace.rows("cost_agg", slab)
                take(slab, stop == height)

    def _joined(self, half: Tensor, tokens: Tensor, start: int, stop: int, trace: Trace) -> Tensor:
        """Rows start..stop of both paths, enlarged and added."""
        x = self._doubled(half, start, stop)
        trace.rows("agg_conv1_up", x)
        y = _patches_up(tokens, start, stop)
        return x.add_(y) if not x.requires_grad else x + y

    def _doubled(self, half: Tensor, start: int, stop: int) -> Tensor:
        """Rows start..stop (even, or the end) of conv1_up(half)."""
        low, high = max(start // 2 - 1, 0), min(stop // 2 + 1, half.shape[ROWS])
        y = self.conv1_up.conv(half[:, :, :, low:high])[:, :, :, start - 2 * low : stop - 2 * low]
        return leaky(self.conv1_up.bn(y))


def gated(x: Tensor, gate: Tensor) -> Tensor:
    return x * gate if x.requires_grad else x.mul_(gate)


def _patches_up(tokens: Tensor, start: int, stop: int) -> Tensor:
    """Rows start..stop (multiples of 4) of the trilinear enlargement by 4."""
    height = tokens.shape[ROWS]
    low, high = max(start // PATCH - 1, 0), min(stop // PATCH + 1, height)
    # Rows first: fewer of them, and much smaller, are made in vain.
    y = F.interpolate(tokens[:, :, :, low:high], scale_factor=(1.0, float(PATCH), 1.0), mode="trilinear", align_corners=False)
    y = y[:, :, :, start - PATCH * low : stop - PATCH * low].contiguous(memory_format=torch.channels_last_3d)
    return F.interpolate(y, scale_factor=(float(PATCH), 1.0, float(PATCH)), mode="trilinear", align_corners=False)
