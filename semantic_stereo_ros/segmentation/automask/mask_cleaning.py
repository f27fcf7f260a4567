"""Connected components of each mask: small holes are filled and small islands dropped, inside its box."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.segmentation.automask.nms import boxes_of


@torch.inference_mode()
def clean(masks: Tensor, min_region_px: int) -> Tensor:
    """(K, H, W) bool, changed in place: first holes below so many pixels, then islands; the largest island always stays.

    Regions touch by corners, too. On a GPU the box of each mask visits the host: there is no connected components in torch.
    """
    if min_region_px <= 0:
        return masks
    height, width = masks.shape[1:]
    for mask, (x0, y0, x1, y1) in zip(masks, boxes_of(masks).int().tolist()):
        part = mask[max(0, y0 - 1) : min(height, y1 + 2), max(0, x0 - 1) : min(width, x1 + 2)]
        before = part.cpu().numpy()
        after = without_islands(~without_islands(~before, min_region_px, False), min_region_px, True)
        if (after != before).any():
            part.copy_(torch.from_numpy(after))
    return masks


def without_islands(mask: np.ndarray, min_region_px: int, keep_largest: bool) -> np.ndarray:
    """(H, W) bool without its connected components (8-neighbours) below so many pixels."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    keep = np.asarray(sizes >= min_region_px)
    keep[0] = False
    if keep_largest and count > 1 and not keep.any():
        keep[1 + int(sizes[1:].argmax())] = True
    return np.take(keep, np.asarray(regions, np.int32))
