"""Where a stream breaks, and at what rate frames pass."""

import dataclasses
import re

import numpy as np
import pytest

from semantic_stereo_ros.stream import Continuity, RateLimit
from semantic_stereo_ros.types import StereoFrame, StereoRig

RIG = StereoRig((8, 6), 10.0, 10.0, 4.0, 3.0, 0.1)
IMAGE = np.zeros((6, 8), np.uint8)


def frame(stamp_s: float, rig: StereoRig = RIG) -> StereoFrame:
    return StereoFrame(IMAGE, IMAGE, rig, stamp_ns=round(stamp_s * 1e9))


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (frame(10.0), ""),  # stamps unknown: no time passed
        (frame(12.0), ""),
        (frame(12.001), r"the stamp moved by \+2\.001 s"),
        (frame(9.999), r"the stamp moved by -0\.001 s"),
        (frame(10.1, dataclasses.replace(RIG, baseline_m=0.2)), "the calibration changed from .*baseline_m=0.1.* to .*baseline_m=0.2"),
    ],
    ids=["same stamp", "longest gap", "longer", "back", "other rig"],
)
def test_what_breaks_a_stream(then, words):
    continuity = Continuity()
    assert continuity.advance(frame(10.0), 2.0) == ""  # the first frame breaks nothing
    reason = continuity.break_before(then, 2.0)
    assert re.search(words, reason) if words else reason == ""
    assert continuity.break_before(then, 2.0) == reason  # asking changes nothing
    assert continuity.advance(then, 2.0) == reason
    assert continuity.advance(then, 2.0) == ""  # the new stream goes on


def test_a_forgotten_stream_cannot_break():
    continuity = Continuity()
    continuity.advance(frame(10.0), 2.0)
    continuity.forget()
    assert continuity.advance(frame(1.0), 2.0) == ""


def test_frames_pass_at_their_rate_by_the_stamps():
    """30 Hz with jitter, 10 Hz wanted: every third, whatever the jitter; a jump back begins anew; 0 is no limit."""
    limit, generator = RateLimit(), np.random.default_rng(3)
    stamps_ns = [round(i * 1e9 / 30 + generator.uniform(-3e6, 3e6)) for i in range(301)]
    passed = [limit.lets_pass(stamp_ns, 10.0) for stamp_ns in stamps_ns]
    assert 98 <= sum(passed) <= 101
    assert limit.lets_pass(stamps_ns[-1] - 10**10, 10.0)
    assert all(limit.lets_pass(stamp_ns, 0.0) for stamp_ns in stamps_ns)


def test_a_pause_is_not_made_up_for():
    """After 10 s without frames the next ones pass at the rate again, not in a burst."""
    limit = RateLimit()
    assert limit.lets_pass(0, 10.0)
    passed = [limit.lets_pass(10**10 + round(i * 1e9 / 30), 10.0) for i in range(31)]
    assert 10 <= sum(passed) <= 11
