"""Hungarian assignment of a new look's masks to objects that are known already: by overlap, and by depth where there is one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

LONGEST_SIDE = 192


@dataclass(frozen=True, eq=False)
class Looks:
    """Masks on a coarse grid. masks: (N, h, w) bool; disparity_px: (N,) float64, the median inside, NaN unknown."""

    masks: Tensor
    disparity_px: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)


def grid_of(shape: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the coarse grid for images of this (height, width)."""
    scale = min(1.0, LONGEST_SIDE / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def coarse_masks(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, *grid) bool from (N, h, w) logits or bool masks."""
    if not len(values):
        return torch.zeros(0, *grid, dtype=torch.bool, device=values.device)
    if values.dtype == torch.bool:
        return F.interpolate(values[:, None].float(), grid, mode="area")[:, 0] >= 0.5
    return F.interpolate(values[:, None].float(), grid, mode="bilinear", align_corners=False)[:, 0] > 0


def coarse_disparity(disparity_px: np.ndarray | None, grid: tuple[int, int]) -> Tensor | None:
    """Every so many pixels of an (H, W) float32 disparity; NaN unknown."""
    if disparity_px is None:
        return None
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in zip(grid, disparity_px.shape))
    return torch.from_numpy(disparity_px[np.ix_(rows.astype(int), columns.astype(int))])


def looks(masks: Tensor, disparity_px: Tensor | None) -> Looks:
    """masks: (N, h, w) bool; disparity_px: (h, w) on the same grid, or None."""
    if disparity_px is None or not len(masks):
        return Looks(masks, np.full(len(masks), np.nan))
    return Looks(masks, np.array([float(disparity_px[mask].nanmedian()) if mask.any() else np.nan for mask in masks.cpu()]))


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) intersection over union of (N, h, w) and (M, h, w) bool masks; 0 for empty ones."""
    flat_a, flat_b = a.flatten(1).float(), b.flatten(1).float()
    common = flat_a @ flat_b.T
    return common / (flat_a.sum(1)[:, None] + flat_b.sum(1)[None] - common).clamp(min=1)


def match(known: Looks, new: Looks, least_iou: float, depth_tolerance: float) -> list[tuple[int, int]]:
    """Hungarian assignment: pairs (known, new) of one object, one to one, of the largest IoU in all; each of at least least_iou.

    Two known disparities that differ by more than depth_tolerance (a share of the larger) are no pair.
    """
    if not len(known) or not len(new):
        return []
    scores = overlaps(known.masks, new.masks).cpu().numpy()
    a, b = known.disparity_px[:, None], new.disparity_px[None]
    scores[(np.abs(a - b) > depth_tolerance * np.maximum(a, b)) | (scores < least_iou)] = 0.0
    rows, columns = linear_sum_assignment(-scores)
    return [(int(i), int(j)) for i, j in zip(rows, columns) if scores[i, j] > 0]


def covered(mask: Tensor, by: list[Tensor]) -> float:
    """The share of an (h, w) bool mask that lies in any of the others; 0 for none."""
    if not by:
        return 0.0
    return float((mask & torch.stack(by).any(dim=0)).sum() / mask.sum().clamp(min=1))
