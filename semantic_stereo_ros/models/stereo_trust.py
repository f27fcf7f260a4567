"""Sigma and confidence of a stereo network's disparities: its own distribution over disparities, and a left-right check.

    sigma_px = scale * sqrt(FLOOR_PX^2 + (SPREAD_SHARE * spread)^2 + excess^2 / 2)
    confidence = mass * 1 / (1 + excess^2), halved where the right image does not show the place

spread and mass are the volume's (standard deviation around the final disparity; share within one coarse step of it). excess is how far
the left and the right view's answers differ beyond what the check's own resolution explains; two answers of equal, independent errors
differ by sqrt(2) sigma. So sigma grows and confidence falls with each sign of doubt: they rank errors.

Their scale is a prior, not a fit: it needs the published weights and true disparities together. The updates refine a volume whose steps are
4 px wide, so a tenth of its spread is taken. Who has both measures the ratio of errors to sigma and sets `sigma_scale` to it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR_PX = 0.15
SPREAD_SHARE = 0.1
CHECK_ERROR_PX = 0.5
UNSEEN_CONFIDENCE = 0.5


def mirrored(left: Tensor, right: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The pair whose left image is the right one, reduced: both mirrored and exchanged, so that disparities stay positive."""
    size = [max(1, round(n * scale)) for n in left.shape[-2:]]
    small = [F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True) for x in (right, left)]
    return small[0].flip(-1), small[1].flip(-1)


def right_view(answer: Tensor, size: tuple[int, int]) -> Tensor:
    """The mirrored pair's disparity (1, 1, h, w) as that of the right image at `size` (H, W), in px of that size."""
    grown = F.interpolate(answer.flip(-1), size, mode="bilinear", align_corners=False)
    return grown * (size[1] / answer.shape[-1])


def leaves_image(disparity: Tensor, columns: tuple[float, float]) -> Tensor:
    """(1, 1, H, W) bool: the match x - d lies outside the first and last of the right image's own columns."""
    match = torch.arange(disparity.shape[-1], device=disparity.device, dtype=disparity.dtype) - disparity
    return (match < columns[0]) | (match > columns[1])


def excess_px(disparity: Tensor, right: Tensor, unseen: Tensor, check_scale: float) -> Tensor:
    """(1, 1, H, W): |d(x) - d_right(x - d)| beyond the check's own error; 0 where unseen. right: as `right_view` gives it."""
    _, _, height, width = disparity.shape
    x = torch.arange(width, device=disparity.device, dtype=torch.float32) - disparity[:, 0]
    y = torch.arange(height, device=disparity.device, dtype=torch.float32)[:, None].expand_as(x[0])[None]
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    there = F.grid_sample(right, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return ((there - disparity).abs() - CHECK_ERROR_PX / check_scale).clamp_(min=0).masked_fill_(unseen, 0)


def sigma_and_confidence(spread: Tensor, mass: Tensor, excess: Tensor, unseen: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The module's formulas: spread, excess px of the network's images; mass 0..1; unseen bool: all (1, 1, H, W). sigma in the same px."""
    variance = FLOOR_PX**2 + (SPREAD_SHARE * spread).square() + excess.square() / 2
    confidence = mass.clamp(0, 1) / (1 + excess.square())
    return scale * variance.sqrt(), torch.where(unseen, UNSEEN_CONFIDENCE * confidence, confidence)
