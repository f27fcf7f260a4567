"""Which track is which instance: hand-made costs whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from semantic_stereo_ros.tracking.association import Candidates, assign, overlap_scores, position_distances

GATE = 16.0


def pairs(distance2, overlap, size_ratio=1.0, seen: ArrayLike = True, same_class: ArrayLike = True) -> list[tuple[int, int]]:
    """Numbers, or rows by track and columns by instance."""
    distance2 = np.atleast_2d(np.asarray(distance2, float))
    n, m = distance2.shape
    full = [np.broadcast_to(values, (n, m)) for values in (overlap, size_ratio, same_class)]
    candidates = Candidates(distance2, full[0].astype(float), full[1].astype(float), full[2])
    return assign(candidates, np.full(n, GATE), np.broadcast_to(seen, n), min_overlap=0.2, max_size_ratio=4.0)


def test_overlap_is_iou_or_half_of_what_is_covered_of_a_split_mask():
    """Expected 100 px. The same mask; a quarter of it, whole; a mask as large, half beside it."""
    scores = overlap_scores(np.array([[100.0, 25.0, 50.0]]), np.array([100.0]), np.array([100.0, 25.0, 100.0]))
    np.testing.assert_allclose(scores, [[1.0, 0.5, 1 / 3]])


def test_distances_are_in_both_sigmas_and_unknown_where_a_position_is():
    positions = np.array([[0.0, 0.0, 4.0], [np.nan, np.nan, np.nan]])
    found = position_distances(positions, np.stack([np.eye(3) * 0.09] * 2), np.array([[0.0, 0.5, 4.0]]), np.eye(3)[None] * 0.16)
    assert found[0, 0] == pytest.approx(1.0) and np.isnan(found[1, 0])


def test_within_the_gate_a_strangers_size_is_implausible_unless_the_masks_overlap():
    assert pairs(1.0, overlap=0.0) == [(0, 0)]
    assert pairs(1.0, overlap=0.0, size_ratio=10.0) == [] and pairs(1.0, overlap=0.0, size_ratio=0.1) == []
    assert pairs(1.0, overlap=0.3, size_ratio=10.0) == [(0, 0)]


def test_what_comes_out_from_behind_something_may_be_small_but_not_larger():
    assert pairs(1.0, overlap=0.0, size_ratio=0.1, seen=False) == [(0, 0)]
    assert pairs(1.0, overlap=0.0, size_ratio=10.0, seen=False) == []


def test_beyond_the_gate_a_covered_mask_decides_and_nothing_does_far_beyond():
    assert pairs(2 * GATE, overlap=0.4) == []
    assert pairs(2 * GATE, overlap=0.6) == [(0, 0)]
    assert pairs(4 * GATE, overlap=1.0) == [] and pairs(np.inf, overlap=1.0) == []


def test_without_a_position_the_overlap_decides():
    assert pairs(np.nan, overlap=0.3) == [(0, 0)]
    assert pairs(np.nan, overlap=0.1) == []


def test_a_seen_object_wins_over_an_unseen_one_on_equal_terms():
    """The unseen one's wide prediction explains the place a little better."""
    assert pairs([[0.05 * GATE], [0.15 * GATE]], overlap=0.5, seen=np.array([False, True])) == [(1, 0)]


def test_on_equal_terms_the_class_decides():
    assert pairs([[1.0, 1.0]], overlap=0.5, same_class=np.array([[False, True]])) == [(0, 1)]
