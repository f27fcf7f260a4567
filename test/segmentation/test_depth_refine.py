"""Masks made worse on purpose, of scenes whose truth is known, are made better by the depth; planes and truth are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.segmentation import depth_refine, edges
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity, Instance, LabelLayer, Segmentation, StereoRig

SEEDS = range(6)


def disparity_of(scene, seed: int, noise_px: float = 0.15) -> Disparity:
    rng = np.random.default_rng(seed)
    d = np.where(scene.occluded, np.nan, scene.disparity_px + rng.normal(0, noise_px, scene.disparity_px.shape)).astype(np.float32)
    known = np.isfinite(d)
    sigma = np.where(known, np.float32(noise_px), np.float32(np.nan))
    return Disparity(d, sigma, known.astype(np.float32), scene.frame.rig)


def with_scores(labels: np.ndarray, score: float) -> Segmentation:
    labels = Segmentation.from_labels(labels).labels
    return Segmentation((LabelLayer(labels),), tuple(Instance(int(n), score=score) for n in np.unique(labels) if n))


def quality(masks: Segmentation, truth: np.ndarray) -> float:
    """Mean best IoU over the true objects of 400 px or more."""
    best = []
    for n in np.unique(truth[truth > 0]):
        mask = truth == n
        if mask.sum() < 400:
            continue
        overlaps = [np.count_nonzero(mask & (masks.labels == m)) / np.count_nonzero(mask | (masks.labels == m))
                    for m in np.unique(masks.labels[mask]) if m]  # fmt: skip
        best.append(max(overlaps, default=0.0))
    return float(np.mean(best))


def fused(truth: np.ndarray) -> np.ndarray:
    """Objects that touch in the image are one mask."""
    labels = truth.astype(int).copy()
    for a, b in {tuple(sorted(pair)) for x, y in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]))
                 for pair in zip(x[x != y].tolist(), y[x != y].tolist()) if 0 not in pair}:  # fmt: skip
        labels[labels == labels[truth == b][0]] = labels[truth == a][0]
    return labels


def halved(truth: np.ndarray) -> np.ndarray:
    """Each object is two masks, left and right of its middle."""
    labels = truth.astype(int).copy()
    for n in np.unique(truth[truth > 0]):
        columns = np.nonzero(truth == n)[1]
        labels[(truth == n) & (np.arange(truth.shape[1]) > np.median(columns))] = n + 1000
    return labels


@pytest.mark.parametrize(("worse", "step", "gain"), [(fused, depth_refine.split, 0.05), (halved, depth_refine.merge, 0.1)])
def test_the_step_undoes_the_damage(worse, step, gain, record_property):
    before, after, untouched = [], [], []
    for seed in SEEDS:
        scene = random_sequence(seed=seed, size_wh=(320, 240), objects=14)[0]
        disparity, truth = disparity_of(scene, seed), scene.instance_ids
        damaged = with_scores(worse(truth), 0.7)
        before.append(quality(damaged, truth))
        after.append(quality(step(damaged, disparity), truth))
        untouched.append(quality(step(with_scores(truth, 0.7), disparity), truth))
    record_property(
        "measured",
        f"depth, {step.__name__}: best IoU {np.mean(before):.3f} -> {np.mean(after):.3f}; true masks 1 -> {np.mean(untouched):.3f}",
    )
    assert np.mean(after) > np.mean(before) + gain
    assert np.mean(untouched) > 0.95


def plane_disparity(slope_px: float) -> Disparity:
    rig = StereoRig((160, 120), 200, 200, 80, 60, 0.1)
    d = (20 + slope_px * np.arange(160)[None] + 0.05 * np.arange(120)[:, None]).astype(np.float32)
    return Disparity(d, np.full_like(d, 0.1), np.ones_like(d), rig)


@pytest.mark.parametrize("slope_px", [0.0, 0.3, 1.5])
def test_a_slanted_surface_is_one_and_its_unsure_halves_become_one(slope_px):
    disparity = plane_disparity(slope_px)
    assert not edges.beside_breaks(disparity).any()
    labels = np.zeros((120, 160), int)
    labels[20:100, 20:80], labels[20:100, 80:140] = 1, 2
    unsure, sure = with_scores(labels, 0.5), with_scores(labels, 0.95)
    joined = depth_refine.merge(unsure, disparity)
    assert len(joined.instances) == 1
    np.testing.assert_array_equal(joined.labels > 0, labels > 0)
    np.testing.assert_array_equal(depth_refine.merge(sure, disparity).labels, labels)
    np.testing.assert_array_equal(depth_refine.split(with_scores((labels > 0).astype(int), 0.5), disparity).labels, labels > 0)


def test_links_of_parts_and_keys_follow():
    disparity = plane_disparity(0.0)
    disparity.disparity_px[:, 80:] += 15
    objects, parts = np.zeros((2, 120, 160), np.uint16)
    objects[10:60, 20:70], objects[70:110, 40:120], parts[75:90, 45:60], parts[15:30, 25:40] = 1, 2, 1, 2
    instances = (
        Instance(1, source_key="prompt:4"),
        Instance(2, source_key="prompt:5"),
        Instance(1, layer=1, parent=2),
        Instance(2, layer=1, parent=1),
    )
    result = depth_refine.split(Segmentation((LabelLayer(objects), LabelLayer(parts, "part")), instances), disparity)
    assert len(result.object_instances) == 3
    keys = {i.source_key: i.label for i in result.object_instances if i.source_key}
    assert set(keys) == {"prompt:4", "prompt:5"}
    for part in (i for i in result.instances if i.layer == 1):
        assert result.labels[parts == part.label][0] == part.parent
    assert result.labels[90, 50] != result.labels[90, 110]


def test_what_is_prompted_is_joined_with_nothing():
    labels = np.zeros((120, 160), np.uint16)
    labels[20:100, 20:80], labels[20:100, 80:140] = 1, 2
    halves = Segmentation((LabelLayer(labels),), (Instance(1, score=0.5, source_key="prompt:4"), Instance(2, score=0.5)))
    kept = depth_refine.merge(halves, plane_disparity(0.0))
    np.testing.assert_array_equal(kept.labels, labels)
    assert [i.source_key for i in kept.object_instances] == ["prompt:4", None]


def test_parts_follow_their_objects_new_label_and_those_of_an_object_that_is_gone_stand_alone():
    """1 and 2 become one; 3, which is sure and stands apart, becomes 2."""
    objects, parts = np.zeros((2, 120, 160), np.uint16)
    objects[20:60, 20:80], objects[20:60, 80:140], objects[80:110, 20:80] = 1, 2, 3
    parts[30:40, 30:40], parts[30:40, 100:110], parts[90:100, 30:40] = 1, 2, 3
    instances = (
        *(Instance(label, score=score) for label, score in ((1, 0.5), (2, 0.6), (3, 0.95))),
        *(Instance(label, layer=1, parent=label) for label in (1, 2, 3)),
    )
    result = depth_refine.merge(Segmentation((LabelLayer(objects), LabelLayer(parts, "part")), instances), plane_disparity(0.0))
    assert [(i.label, i.score) for i in result.object_instances] == [(1, 0.6), (2, 0.95)]
    assert [i.parent for i in result.instances if i.layer == 1] == [1, None, 2]
    assert result.labels[35, 100] == 1 and result.labels[95, 35] == 2
