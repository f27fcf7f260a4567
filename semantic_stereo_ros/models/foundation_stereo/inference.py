"""Images of any size through the network: padding, coarse to fine, and what the answer is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo, Prediction
from semantic_stereo_ros.models.foundation_stereo.padding import Padding


@dataclass
class Answer:
    """disparity: (B, 1, H, W) float32 px. spread: (B, 1, H, W) float32 px, standard deviation of the volume's own distribution.

    mass: (B, 1, H, W) float32 in 0..1, the distribution's share within one coarse step of the disparity. steps: updates made.
    """

    disparity: Tensor
    spread: Tensor
    mass: Tensor
    steps: int


def predict(model: FoundationStereo, left: Tensor, right: Tensor, iterations: int, **options: Any) -> Answer:
    """left, right: (B, 3, H, W) 0..255 RGB of any size; options: those of FoundationStereo.forward.

    initial, where given, is the full-size disparity (B, 1, H, W) in px to start from.
    """
    padding = Padding.of(left.shape[-2], left.shape[-1])
    initial = options.pop("initial", None)
    if initial is not None:
        options["initial"] = coarse(padding.add(initial))
    found = model(padding.add(left), padding.add(right), iterations, **options)
    spread, mass = distribution(found)
    return Answer(padding.crop(found.disparity), padding.crop(spread), padding.crop(mass), found.steps)


def predict_hierarchical(
    model: FoundationStereo, left: Tensor, right: Tensor, iterations: int, ratio: float = 0.5, **options: Any
) -> Answer:
    """For large images: the disparity of reduced ones, enlarged, is where the updates start. The official demo does this above 1000 px.

    The left padding is added to the start, as the official routine does.
    """
    small = [F.interpolate(x.float(), scale_factor=ratio, mode="bilinear", align_corners=False) for x in (left, right)]
    first = predict(model, small[0], small[1], iterations, **options).disparity
    start = F.interpolate(first, left.shape[-2:], mode="bilinear", align_corners=True).div_(ratio).clamp_(min=0)
    padding = Padding.of(left.shape[-2], left.shape[-1])
    return predict(model, left, right, iterations, initial=start + padding.left, **options)


def coarse(disparity: Tensor) -> Tensor:
    """(B, 1, H, W) px -> (B, 1, H/4, W/4) quarter-scale px."""
    return 0.25 * F.interpolate(disparity.float(), scale_factor=0.25, mode="bilinear", align_corners=True)


def distribution(found: Prediction) -> tuple[Tensor, Tensor]:
    """Spread (px) and mass at full size of the filtered volume's distribution around the final disparity."""
    probability = found.probability
    levels = torch.arange(probability.shape[1], device=probability.device, dtype=torch.float32).view(1, -1, 1, 1)
    at = F.avg_pool2d(found.disparity, 4) / 4
    variance = (probability * (levels - at) ** 2).sum(1, keepdim=True)
    mass = (probability * ((levels - at).abs() <= 1)).sum(1, keepdim=True)
    size = found.disparity.shape[-2:]
    return tuple(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in (4 * variance.sqrt(), mass))  # pyright: ignore[reportReturnType]
