"""The monocular prior: an image's feature from a network trained on single images, at a quarter of the size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.backbones.dpt import DepthHead
from semantic_stereo_ros.models.foundation_stereo.backbones.vit import VisionTransformer
from semantic_stereo_ros.models.foundation_stereo.variants import Variant

STEP = 112  # least common multiple of the patch (14) and 16
LIMIT = 1344


def prior_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the transformer's input for an image of this size: multiples of 112, at most 1344."""

    def up(x: float) -> int:
        return math.ceil(x / STEP) * STEP

    rows, columns = up(height), up(width)
    if max(rows, columns) <= LIMIT:
        return rows, columns
    if rows > columns:
        return LIMIT, up(columns * LIMIT / rows)
    return up(rows * LIMIT / columns), LIMIT


def bilinear_matrix(outside: int, inside: int) -> Tensor:
    """(outside, inside) float64: linear interpolation with aligned corners."""
    at = torch.arange(outside, dtype=torch.float64) * ((inside - 1) / (outside - 1) if outside > 1 else 0.0)
    low = at.floor().clamp(max=max(inside - 2, 0)).long()
    part = at - low
    result = torch.zeros(outside, inside, dtype=torch.float64)
    result.scatter_add_(1, low[:, None], (1 - part)[:, None])
    if inside > 1:
        result.scatter_add_(1, low[:, None] + 1, part[:, None])
    return result


class MonocularModel(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.pretrained = VisionTransformer(variant)
        self.depth_head = DepthHead(variant)


class MonocularPrior(nn.Module):
    """(B, 3, H, W) normalised RGB -> (B, V, H/4, W/4)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.depth_anything = MonocularModel(variant)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        size = prior_size(height, width)
        x = F.interpolate(image.float(), size, mode="bicubic", align_corners=False).to(image.dtype)
        model = self.depth_anything
        x = model.depth_head(model.pretrained(x))
        # The head's resize to its input size and the one to a quarter of the image's are both linear: one matrix per axis for the two.
        rows = self._matrix(height // 4, size[0], x.shape[-2], x)
        columns = self._matrix(width // 4, size[1], x.shape[-1], x)
        return (rows @ x) @ columns.T

    @staticmethod
    def _matrix(last: int, middle: int, first: int, like: Tensor) -> Tensor:
        return (bilinear_matrix(last, middle) @ bilinear_matrix(middle, first)).to(like)
