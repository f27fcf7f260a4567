"""Adaptive points on synthetic scenes, by a model that answers with the truth: what is measured is the choice of points alone."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from semantic_stereo_ros.segmentation import depth_refine
from semantic_stereo_ros.segmentation.automask.adaptive import find_masks_adaptively
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, find_masks
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity

OPTIONS = Options(points_per_side=32, points_per_batch=16)


class Truth:
    """A promptable model: a point's masks are the half of its object above it, its object, and the object with all that touches it.

    The room is one object too, as a good model would find it.
    """

    device = torch.device("cpu")

    def __init__(self, ids: np.ndarray) -> None:
        self._ids = ids.astype(int)

    def encode(self, image: np.ndarray):
        return image.shape[:2]

    def decode(self, embedding, points_xy=None, labels=None, boxes_xyxy=None, mask_logits=None, multimask=True):
        assert points_xy is not None
        rows = np.arange(self._ids.shape[0])[:, None]
        masks = []
        for x, y in points_xy[:, 0].numpy().astype(int):
            whole = self._ids == self._ids[y, x]
            masks.append([whole & (rows <= np.median(np.nonzero(whole)[0])), whole, whole])
        logits = torch.from_numpy(np.array(masks)).float() * 20 - 10
        return F.interpolate(logits, (120, 160), mode="area"), torch.tensor([[0.85, 0.95, 0.9]]).expand(len(masks), 3)


def found_share(masks: np.ndarray, ids: np.ndarray) -> float:
    """Of the true objects of 150 px or more, those that a mask matches with IoU 0.8."""
    sizes = {n: np.count_nonzero(ids == n) for n in np.unique(ids) if n}
    large = [n for n, size in sizes.items() if size >= 150]
    hit = [max(np.count_nonzero(m & (ids == n)) / np.count_nonzero(m | (ids == n)) for m in masks) >= 0.8 for n in large]
    return float(np.mean(hit))


def test_a_third_of_the_points_covers_as_much(record_property):
    rows = []
    for seed in range(6):
        scene = random_sequence(seed=seed, size_wh=(320, 240), objects=16)[0]
        image, ids = scene.frame.as_rgb8(), scene.instance_ids
        d = scene.disparity_px.astype(np.float32)
        edges = depth_refine.steps(Disparity(d, np.full_like(d, 0.1), np.ones_like(d), scene.rig))
        full = as_masks(find_masks(Truth(ids), image, OPTIONS), image.shape[:2]).numpy()
        few, calls = find_masks_adaptively(Truth(ids), image, OPTIONS, edges)
        some = as_masks(few, image.shape[:2]).numpy()
        blind = as_masks(find_masks_adaptively(Truth(ids), image, OPTIONS)[0], image.shape[:2]).numpy()
        cover = [masks.any(axis=0).mean() for masks in (full, some)]
        rows.append([*cover, *(found_share(masks, ids) for masks in (full, some, blind)), OPTIONS.points_per_side**2 / calls])
    full_cover, some_cover, full_found, some_found, blind_found, saving = np.mean(rows, axis=0)
    record_property(
        "measured",
        f"adaptive points: {saving:.1f}x fewer; covered {full_cover:.3f} -> {some_cover:.3f}; objects found {full_found:.3f} -> "
        f"{some_found:.3f} (without depth edges {blind_found:.3f})",
    )
    assert min(row[-1] for row in rows) >= 3
    assert some_cover >= full_cover - 0.005
    assert some_found >= full_found - 0.02


def test_what_is_explained_is_not_asked_again():
    ids = np.zeros((240, 320), np.uint16)
    found, calls = find_masks_adaptively(Truth(ids), np.zeros((240, 320, 3), np.uint8), OPTIONS)
    assert len(found) >= 1 and calls <= OPTIONS.points_per_batch
