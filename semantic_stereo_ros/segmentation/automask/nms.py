"""Non-maximum suppression (NMS) of masks by their bounding boxes, without torchvision and without leaving the device."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of(masks: Tensor) -> Tensor:
    """Bounding boxes: (K, H, W) bool -> (K, 4) float32 (x_min, y_min, x_max, y_max) of the outermost pixels; zeros of an empty mask."""
    rows, columns = masks.any(dim=2), masks.any(dim=1)
    (top, bottom), (left, right) = _span(rows), _span(columns)
    return torch.stack([left, top, right, bottom], dim=1) * rows.any(dim=1, keepdim=True)


def _span(present: Tensor) -> tuple[Tensor, Tensor]:
    size, present = present.shape[1], present.to(torch.uint8)
    return present.argmax(dim=1).float(), (size - 1 - present.flip(1).argmax(dim=1)).float()


def area(boxes: Tensor) -> Tensor:
    """(K,) width times height."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def kept_by_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy NMS: indices of the boxes that it keeps, by falling score (equal ones in order).

    A box stays when no better one that stays overlaps it by more than `threshold` IoU. Deciding all at once, again and again, settles
    at least one more box each time, and in practice all in a few rounds.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = boxes[order]
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clamp_(min=0).prod(dim=2)
    areas = area(boxes)
    beats = (common / (areas[:, None] + areas[None] - common) > threshold).triu_(1)
    stays = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    while True:
        settled = ~(beats & stays[:, None]).any(dim=0)
        if torch.equal(settled, stays):
            return order[stays]
        stays = settled
