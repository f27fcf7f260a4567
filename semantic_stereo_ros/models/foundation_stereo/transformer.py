"""The disparity transformer: each patch of the image plane is a sequence over disparities."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 28
HEADS = 4
LAYERS = 4


def sinusoids(count: int) -> Tensor:
    """(count, 28) float32 positions (Vaswani et al., 2017)."""
    angle = torch.arange(count, dtype=torch.float32)[:, None] * torch.exp(-2 * torch.arange(CHANNELS // 2) * math.log(10000) / CHANNELS)
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


class SelfAttention(nn.Module):
    """over: 'tokens' - each head attends over the disparities; 'heads' - each disparity attends over its own four heads."""

    def __init__(self, over: str) -> None:
        super().__init__()
        self.over = over
        self.q_proj = nn.Linear(CHANNELS, CHANNELS)
        self.k_proj = nn.Linear(CHANNELS, CHANNELS)
        self.v_proj = nn.Linear(CHANNELS, CHANNELS)
        self.out_proj = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, t: Tensor) -> Tensor:
        """(S, N, 28) -> (S, N, 28)."""
        q, k, v = (p(t).unflatten(2, (HEADS, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if self.over == "tokens":
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.flatten(2))


class Layer(nn.Module):
    def __init__(self, over: str) -> None:
        super().__init__()
        self.self_attn = SelfAttention(over)
        self.linear1 = nn.Linear(CHANNELS, CHANNELS)
        self.linear2 = nn.Linear(CHANNELS, CHANNELS)
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)

    def forward(self, t: Tensor) -> Tensor:
        t = self.norm1(t + self.self_attn(t))
        return self.norm2(t + self.linear2(F.gelu(self.linear1(t))))


class Encoder(nn.Module):
    def __init__(self, over: str) -> None:
        super().__init__()
        self.sa = nn.ModuleList(Layer(over) for _ in range(LAYERS))

    def forward(self, patches: Tensor) -> Tensor:
        """(B, 28, D/4, h/4, w/4) -> the same shape."""
        batch, channels, depth, height, width = patches.shape
        t = patches.permute(0, 3, 4, 2, 1).reshape(-1, depth, channels)
        first = self.sa[0]
        assert isinstance(first, Layer)
        t = t.to(first.linear1.weight.dtype)
        t = t + sinusoids(depth).to(t)
        for layer in self.sa:
            t = layer(t)
        return t.view(batch, height, width, depth, channels).permute(0, 4, 3, 1, 2)
