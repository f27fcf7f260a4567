"""Cutting and joining on maps small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.segmentation import edges
from semantic_stereo_ros.segmentation.geometric import mask_filling, region_merging, region_shape
from semantic_stereo_ros.segmentation.geometric.slanted_merging import join_slants
from semantic_stereo_ros.synthetic import default_rig

NAN = np.nan


def groups(labels: np.ndarray) -> set[frozenset[int]]:
    """The partition that labels make, whatever their numbers: sets of flat indices."""
    return {frozenset(np.flatnonzero(labels.ravel() == label).tolist()) for label in np.unique(labels) if label}


def scene(*blocks: tuple[slice, slice, float], size: tuple[int, int] = (40, 60), background: float = 5.0) -> np.ndarray:
    d = np.full(size, background, np.float32)
    for rows, columns, value in blocks:
        d[rows, columns] = value
    return d


def segment(d: np.ndarray, core: np.ndarray, step: float = 2.0) -> tuple[int, np.ndarray]:
    allowed = np.full(d.shape, step, np.float32)
    count, labels, inside = region_merging.cut_into_pieces(core, d, 0.7 * allowed)
    return region_merging.join_pieces(labels, count, inside, allowed)


def test_components_follow_the_links_and_not_the_mask_alone():
    mask = np.ones((2, 4), bool)
    right, down = np.ones((2, 3), bool), np.ones((1, 4), bool)
    right[:, 1] = False
    count, labels = edges.linked_components(mask, right, down)
    assert count == 2
    assert groups(labels) == {frozenset({0, 1, 4, 5}), frozenset({2, 3, 6, 7})}


def test_bonds_join_directly_and_through_others():
    assert edges.lowest_joined(7, [(5, 3), (6, 2), (3, 6), (7, 1)]).tolist() == [0, 1, 2, 2, 4, 2, 2, 1]
    assert edges.lowest_joined(2, []).tolist() == [0, 1, 2]


def test_fill_takes_the_nearest_known_value():
    image = np.array([[NAN, 1.0, NAN, NAN, NAN, 7.0]], np.float32)
    distance, (filled,) = edges.fill_from_nearest(np.isfinite(image), image)
    np.testing.assert_array_equal(filled[0, [0, 1, 2, 4, 5]], [1, 1, 1, 7, 7])
    assert distance[0, 1] == 0 and distance[0, 0] > 0


def test_allowed_step_grows_with_noise_and_nearness():
    rig = default_rig()
    d, sigma = np.array([[10.0, 10.0, 40.0]], np.float32), np.array([[0.2, 0.6, 0.2]], np.float32)
    far, noisy, near = edges.allowed_step_px(d, sigma, rig, 1.0, 3.0, 0.1)[0]
    assert far < noisy and far < near
    gap_only = edges.allowed_step_px(d, 0 * sigma, rig, 0.0, 3.0, 0.1)[0, 2]
    assert gap_only == pytest.approx(0.1 / rig.bf * 40**2, rel=1e-5)


def test_two_surfaces_part_although_a_ramp_leaks_between_them():
    d = scene((slice(5, 35), slice(5, 25), 20.0), (slice(5, 35), slice(25, 45), 28.0))
    d[18:20, 21:29] = np.linspace(20, 28, 8)  # two rows that the matcher smeared: each step is allowed
    right, down = edges.links(d, np.full(d.shape, 2.0, np.float32))
    assert edges.linked_components(d > 10, right, down)[0] == 1
    _, labels = segment(d, d > 10)
    left, right = labels[10, 10], labels[10, 40]
    assert left != right
    assert np.count_nonzero(labels == left) >= 570 and np.count_nonzero(labels == right) >= 570


def test_a_pole_two_pixels_wide_survives():
    d = scene((slice(2, 38), slice(30, 32), 20.0))
    count, labels = segment(d, d > 10)
    assert count == 1 and np.count_nonzero(labels) == 72


def test_a_slanted_surface_stays_one():
    d = scene()
    d[5:35, 5:55] = np.linspace(15, 40, 50)
    count, _ = segment(d, d > 10, step=2.5)
    assert count == 1


def test_a_surface_behind_a_pole_is_joined_but_its_twin_far_off_is_not():
    d = scene((slice(10, 35), slice(5, 40), 20.0), (slice(10, 35), slice(52, 58), 20.0), (slice(2, 38), slice(20, 23), 40.0))
    count, labels = segment(d, d > 10)
    assert count == 4
    count, labels = region_merging.bridge_pieces(labels, count, d, np.full(d.shape, 2.0, np.float32), np.full(d.shape, 8.0, np.float32))
    assert count == 3
    assert labels[20, 8] == labels[20, 35] != labels[20, 55]
    assert labels[20, 21] not in (0, labels[20, 8])


def test_nothing_is_joined_across_a_gap_that_shows_the_background():
    d = scene((slice(10, 35), slice(5, 20), 20.0), (slice(10, 35), slice(23, 40), 20.0))
    count, labels = segment(d, d > 10)
    joined, _ = region_merging.bridge_pieces(labels, count, d, np.full(d.shape, 2.0, np.float32), np.full(d.shape, 8.0, np.float32))
    assert count == joined == 2


def test_outlines_tell_what_is_in_front():
    d = scene((slice(10, 30), slice(10, 30), 20.0), (slice(14, 20), slice(14, 20), 5.0))
    labels = np.zeros(d.shape, np.int32)
    labels[10:30, 10:30] = 1
    labels[14:20, 14:20] = 2
    front, behind, outline = region_shape.outlines(labels, 2, d, np.full(d.shape, 1.0, np.float32))
    assert front[1] > 0.8 * outline[1] and behind[1] == 0
    assert front[2] == 0 and behind[2] == outline[2]


def test_unknown_pixels_are_filled_only_where_one_label_encloses_them():
    labels = np.array([[0, 1, 1, 1, 1, 2, 2, 0]], np.int32)
    known = np.array([[1, 1, 0, 1, 0, 1, 0, 1]], bool)
    assert mask_filling.keep_enclosed(labels, known, widest_px=4).tolist() == [[0, 1, 1, 1, 0, 2, 0, 0]]
    assert mask_filling.keep_enclosed(np.array([[1, 0, 0, 0, 1]]), np.array([[1, 0, 0, 0, 1]], bool), widest_px=3).tolist() == [
        [1, 0, 0, 0, 1]
    ]


def test_holes_are_closed_and_bays_are_not():
    labels = np.zeros((20, 20), np.int32)
    labels[2:18, 2:18] = 1
    labels[8:11, 8:11] = 2
    labels[2:5, 9:11] = 0
    filled = mask_filling.fill_holes(labels, 2, 0.1)
    assert (filled[8:11, 8:11] == 1).all()
    assert (filled[2:5, 9:11] == 0).all()
    assert (mask_filling.fill_holes(labels, 2, 0.01) == labels).all()


def test_full_size_masks_follow_the_disparity_and_not_the_raster():
    d_full = np.full((8, 12), 5.0, np.float32)
    d_full[:, 5:] = 20.0
    d_full[0, 0] = NAN
    d = np.nan_to_num(d_full[::2, ::2], nan=5.0)
    labels = (d > 10).astype(np.uint16)
    full = mask_filling.to_full_size(labels, d, np.full(d.shape, 2.0, np.float32), d_full, 2)
    np.testing.assert_array_equal(full, np.nan_to_num(d_full) > 10)


def test_a_receding_side_joins_the_front_it_runs_into():
    labels = np.zeros((40, 60), np.int32)
    labels[5:35, 10:30], labels[5:35, 32:55] = 1, 2
    d = np.full(labels.shape, 5.0, np.float32)
    d[5:35, 10:30] = np.linspace(14, 26, 20)  # reaches 28 at column 33
    d[5:35, 30:55] = 28.0
    allowed = np.full(labels.shape, 1.5, np.float32)
    count, joined = join_slants(labels, 2, d, allowed)
    assert count == 1 and joined[20, 15] == joined[20, 45] > 0
    d[5:35, 10:30] = 20.0  # an upright face eight pixels of disparity behind does not
    assert join_slants(labels, 2, d, allowed)[0] == 2
    d[5:35, 10:30] = np.linspace(24, 26, 20)  # nor one that leans a little: its plane explains a fifth of the step
    assert join_slants(labels, 2, d, allowed)[0] == 2


def test_a_refused_union_falls_back_to_its_parts():
    labels = np.array([[0, 1, 1, 2, 0, 3, 4]], np.int32)
    joined = np.array([[0, 1, 1, 1, 0, 2, 2]], np.int32)
    count, mixed = region_merging.join_unless(np.array([False, True, False]), labels, joined)
    assert count == 3
    assert groups(mixed) == {frozenset({1, 2}), frozenset({3}), frozenset({5, 6})}
    assert (mixed[0, [0, 4]] == 0).all()


def test_a_top_joins_what_carries_it():
    labels = np.zeros((30, 30), np.int32)
    labels[10:14, 5:25], labels[14:25, 5:25] = 1, 2
    d = np.where(labels == 2, 20.0, np.where(labels == 1, 17.5, 5.0)).astype(np.float32)
    allowed = np.full(labels.shape, 1.5, np.float32)
    flat = np.array([False, True, False])
    assert region_merging.join_tops(labels, 2, d, allowed, flat)[0] == 1
    d[labels == 1] = 10.0
    assert region_merging.join_tops(labels, 2, d, allowed, flat)[0] == 2
