"""The network takes multiples of 32; images get their edges repeated and results are cut back."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

MULTIPLE = 32


@dataclass(frozen=True)
class Padding:
    """Pixels added on each side, as even as can be; the odd one right and below."""

    left: int
    right: int
    top: int
    bottom: int

    @classmethod
    def of(cls, height: int, width: int) -> Padding:
        dy, dx = -height % MULTIPLE, -width % MULTIPLE
        return cls(dx // 2, dx - dx // 2, dy // 2, dy - dy // 2)

    def add(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.left, self.right, self.top, self.bottom), mode="replicate")

    def crop(self, x: Tensor) -> Tensor:
        return x[..., self.top : x.shape[-2] - self.bottom, self.left : x.shape[-1] - self.right]
