"""Products of rows with weights on a CPU by oneDNN, which torch itself has but takes for convolutions only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """F.linear of x (..., C), and F.gelu of it.

    For float32 on a CPU without gradients oneDNN is up to a tenth faster than the library that torch takes, and adds the bias and what
    follows on the way.
    """
    if x.dtype == torch.float32 and hardware.eager_on_cpu(x) and _has_onednn():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
    y = F.linear(x, weight, bias)
    return F.gelu(y) if gelu else y


class Linear(nn.Linear):
    """nn.Linear by `linear`."""

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        return linear(x, self.weight, self.bias, gelu)


def _has_onednn() -> bool:
    # The operator is torch's own, but not part of its documented interface.
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
