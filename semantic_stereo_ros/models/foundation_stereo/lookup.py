"""Samples of the filtered volume and of all-pairs correlation around the current disparity.

Tables lie as the volume does: disparity-major rows of channels, so that one look-up gathers ten consecutive entries per pixel.
All offsets of a look-up share one fraction: nine interpolated values cost ten gathered ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 4
TAPS = 2 * RADIUS + 1
LEVELS = 2


def neighbours(position: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of float positions (N,): indices (N, 10) clamped into 0..length-1, mask (N, 10) of those inside, fraction (N, 1)."""
    # Far outside every tap is outside: clamping keeps the integers small whatever the network says.
    position = position.clamp(-length - TAPS, 2 * length + TAPS)
    low = position.floor()
    index = low.long()[:, None] + torch.arange(-RADIUS, RADIUS + 2, device=position.device)
    inside = (index >= 0) & (index < length)
    return index.clamp(0, length - 1), inside, (position - low)[:, None]


class GeometryTable:
    """The filtered volume (B, 28, D, h, w). Level 1 of a look-up averages neighbouring disparities."""

    def __init__(self, filtered: Tensor) -> None:
        """Without a copy where the channels of `filtered` come last in memory."""
        self._table = filtered.permute(0, 2, 3, 4, 1).contiguous()

    def sample(self, disparity: Tensor, level: int, start: int = 0) -> Tensor:
        """disparity (B, 1, n, w) of the rows from `start` on, quarter-scale px -> (B, n, w, 9, 28) around disparity / 2**level."""
        batch, _, height, width, channels = self._table.shape
        count = disparity.shape[2]
        length = self._table.shape[1] >> level
        index, inside, part = neighbours(disparity.float().reshape(-1) / 2**level, length)
        sites = torch.arange(start * width, (start + count) * width, device=disparity.device).repeat(batch)
        if batch > 1:
            sites += torch.arange(batch, device=disparity.device).repeat_interleave(count * width) * (self._table[0].numel() // channels)
        flat = (index * (2**level * height * width) + sites[:, None]).flatten()
        entries = self._table.view(-1, channels)
        taps = entries.index_select(0, flat)
        if level:  # the mean of two neighbours, taken here: a table of means would be half as large again
            taps = torch.lerp(taps, entries.index_select(0, flat + height * width), 0.5)
        taps = taps.view(-1, TAPS + 1, channels)
        taps *= inside.unsqueeze(2)
        low, high = taps[:, :-1], taps[:, 1:]
        return torch.lerp(low, high, part.unsqueeze(2).to(taps.dtype)).view(batch, count, width, TAPS, channels)


class CorrelationTable:
    """Cosine of the left feature at x with the right one at each x' of the row; level 1 averages neighbouring x'."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        a, b = (F.normalize(f.float(), dim=1, eps=1e-12) for f in (left, right))
        # (B, h, x, x')
        first = a.permute(0, 2, 3, 1) @ b.permute(0, 2, 1, 3)
        self._tables = [first, F.avg_pool1d(first.flatten(0, 1), 2).unflatten(0, first.shape[:2])]

    def sample(self, disparity: Tensor, level: int, start: int = 0) -> Tensor:
        """disparity (B, 1, n, w) of the rows from `start` on -> (B, n, w, 9) around (x - disparity) / 2**level."""
        batch, _, count, width = disparity.shape
        table = self._tables[level][:, start : start + count]
        x = torch.arange(width, device=disparity.device, dtype=torch.float32)
        position = x / 2**level - disparity.float().reshape(-1, width) / 2**level
        index, inside, part = neighbours(position.reshape(-1), table.shape[-1])
        taps = table.reshape(-1, table.shape[-1]).gather(1, index) * inside
        return torch.lerp(taps[:, :-1], taps[:, 1:], part).view(batch, count, width, TAPS)


def look_up(geometry: GeometryTable, correlation: CorrelationTable, disparity: Tensor, start: int = 0) -> Tensor:
    """(B, 1, n, w) of the rows from `start` on -> (B, 522, n, w), channels last: per level 28 x 9 of the volume, 9 of the correlation."""
    parts = []
    for level in range(LEVELS):
        parts.append(geometry.sample(disparity, level, start).transpose(3, 4).flatten(3))
        parts.append(correlation.sample(disparity, level, start).to(parts[0].dtype))
    return torch.cat(parts, 3).permute(0, 3, 1, 2)
