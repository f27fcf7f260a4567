"""DINOv2 vision transformer (Oquab et al., 2023), without registers, as the monocular prior uses it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.variants import Variant

PATCH = 14
GRID = 37  # side of the position table: pre-training ran at 518 px


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, E) -> (B, N, E)."""
        batch, count, width = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class VisionTransformer(nn.Module):
    """(B, 3, 14 Ph, 14 Pw) normalised RGB -> four maps (B, E, Ph, Pw)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width = variant.width
        self.variant = variant
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID * GRID, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of the pre-training only
        self.patch_embed = PatchEmbed(width)
        self.blocks = nn.ModuleList(Block(width, variant.heads) for _ in range(variant.depth))
        self.norm = nn.LayerNorm(width, 1e-6)
        self._positions: tuple[object, Tensor] | None = None

    def forward(self, x: Tensor) -> list[Tensor]:
        y = self.patch_embed(x)
        rows, columns = y.shape[-2:]
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), y.flatten(2).transpose(1, 2)], 1)
        tokens = tokens + self.positions(rows, columns)
        outputs = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self.variant.taken:
                outputs.append(self.norm(tokens)[:, 1:])
        return [t.transpose(1, 2).unflatten(2, (rows, columns)) for t in outputs]

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, E): the table resized by the scale (n + 0.1) / 37, as in the training. Kept for the next frame."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._resized(rows, columns)
        key = (rows, columns, self.pos_embed.device, self.pos_embed.dtype, self.pos_embed._version)
        if self._positions is None or self._positions[0] != key:
            self._positions = (key, self._resized(rows, columns))
        return self._positions[1]

    def _resized(self, rows: int, columns: int) -> Tensor:
        grid = self.pos_embed[:, 1:].float().unflatten(1, (GRID, GRID)).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
        return torch.cat([self.pos_embed[:, :1], grid.to(self.pos_embed.dtype)], 1)
