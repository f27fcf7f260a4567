"""Adaptive points on synthetic scenes, by a model that answers with the truth: what is measured is the choice of points alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semantic_stereo_ros.segmentation.automask.adaptive import find_masks_adaptively
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, find_masks
from semantic_stereo_ros.segmentation.edges import beside_breaks
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity, StereoRig

OPTIONS = Options(points_per_side=32, points_per_batch=16)


class Truth:
    """A promptable model: a point's masks are the half of its object above it, its object, and the object with all that touches it.

    The room is one object too, as a good model would find it.
    """

    device = torch.device("cpu")
    on_cpu = True

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


class Unreliable(Truth):
    """One point in three fails: its masks are not believed. Which ones does not depend on the batch."""

    def decode(self, embedding, points_xy=None, labels=None, boxes_xyxy=None, mask_logits=None, multimask=True):
        logits, scores = super().decode(embedding, points_xy)
        assert points_xy is not None
        return logits, torch.where((numbers(points_xy) % 3 == 0)[:, None], torch.tensor(0.5), scores)


class Frayed(Unreliable):
    """And what the others find lies up to 4 px beside the object."""

    def decode(self, embedding, points_xy=None, labels=None, boxes_xyxy=None, mask_logits=None, multimask=True):
        logits, scores = super().decode(embedding, points_xy)
        assert points_xy is not None
        shifts = [(int(n) % 5 - 2, int(n) // 5 % 5 - 2) for n in numbers(points_xy)]
        return torch.stack([torch.roll(masks, shift, (1, 2)) for masks, shift in zip(logits, shifts)]), scores


def numbers(points_xy: torch.Tensor) -> torch.Tensor:
    """(B,) int64 that look random, by the points alone."""
    return (points_xy[:, 0].long() * torch.tensor([7919, 104729])).sum(dim=1) * 2654435761 % 1000003


def found_share(masks: np.ndarray, ids: np.ndarray) -> float:
    """Of the true objects of 150 px or more, those that a mask matches with IoU 0.8."""
    sizes = {n: np.count_nonzero(ids == n) for n in np.unique(ids) if n}
    large = [n for n, size in sizes.items() if size >= 150]
    hit = [max(np.count_nonzero(m & (ids == n)) / np.count_nonzero(m | (ids == n)) for m in masks) >= 0.8 for n in large]
    return float(np.mean(hit))


@pytest.mark.parametrize(("model", "less_covered", "fewer_found"), [(Truth, 0.005, 0.02), (Unreliable, 0.005, 0.02), (Frayed, 0.03, 1.0)])
def test_a_third_of_the_points_covers_as_much(model, less_covered, fewer_found, record_property):
    """Frayed outlines meet the truth by chance, and more points have more chances: there only what is covered is compared."""
    rows = []
    for seed in range(6 if model is Truth else 2):
        scene = random_sequence(seed=seed, size_wh=(320, 240), objects=16)[0]
        image, ids = scene.frame.as_rgb8(), scene.instance_ids
        d = scene.disparity_px.astype(np.float32)
        edges = beside_breaks(Disparity(d, np.full_like(d, 0.1), np.ones_like(d), scene.rig))
        full = as_masks(find_masks(model(ids), image, OPTIONS), image.shape[:2]).numpy()
        few, calls = find_masks_adaptively(model(ids), image, OPTIONS, edges)
        some = as_masks(few, image.shape[:2]).numpy()
        blind = as_masks(find_masks_adaptively(model(ids), image, OPTIONS)[0], image.shape[:2]).numpy()
        cover = [masks.any(axis=0).mean() for masks in (full, some)]
        rows.append([*cover, *(found_share(masks, ids) for masks in (full, some, blind)), OPTIONS.points_per_side**2 / calls])
    full_cover, some_cover, full_found, some_found, blind_found, saving = np.mean(rows, axis=0)
    record_property(
        "measured",
        f"adaptive points, {model.__name__}: {saving:.1f}x fewer; covered {full_cover:.3f} -> {some_cover:.3f}; objects found "
        f"{full_found:.3f} -> {some_found:.3f} (without depth edges {blind_found:.3f})",
    )
    assert min(row[-1] for row in rows) >= 3
    assert some_cover >= full_cover - less_covered
    assert some_found >= full_found - fewer_found


def test_what_is_explained_is_not_asked_again():
    ids = np.zeros((240, 320), np.uint16)
    found, calls = find_masks_adaptively(Truth(ids), np.zeros((240, 320, 3), np.uint8), OPTIONS)
    assert len(found) >= 1 and calls <= OPTIONS.points_per_batch


class Greedy(Truth):
    """The room's mask goes over everything that stands in it."""

    def decode(self, embedding, points_xy=None, labels=None, boxes_xyxy=None, mask_logits=None, multimask=True):
        logits, scores = super().decode(embedding, points_xy)
        assert points_xy is not None
        x, y = points_xy[:, 0].long().unbind(dim=1)
        on_room = torch.from_numpy(self._ids == 0)[y, x]
        return torch.where(on_room[:, None, None, None], torch.tensor(10.0), logits), scores


def test_a_depth_edge_inside_a_mask_is_asked_about():
    """A box between the points of the sparse grid, which a mask already covers: only its depth tells that it is there."""
    ids, disparity = np.zeros((240, 320), np.uint16), np.full((240, 320), 10.0, np.float32)
    ids[24:44, 36:56], disparity[24:44, 36:56] = 1, 14.0
    rig = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.1)
    edges = beside_breaks(Disparity(disparity, np.full_like(disparity, 0.1), np.ones_like(disparity), rig))
    image = np.zeros((240, 320, 3), np.uint8)
    shares = []
    for known in (None, edges):
        found = find_masks_adaptively(Greedy(ids), image, OPTIONS, known)[0]
        shares.append(found_share(as_masks(found, (240, 320)).numpy(), ids))
    assert shares == [0.0, 1.0]
