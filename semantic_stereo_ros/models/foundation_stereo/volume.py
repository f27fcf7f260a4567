"""The cost volume: group-wise correlation (Guo et al., 2019) and concatenated features for each disparity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.blocks import Residual3d, conv3

CHANNELS = 28
GROUPS = 8
PROJECTED = 12


def make_stem() -> nn.Sequential:
    """From the volume [group correlation 8 | left 12 | right 12] to 28 channels."""
    return nn.Sequential(
        nn.Conv3d(GROUPS + 2 * PROJECTED, CHANNELS, 1), conv3(CHANNELS, CHANNELS), *(Residual3d(CHANNELS) for _ in range(2))
    )


def unit_groups(feature: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, 8, C/8, h, w) float32, each group vector of unit length."""
    return F.normalize(feature.float().unflatten(1, (GROUPS, -1)), dim=2, eps=1e-12)


def correlation_volume(left: Tensor, right: Tensor, levels: int) -> Tensor:
    """Two (B, C, h, w) -> (B, 8, D, h, w) float32: per group the cosine of left(x) and right(x - d), 0 left of the image."""
    a, b = unit_groups(left), unit_groups(right)
    return torch.stack([(a * shifted(b, d)).sum(2) for d in range(levels)], 2)


def concatenation_volume(left: Tensor, right: Tensor, levels: int) -> Tensor:
    """Two (B, 12, h, w) -> (B, 24, D, h, w): left(x) and right(x - d), 0 left of the image."""
    rights = torch.stack([shifted(right, d) for d in range(levels)], 2)
    return torch.cat([left.unsqueeze(2).expand_as(rights), rights], 1)


def shifted(feature: Tensor, disparity: int) -> Tensor:
    """(.., w) -> the same shape: column x - disparity at x, 0 where there is none."""
    return F.pad(feature, (disparity, 0))[..., : feature.shape[-1]]
