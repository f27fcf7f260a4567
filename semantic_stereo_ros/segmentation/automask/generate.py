"""All masks of an image: points on a grid, three masks each, filtered and freed of duplicates before anything leaves the device.

The filters and their order are those of SAM's automatic mask generator (Kirillov et al. 2023, appendix B; its thresholds here under the
same meaning), so the masks are. Full-size logits exist only for a few candidates at a time; what is kept until the end is each
candidate's low-resolution logits, its box and its scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.segmentation.automask.enlarge import measure, paint
from semantic_stereo_ros.segmentation.automask.nms import area, kept_by_nms
from semantic_stereo_ros.segmentation.automask.promptable import PromptableModel

EDGE_PX = 20.0  # a mask this near to a crop's border, and not to the image's, is cut off
CROP_OVERLAP = 512 / 1500
CPU_BATCH = 16


@dataclass(frozen=True)
class Options:
    """Thresholds of the generator; the defaults are the reference generator's. points_per_batch changes speed and memory, not masks."""

    points_per_side: int = 32
    points_per_batch: int = 64
    min_iou: float = 0.8
    min_stability: float = 0.95
    stability_offset: float = 1.0
    box_nms: float = 0.7
    crop_layers: int = 0
    crop_nms: float = 0.7
    crop_point_divisor: int = 1


@dataclass(frozen=True, eq=False)
class Candidates:
    """K masks of one crop. logits: (K, h, w) float32 over the crop; boxes: (K, 4) px of the image, see `boxes_of`; predicted_iou,
    stability: (K,); points_xy: (K, 2) px of the image. crop_xyxy: (K, 4) int, which crop each is of."""

    logits: Tensor
    boxes: Tensor
    predicted_iou: Tensor
    stability: Tensor
    points_xy: Tensor
    crop_xyxy: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor) -> Candidates:
        return Candidates(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @staticmethod
    def joined(parts: list[Candidates]) -> Candidates:
        """All of them, in order. Raises RuntimeError for none."""
        return Candidates(*(torch.cat([getattr(part, name) for part in parts]) for name in Candidates.__dataclass_fields__))


@torch.inference_mode()
def find_masks(model: PromptableModel, image: np.ndarray, options: Options, embedding: Any = None) -> Candidates:
    """Every mask of the grids that survives the filters. image: (H, W, 3) uint8 RGB. embedding: of the whole image."""
    crops = crop_boxes(image.shape[:2], options.crop_layers)
    found = []
    for (x0, y0, x1, y1), layer in crops:
        search = Search(model, image, options, (x0, y0, x1, y1), None if layer else embedding)
        search.look_at(point_grid(max(1, int(options.points_per_side / options.crop_point_divisor**layer))))
        found.append(search.result())
    everything = Candidates.joined(found)
    if len(crops) > 1:  # a smaller crop shows more: its masks come first
        everything = everything[kept_by_nms(everything.boxes, 1 / area(everything.crop_xyxy), options.crop_nms)]
    return everything


class Search:
    """The candidates of one crop, encoded once, as points are looked at."""

    def __init__(
        self, model: PromptableModel, image: np.ndarray, options: Options, crop_xyxy: tuple[int, int, int, int], embedding: Any = None
    ) -> None:
        """embedding: of the crop, when it is there already."""
        x0, y0, x1, y1 = crop_xyxy
        self._model, self._options, self._crop = model, options, crop_xyxy
        self._image_hw = (image.shape[0], image.shape[1])
        self.shape_hw = (y1 - y0, x1 - x0)
        self._embedding = model.encode(image[y0:y1, x0:x1]) if embedding is None else embedding
        self._found: list[Candidates] = []
        self.decoded = 0

    def look_at(self, points: np.ndarray) -> list[Candidates]:
        """points: (N, 2) in 0..1 of the crop, (x, y). What each batch of them adds, and keeps for `result`."""
        added = []
        for start in range(0, len(points), self._options.points_per_batch):
            batch = points[start : start + self._options.points_per_batch]
            added.append(self._decode(torch.from_numpy(batch * np.array(self.shape_hw[::-1])).float().to(self._model.device)))
            self.decoded += len(batch)
        self._found += added
        return added

    def _decode(self, points_xy: Tensor) -> Candidates:
        options = self._options
        labels = torch.ones(len(points_xy), 1, dtype=torch.int32, device=points_xy.device)
        logits, iou = self._model.decode(self._embedding, points_xy[:, None], labels)
        points_xy = points_xy.repeat_interleave(logits.shape[1], dim=0)
        logits, iou = logits.flatten(0, 1), iou.flatten()
        good = iou > options.min_iou
        logits, iou, points_xy = logits[good], iou[good], points_xy[good]
        stability, boxes = measure(logits, self.shape_hw, options.stability_offset)
        x0, y0, _, _ = self._crop
        boxes = boxes + torch.tensor([x0, y0, x0, y0], device=boxes.device)
        points_xy = points_xy + torch.tensor([x0, y0], device=boxes.device)
        crop = torch.tensor(self._crop, device=boxes.device).expand(len(boxes), 4)
        good = (stability >= options.min_stability) & ~self._cut_off(boxes)
        return Candidates(logits, boxes, iou, stability, points_xy, crop)[good]

    def _cut_off(self, boxes: Tensor) -> Tensor:
        height, width = self._image_hw
        crop, image = (torch.tensor(xyxy, device=boxes.device) for xyxy in (self._crop, (0, 0, width, height)))
        return (((boxes - crop).abs() <= EDGE_PX) & ((boxes - image).abs() > EDGE_PX)).any(dim=1)

    def result(self) -> Candidates:
        """What is left of all that was found when duplicates are gone, best first."""
        found = Candidates.joined(self._found)
        self._found = [found[kept_by_nms(found.boxes, found.predicted_iou, self._options.box_nms)]]
        return self._found[0]


@torch.inference_mode()
def as_masks(found: Candidates, image_hw: tuple[int, int]) -> Tensor:
    """(K, H, W) bool on the device."""
    masks = torch.zeros(len(found), *image_hw, dtype=torch.bool, device=found.boxes.device)
    crops = found.crop_xyxy.tolist()
    start = 0
    while start < len(found):  # runs of one crop
        stop = next((i for i in range(start, len(found)) if crops[i] != crops[start]), len(found))
        x0, y0, x1, y1 = crops[start]
        paint(found.logits[start:stop], masks[start:stop, y0:y1, x0:x1])
        start = stop
    return masks


def point_grid(per_side: int) -> np.ndarray:
    """(per_side^2, 2) float64 (x, y) in 0..1: the centres of equal cells, row by row."""
    line = (np.arange(per_side) + 0.5) / per_side
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def crop_boxes(shape_hw: tuple[int, ...], layers: int) -> list[tuple[tuple[int, int, int, int], int]]:
    """The whole image and, per further layer i, 4^i overlapping crops: ((x0, y0, x1, y1) px, layer)."""
    height, width = shape_hw
    crops = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(CROP_OVERLAP * min(height, width) * 2 / per_side)
        crop_w, crop_h = (math.ceil((overlap * (per_side - 1) + length) / per_side) for length in (width, height))
        for column in range(per_side):
            for row in range(per_side):
                x0, y0 = column * (crop_w - overlap), row * (crop_h - overlap)
                crops.append(((x0, y0, min(x0 + crop_w, width), min(y0 + crop_h, height)), layer))
    return crops


def batch_for(points_per_batch: int, on_cpu: bool) -> int:
    """A CPU works best on batches that stay in its caches."""
    return min(points_per_batch, CPU_BATCH) if on_cpu else points_per_batch
