"""Pairing by stamp, with literal stamps."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic_stereo_ros.nodes.inputs.synchroniser import EXACT_CREDIT, Pair, PairSynchroniser, SkewTrend

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


def test_a_pair_that_comes_again_is_not_paired_again():
    sync = PairSynchroniser(0)
    assert feed(sync, ("L", 0), ("R", 0), ("L", 0), ("R", 0), ("R", 33), ("L", 33), ("R", 33), ("L", 33)) == [(0, 0), (33, 33)]
    assert sync.counts.pairs == 2 and sync.counts.late == 4 and sync.counts.unpaired_left == sync.counts.unpaired_right == 2


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


# Streams that are not in order


def test_a_bag_that_loops_loses_no_pair_of_its_second_pass():
    """Both sides jump at slightly different times, with an image of the first pass between: pairing goes on with the first stamp."""
    sync = PairSynchroniser(0)
    first = [event for i in range(20) for event in (("L", 1000 + 33 * i), ("R", 1000 + 33 * i))]
    second = [("L", 0), ("R", 1660), ("R", 0), ("L", 33), ("R", 33)]
    assert feed(sync, *first, *second)[20:] == [(0, 0), (33, 33)]
    assert sync.counts.jumps == 1


@pytest.mark.parametrize("leader", ["L", "R"])
def test_an_image_from_before_the_jump_never_meets_one_of_the_next_pass(leader):
    """The first pass ends with a lone image; the second pass comes to the same stamp, and its own partner is the right one."""
    sync = PairSynchroniser(0)
    other = "R" if leader == "L" else "L"
    feed(sync, *(event for i in range(10) for event in (("L", i), ("R", i))), (leader, 10))
    sync.add("left" if leader == "L" else "right", 11 * MS, "old")
    for i in range(12):
        for side in (leader, other):
            pair = sync.add("left" if side == "L" else "right", i * MS, f"new {side}{i}")
        assert pair is not None and str(pair.left).startswith("new") and str(pair.right).startswith("new")


def test_an_image_that_comes_late_is_paired_or_counted_and_nothing_starts_again():
    sync = PairSynchroniser(0)
    assert feed(sync, ("L", 0), ("R", 0), ("L", 66), ("L", 33), ("R", 33), ("R", 66)) == [(0, 0), (33, 33), (66, 66)]
    assert feed(sync, ("L", 100), ("R", 100), ("L", 83), ("R", 83)) == [(100, 100)]
    assert sync.counts.jumps == 0 and sync.counts.late == 2 and sync.counts.unpaired_left == sync.counts.unpaired_right == 1


def test_a_jump_to_between_stamps_that_came_before_starts_again():
    """1000 s, 2000 s, then on from 1500 s: late by the newest pair, yet not before everything remembered; soon it is a new start."""
    sync = PairSynchroniser(0)
    before = [event for ms in (1_000_000, 1_000_033, 2_000_000, 2_000_033) for event in (("L", ms), ("R", ms))]
    after = [event for i in range(30) for event in (("L", 1_500_000 + 33 * i), ("R", 1_500_000 + 33 * i))]
    pairs = feed(sync, *before, *after)
    assert len(pairs) >= 4 + 30 - sync.capacity and pairs[-1] == (1_500_000 + 33 * 29,) * 2 and sync.counts.jumps == 1


def test_one_stamp_from_the_far_future_does_not_stop_the_stream():
    sync = PairSynchroniser(0)
    before = [event for i in range(10) for event in (("L", 33 * i), ("R", 33 * i))]
    after = [event for i in range(10, 40) for event in (("L", 33 * i), ("R", 33 * i))]
    pairs = feed(sync, *before, ("L", 10**9), *after)
    assert pairs == [(33 * i, 33 * i) for i in range(40)]


STREAM = st.lists(st.tuples(st.sampled_from("LR"), st.one_of(st.integers(0, 60), st.integers(0, 10**6))), max_size=200)


@given(STREAM, st.integers(0, 20), st.integers(1, 8))
def test_whatever_comes_the_promises_hold(events, tolerance_ms, capacity):
    """Any stamps in any order: never beyond the tolerance, never the same image twice, bounded, counted, monotone but for jumps,
    and a clean stream after it is paired at once."""
    sync = PairSynchroniser(tolerance_ms * MS, capacity)
    used, newest, jumps = set(), None, 0
    for number, (side, ms) in enumerate(events):
        pair = sync.add("left" if side == "L" else "right", ms * MS, number)
        counts = sync.counts
        waiting = {name: len(sync._waiting[name]) for name in ("left", "right")}
        assert max(waiting.values()) <= capacity
        for name in waiting:
            assert getattr(counts, name) == counts.pairs + getattr(counts, f"unpaired_{name}") + waiting[name]
        if pair is None:
            continue
        assert abs(pair.skew_ns) <= tolerance_ms * MS
        assert events[pair.left][0] == "L" and events[pair.right][0] == "R" and not used & {pair.left, pair.right}
        assert events[pair.left][1] * MS == pair.stamp_ns and events[pair.right][1] * MS == pair.stamp_ns + pair.skew_ns
        used |= {pair.left, pair.right}
        assert newest is None or pair.stamp_ns > newest or counts.jumps > jumps
        newest, jumps = pair.stamp_ns, counts.jumps
    clean_ns = [(2 * 10**6 + 100 * i) * MS for i in range(3)]
    found = [sync.add(side, stamp_ns, None) for stamp_ns in clean_ns for side in ("left", "right")]  # the first may complete an older pair
    assert [(pair.stamp_ns, pair.skew_ns) for pair in found if pair is not None and pair.stamp_ns >= clean_ns[0]] == [
        (s, 0) for s in clean_ns
    ]


@given(st.integers(0, 2**32), st.integers(-13, 13), st.integers(0, 3))
def test_free_running_cameras_that_lose_a_third_of_their_images_are_never_paired_crosswise(seed, skew_ms, jitter_ms):
    """Period 33 ms, tolerance 16 ms, every image lost with 30 %: whatever is paired was taken together."""
    rng = random.Random(seed)
    sides = {"L": 0, "R": skew_ms}
    events = []
    for side, offset in sides.items():
        for i in range(60):
            stamp = 1000 + 33 * i + offset + rng.randint(-jitter_ms, jitter_ms) // 2
            if rng.random() > 0.3:
                events.append((33 * i + offset + rng.uniform(0, 20), side, stamp, i))
    sync = PairSynchroniser(16 * MS)
    pairs = []
    for _, side, stamp, i in sorted(events):
        pair = sync.add("left" if side == "L" else "right", stamp * MS, i)
        pairs += [] if pair is None else [(pair.left, pair.right)]
    assert all(left == right for left, right in pairs) and len(set(pairs)) == len(pairs)


# Drift


def trend_of(skews_ms, period_ms=100):
    trend = SkewTrend()
    for i, skew_ms in enumerate(skews_ms):
        trend.add(Pair(None, None, period_ms * i * MS, round(skew_ms * MS)))
    return trend


def test_a_growing_skew_is_told_in_words_before_it_reaches_the_tolerance():
    rng = random.Random(0)
    trend = trend_of([0.005 * i + rng.gauss(0, 0.3) for i in range(300)])  # 0.005 ms each 100 ms: 3 ms per minute
    assert trend.drift() == pytest.approx(5e-5, rel=0.1)
    sentence = trend.sentence(10 * MS)
    assert "drift apart by 3" in sentence and "ms per minute" in sentence


@pytest.mark.parametrize("slope_ms", [0.0, 1e-5])
def test_a_steady_skew_is_no_drift(slope_ms):
    rng = random.Random(1)
    trend = trend_of([4.0 + slope_ms * i + rng.gauss(0, 1.0) for i in range(300)])
    assert trend.sentence(10 * MS) == ""


def test_a_skew_that_shrinks_is_no_fault_yet():
    assert trend_of([-8.0 + 0.005 * i for i in range(300)]).sentence(60 * MS) == ""


def test_drift_is_judged_anew_after_a_jump():
    trend = trend_of([0.005 * i for i in range(300)])
    trend.add(Pair(None, None, 0, 0))
    assert trend.drift() is None
