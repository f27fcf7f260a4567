"""Points only where they can tell something: a sparse grid, then finer ones where no mask is yet or the depth steps inside one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from semantic_stereo_ros.segmentation.automask.generate import Candidates, Options, Search, point_grid
from semantic_stereo_ros.segmentation.automask.promptable import PromptableModel

_FIRST_STRIDE = 4
_LARGEST_SHARE = 3  # of the full grid's points, one in so many is decoded at most
_OPEN = 0.25  # a cell with a larger share that no mask covers is asked
_NEAR_CELLS = 1.0  # a depth edge concerns points this near, in cells of the finest grid


@torch.inference_mode()
def find_masks_adaptively(
    model: PromptableModel, image: np.ndarray, options: Options, depth_edges: np.ndarray | None = None, embedding: Any = None
) -> tuple[Candidates, int]:
    """Masks of the whole image, and how many points were decoded for them; the points are some of those of the full grid.

    depth_edges: (H, W) bool, where the depth steps; where a mask's outline runs along an edge, the edge is explained.
    """
    height, width = image.shape[:2]
    search = Search(model, image, options, (0, 0, width, height), embedding)
    per_side = options.points_per_side
    view = _Explained((height, width), per_side, depth_edges)
    grid = point_grid(per_side).reshape(per_side, per_side, 2)
    tried = np.zeros((per_side, per_side), bool)
    stride = min(_FIRST_STRIDE, per_side)
    most = max(1, per_side**2 // _LARGEST_SHARE)
    while stride:
        turn = np.zeros_like(tried)
        turn[stride // 2 :: stride, stride // 2 :: stride] = True
        while search.decoded < most and (chosen := np.argwhere(turn & ~tried & view.wanted())).size:
            # Neighbours would often find the same mask: a batch takes every other point, and what it explains is not asked again.
            parity = (chosen // stride).sum(axis=1) % 2
            batch = chosen[parity == parity[0]][: min(options.points_per_batch, most - search.decoded)]
            tried[batch[:, 0], batch[:, 1]] = True
            for found in search.look_at(grid[batch[:, 0], batch[:, 1]]):
                view.add(found)
        stride //= 2
    return search.result(), search.decoded


class _Explained:
    """Which points of the finest grid still promise something. Masks are looked at in the model's low resolution."""

    def __init__(self, shape_hw: tuple[int, int], per_side: int, depth_edges: np.ndarray | None) -> None:
        self._shape_hw, self._per_side = shape_hw, per_side
        self._covered: np.ndarray | None = None
        self._outlined: np.ndarray | None = None
        self._edges = depth_edges

    def add(self, found: Candidates) -> None:
        masks = (found.logits > 0).cpu().numpy()
        if self._covered is None:
            self._covered, self._outlined = (np.zeros(masks.shape[1:], bool) for _ in range(2))
            if self._edges is not None:
                height, width = masks.shape[1:]
                self._edges = cv2.resize(self._edges.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
        assert self._outlined is not None
        for mask in masks:
            self._covered |= mask
            if self._edges is not None:
                self._outlined |= cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0

    def wanted(self) -> np.ndarray:
        """(n, n) bool over the finest grid."""
        n = self._per_side
        if self._covered is None or self._outlined is None:
            return np.ones((n, n), bool)
        open_share = cv2.resize((~self._covered).astype(np.float32), (n, n), interpolation=cv2.INTER_AREA)
        wanted = open_share > _OPEN
        if self._edges is not None:
            missed = self._edges & (cv2.dilate(self._outlined.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
            reach = 1 + 2 * round(_NEAR_CELLS)
            share = cv2.resize(missed.astype(np.float32), (n, n), interpolation=cv2.INTER_AREA)
            wanted |= cv2.dilate(share, np.ones((reach, reach), np.uint8)) > 0.1
        return wanted
