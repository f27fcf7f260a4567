"""Pairing by stamp, with literal stamps."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic_stereo_ros.nodes.synchroniser import EXACT_CREDIT, PairSynchroniser

MS = 1_000_000


def feed(sync, *events):
    """events: ('L' or 'R', milliseconds); returns the (left ms, right ms) of the pairs, in order."""
    pairs = []
    for side, ms in events:
        pair = sync.add("left" if side == "L" else "right", ms * MS, ms)
        if pair is not None:
            assert pair.stamp_ns == pair.left * MS and pair.skew_ns == (pair.right - pair.left) * MS
            pairs.append((pair.left, pair.right))
    return pairs


def test_equal_stamps_pair_whichever_side_comes_first():
    sync = PairSynchroniser(0)
    assert feed(sync, ("L", 0), ("R", 0), ("R", 100), ("L", 100)) == [(0, 0), (100, 100)]
    assert sync.counts.exact == sync.counts.pairs == 2 and sync.counts.unpaired_left == sync.counts.unpaired_right == 0


def test_late_side_pairs_after_several_frames():
    assert feed(PairSynchroniser(0), ("L", 0), ("L", 33), ("L", 66), ("R", 0), ("R", 33), ("R", 66)) == [(0, 0), (33, 33), (66, 66)]


def test_lost_image_leaves_its_partner_unpaired_and_counted():
    sync = PairSynchroniser(0)
    assert feed(sync, ("L", 0), ("R", 0), ("L", 33), ("L", 66), ("R", 66)) == [(0, 0), (66, 66)]
    assert (sync.counts.unpaired_left, sync.counts.unpaired_right) == (1, 0)


def test_without_tolerance_different_stamps_never_pair():
    assert feed(PairSynchroniser(0), ("L", 0), ("R", 1), ("L", 33), ("R", 34)) == []


def test_constant_skew_pairs_at_once():
    sync = PairSynchroniser(10 * MS)
    assert feed(sync, ("L", 0), ("R", 4), ("L", 33), ("R", 37)) == [(0, 4), (33, 37)]
    assert sync.counts.largest_skew_ns == 4 * MS and sync.counts.exact == 0


def test_skew_beyond_tolerance_is_refused():
    assert feed(PairSynchroniser(3 * MS), ("L", 0), ("R", 4), ("L", 33), ("R", 37)) == []


def test_exact_stream_does_not_pair_crosswise_over_a_lost_image():
    """R 33 is lost and L 40 is within the tolerance of R 36: the exact partners still win."""
    sync = PairSynchroniser(20 * MS)
    assert feed(sync, ("L", 0), ("R", 0), ("L", 16), ("L", 32), ("R", 32)) == [(0, 0), (32, 32)]


def test_exact_stream_that_becomes_skewed_is_paired_with_delay_then_at_once():
    sync = PairSynchroniser(10 * MS)
    feed(sync, ("L", 0), ("R", 0))
    events = [event for i in range(1, EXACT_CREDIT + 3) for event in (("L", 100 * i), ("R", 100 * i + 3))]
    pairs = feed(sync, *events)
    assert pairs == [(100 * i, 100 * i + 3) for i in range(1, EXACT_CREDIT + 3)]


def test_stamps_that_go_back_start_again():
    sync = PairSynchroniser(0)
    assert feed(sync, ("L", 1000), ("R", 1000), ("L", 1033), ("L", 0), ("R", 0)) == [(1000, 1000), (0, 0)]
    assert sync.counts.jumps >= 1 and sync.counts.unpaired_left == 1


def test_memory_is_bounded_when_one_camera_is_silent():
    sync = PairSynchroniser(5 * MS, capacity=4)
    feed(sync, *(("L", 33 * i) for i in range(100)))
    assert len(sync._waiting["left"]) == 4 and sync.counts.unpaired_left == 96


@given(st.integers(0, 2**32), st.floats(0.0, 0.4))
def test_exact_streams_with_losses_pair_all_common_stamps(seed, loss):
    """Both sides in order, interleaved at random within two frames: every stamp that both delivered is paired, none twice."""
    rng = random.Random(seed)
    left = [i for i in range(40) if rng.random() > loss]
    right = [i for i in range(40) if rng.random() > loss]
    events = sorted([(i + rng.uniform(0, 0.9), "L", i) for i in left] + [(i + rng.uniform(0, 0.9), "R", i) for i in right])
    sync = PairSynchroniser(0)
    pairs = feed(sync, *((side, 33 * i) for _, side, i in events))
    common = sorted(set(left) & set(right))
    assert pairs == [(33 * i, 33 * i) for i in common]


def test_refuses_impossible_settings():
    with pytest.raises(ValueError, match="capacity"):
        PairSynchroniser(0, 0)
