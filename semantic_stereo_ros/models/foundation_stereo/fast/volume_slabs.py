"""The cost volume made slab by slab of rows, past its first convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo.volume import CHANNELS, GROUPS, PROJECTED, unit_groups


def rows_on_cpu(height: int, width: int, levels: int) -> int:
    """How many rows of a volume (levels, height, width) a CPU does best to work on at a time, a multiple of 4.

    A slab and the two rows more that a convolution reads are at most hardware.MAPPED_BYTES: memory that is used again and again, not
    taken from the system each time.
    """
    return min(height, max(4, (hardware.MAPPED_BYTES // (4 * CHANNELS * levels * width) - 2) // 4 * 4))


class VolumeSlabs:
    """Rows of corr_stem's first convolution of the volume [group correlation 8 | left 12 | right 12].

    A pointwise convolution of a concatenation is a sum: the left part is the same for each disparity and the right part is
    shifted, so both are convolved in two dimensions, once; only the correlation's 8 channels meet the weights per disparity.
    """

    def __init__(self, left: Tensor, right: Tensor, levels: int, project: nn.Conv2d, pointwise: nn.Conv3d) -> None:
        self._levels = levels
        self._groups = unit_groups(left), unit_groups(right)
        weight, bias = pointwise.weight.flatten(1), pointwise.bias
        assert bias is not None
        self._gwc_weight = weight[:, :GROUPS]
        left, right = project(left), project(right)
        self._left = torch.einsum("oc,bchw->bohw", weight[:, GROUPS : GROUPS + PROJECTED], left) + bias.view(1, -1, 1, 1)
        self._right = torch.einsum("oc,bchw->bohw", weight[:, GROUPS + PROJECTED :], right)

    def rows(self, start: int, stop: int) -> Tensor:
        """(B, 28, D, stop - start, w)."""
        x = torch.einsum("og,bgdhw->bodhw", self._gwc_weight, self.correlation(start, stop))
        x += self._left[:, :, None, start:stop]
        for d in range(min(self._levels, x.shape[-1])):
            x[:, :, d, :, d:] += self._right[:, :, start:stop, : x.shape[-1] - d]
        return x.contiguous(memory_format=torch.channels_last_3d)

    def correlation(self, start: int, stop: int) -> Tensor:
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
