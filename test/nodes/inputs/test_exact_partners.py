"""A stream that delivers exact pairs is not paired crosswise when an image is lost, however wide the tolerance."""

from __future__ import annotations

from semantic_stereo_ros.nodes.inputs.synchroniser import EXACT_CREDIT, PairSynchroniser

MS = 1_000_000


def pairs(*events: tuple[str, int], sync: PairSynchroniser | None = None) -> list[tuple[int, int]]:
    """(side, ms) in order of arrival -> (left ms, right ms)."""
    sync = sync or PairSynchroniser(40 * MS)
    found = (sync.add(side, ms * MS, ms) for side, ms in events)
    return [(pair.left, pair.right) for pair in found if pair is not None]


def test_a_lost_left_image_leaves_its_partner_alone():
    lost = ("right", 33), ("left", 66), ("right", 66), ("left", 99), ("right", 99)
    assert pairs(("left", 0), ("right", 0), *lost) == [(0, 0), (66, 66), (99, 99)]


def test_a_stream_without_exact_pairs_is_paired_at_once():
    assert pairs(("left", 0), ("right", 12), ("left", 100), ("right", 112)) == [(0, 12), (100, 112)]


def test_an_approximate_pair_is_made_once_no_exact_partner_can_come():
    """The drivers lose their common trigger: each pair then waits until both sides have gone on, for as many pairs as the credit."""
    sync = PairSynchroniser(40 * MS)
    assert pairs(("left", 0), ("right", 0), sync=sync) == [(0, 0)]
    assert pairs(("left", 100), ("right", 112), ("left", 200), ("right", 212), sync=sync) == [(100, 112)]
    later = [(side, ms + skew) for ms in range(300, 300 + 100 * EXACT_CREDIT, 100) for side, skew in (("left", 0), ("right", 12))]
    found = pairs(*later, ("left", 2000), ("right", 2012), sync=sync)
    assert found[-1] == (2000, 2012), "by then a pair is made at once"
