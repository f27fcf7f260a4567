"""Weights for timing, where no checkpoint is needed: of the right sizes, always the same, and of no use otherwise."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor


def random_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values for each entry of a state_dict, on the meta device, too: normal, by the number of inputs; the same name gives the same."""
    filled = {}
    for name, value in state.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        fan_in = math.prod(value.shape[1:]) if value.ndim > 1 else 4
        filled[name] = torch.randn(value.shape, generator=generator) / math.sqrt(fan_in)
    return filled
