"""Overlapping masks as label layers: groups above objects above parts, each with the record of what contains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.types import Instance, LabelLayer, Segmentation

LEVELS = ("group", "object", "part")
CONTAINED = 0.9  # so much of a mask lies in its container
LARGER = 1.3  # and so many times larger is that
_COARSE = 128


@dataclass(frozen=True, eq=False)
class Nested:
    """Of K masks: container (K,) index of the smallest mask that contains it, -1 = none; level (K,) index into LEVELS."""

    container: np.ndarray
    level: np.ndarray


def nest(masks: Tensor) -> Nested:
    """masks: (K, H, W) bool. In a chain of three or more the largest is a group and all below the second are parts; else the largest is
    the object. Overlaps are measured on a grid of at most 128 cells a side."""
    count = len(masks)
    if not count:
        return Nested(np.zeros(0, int), np.zeros(0, int))
    cells = (min(_COARSE, masks.shape[1]), min(_COARSE, masks.shape[2]))
    share = torch.stack([F.adaptive_avg_pool2d(mask[None].float(), cells)[0] for mask in masks]).flatten(1)
    area = share.sum(dim=1)
    common = torch.minimum(share @ (share > 0.5).float().T, area[:, None])
    contained = (common >= CONTAINED * area[:, None]) & (area[None] >= LARGER * area[:, None])
    size = torch.where(contained, area[None], torch.inf)
    container = torch.where(contained.any(dim=1), size.argmin(dim=1), -1).cpu().numpy()
    depth, height = np.zeros(count, int), np.zeros(count, int)
    for k in np.argsort(-area.cpu().numpy(), kind="stable"):  # containers come first: they are larger
        depth[k] = depth[container[k]] + 1 if container[k] >= 0 else 0
    for k in np.argsort(area.cpu().numpy(), kind="stable"):
        if container[k] >= 0:
            height[container[k]] = max(height[container[k]], height[k] + 1)
    grouped = np.zeros(count, bool)
    for k in np.argsort(depth, kind="stable"):
        grouped[k] = height[k] >= 2 if container[k] < 0 else grouped[container[k]]
    return Nested(container, np.minimum(depth + np.where(grouped, 0, 1), 2))


@torch.inference_mode()
def layers_of(masks: Tensor, scores: np.ndarray, max_objects: int, prompted: Sequence[tuple[str, str]] = ()) -> Segmentation:
    """masks: (K, H, W) bool on any device; scores: (K,). Where masks of one level overlap the better score has the pixel.

    At most max_objects of each level are kept, the best. A mask that nothing is left of is dropped; so is the parent link of one whose
    container is not a level above. prompted: (source_key, class_name) of the first masks, which are objects and lie over the others.
    """
    nested = nest(masks)
    nested.level[: len(prompted)] = LEVELS.index("object")
    rank = scores + 2.0 * (np.arange(len(scores)) < len(prompted))
    labels = torch.zeros(len(LEVELS), *masks.shape[1:], dtype=torch.int32, device=masks.device)
    for level in range(len(LEVELS)):
        members = np.flatnonzero(nested.level == level)
        best = members[np.argsort(-rank[members], kind="stable")][:max_objects]
        for k in best[::-1]:  # the best last, over the others
            labels[level].masked_fill_(masks[int(k)], int(k) + 1)
    return _numbered(labels.cpu().numpy(), nested, scores, prompted)


def _numbered(labels: np.ndarray, nested: Nested, scores: np.ndarray, prompted: Sequence[tuple[str, str]]) -> Segmentation:
    """Labels 1..N in each layer and their records. labels: (3, H, W), index of the mask + 1. Empty layers but the objects' are left out."""
    present = [np.unique(layer[layer > 0]) - 1 for layer in labels]
    used = [level for level in range(len(LEVELS)) if len(present[level]) or LEVELS[level] == "object"]
    layers, instances, label_of = [], [], {}
    for index, level in enumerate(used):
        table = np.zeros(len(scores) + 1, np.uint16)
        table[present[level] + 1] = np.arange(1, len(present[level]) + 1)
        layers.append(LabelLayer(table[labels[level]], LEVELS[level]))
        for label, k in enumerate(present[level].tolist(), start=1):
            above = label_of.get(int(nested.container[k]))
            parent = above[1] if above is not None and above[0] == index - 1 else None
            label_of[k] = (index, label)
            key, name = prompted[k] if k < len(prompted) else (None, "object")
            score = round(float(np.clip(scores[k], 0, 1)), 3)
            instances.append(Instance(label, layer=index, parent=parent, source_key=key, class_name=name or "object", score=score))
    return Segmentation(tuple(layers), tuple(instances))
