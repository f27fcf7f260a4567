"""The cost volume, made slab by slab: group correlation and concatenated features for each disparity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo.blocks import Residual3d, conv3
from semantic_stereo_ros.models.foundation_stereo.streaming import RowChain, conv_norm, residual
from semantic_stereo_ros.models.foundation_stereo.trace import NoTrace, Trace

CHANNELS = 28
GROUPS = 8
PROJECTED = 12


def rows_on_cpu(height: int, width: int, levels: int) -> int:
    """How many rows of a volume (levels, height, width) a CPU does best to work on at a time, a multiple of 4.

    A slab and the two rows more that a convolution reads are at most hardware.MAPPED_BYTES: memory that is used again and again, not
    taken from the system each time.
    """
    return min(height, max(4, (hardware.MAPPED_BYTES // (4 * CHANNELS * levels * width) - 2) // 4 * 4))


def make_stem() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(GROUPS + 2 * PROJECTED, CHANNELS, 1), conv3(CHANNELS, CHANNELS), *(Residual3d(CHANNELS) for _ in range(2))
    )


def stream_stem(stem: nn.Sequential) -> RowChain:
    """All of the stem but its first, pointwise convolution, which VolumeSlabs has done already."""
    _, first, second, third = stem
    assert isinstance(second, Residual3d) and isinstance(third, Residual3d)
    return RowChain(conv_norm(first), residual(second), residual(third))  # pyright: ignore[reportArgumentType]


def unit_groups(feature: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 8, C/8, h, w) float32, each group vector of unit length."""
    return F.normalize(feature.float().unflatten(1, (GROUPS, -1)), dim=2, eps=1e-12)


class VolumeSlabs:
    """Rows of corr_stem's first convolution of the volume [group correlation 8 | left 12 | right 12].

    A pointwise convolution of a concatenation is a sum: the left part is the same for each disparity and the right part is
    shifted, so both are convolved in two dimensions, once; only the correlation's 8 channels meet the weights per disparity.
    """

    def __init__(self, left: Tensor, right: Tensor, levels: int, project: nn.Conv2d, pointwise: nn.Conv3d, trace: Trace) -> None:
        self._levels, self._trace = levels, trace
        self._groups = unit_groups(left), unit_groups(right)
        weight = pointwise.weight.flatten(1)
        self._gwc_weight = weight[:, :GROUPS]
        projected = project(left), project(right)
        self._projected = projected
        bias = pointwise.bias
        assert bias is not None
        self._left = torch.einsum("oc,bchw->bohw", weight[:, GROUPS : GROUPS + PROJECTED], projected[0]) + bias.view(1, -1, 1, 1)
        self._right = torch.einsum("oc,bchw->bohw", weight[:, GROUPS + PROJECTED :], projected[1])

    def rows(self, start: int, stop: int) -> Tensor:
        """(B, 28, D, stop - start, w)."""
        gwc = self._correlation(start, stop)
        if not isinstance(self._trace, NoTrace):
            self._trace.rows("gwc_volume", gwc)
            self._trace.rows("concat_volume", self._concatenated(start, stop))
        x = torch.einsum("og,bgdhw->bodhw", self._gwc_weight, gwc)
        if x.requires_grad:
            right = self._shifted(self._right[:, :, start:stop])
            return x + self._left[:, :, None, start:stop] + right
        x += self._left[:, :, None, start:stop]
        for d in range(min(self._levels, x.shape[-1])):
            x[:, :, d, :, d:] += self._right[:, :, start:stop, : x.shape[-1] - d]
        return x.contiguous(memory_format=torch.channels_last_3d)

    def _correlation(self, start: int, stop: int) -> Tensor:
        """(B, 8, D, rows, w): <left(x), right(x - d)> per group, 0 left of the image: a band of the matrix of all pairs in a row."""
        left, right = (g[..., start:stop, :] for g in self._groups)
        width = left.shape[-1]
        # (B, 8, rows, x, x'): all pairs are cheaper as a matrix product than the band is pair by pair.
        pairs = left.permute(0, 1, 3, 4, 2) @ right.permute(0, 1, 3, 2, 4)
        padded = F.pad(pairs, (self._levels - 1, 0))
        # Element [x, x - d] of pairs lies at [x, x - d + levels - 1] of padded: a diagonal step in memory.
        stride = padded.stride()
        band = padded.as_strided((*padded.shape[:3], width, self._levels), (*stride[:3], stride[3] + stride[4], stride[4]))
        return band.flip(-1).permute(0, 1, 4, 2, 3).to(self._left.dtype)

    def _shifted(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        return torch.stack([F.pad(x, (d, 0))[..., :width] for d in range(self._levels)], 2)

    def _concatenated(self, start: int, stop: int) -> Tensor:
        left, right = (p[:, :, start:stop] for p in self._projected)
        return torch.cat([left.unsqueeze(2).expand(-1, -1, self._levels, -1, -1), self._shifted(right)], 1)
