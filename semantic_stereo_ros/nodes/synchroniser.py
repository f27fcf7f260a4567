"""Pairs left and right images by stamp: exact stamps first, then within a tolerance. Knows nothing of ROS types.

A camera pair triggered together carries equal stamps; two free-running drivers do not. While a stream delivers exact
pairs, an approximate one is made only when the exact partner can no longer come, so that one lost image does not
pair its neighbours crosswise. A stream that never delivered an exact pair is paired at once, without waiting.
A tolerance below half the camera period leaves no doubt which images belong together.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

SIDES = ("left", "right")
EXACT_CREDIT = 5  # approximate pairs in a row after which a stream no longer counts as an exact one


@dataclass(frozen=True)
class Pair:
    """Two items of one moment. stamp_ns: the left one's stamp; skew_ns: right stamp - left stamp."""

    left: Any
    right: Any
    stamp_ns: int
    skew_ns: int


@dataclass
class SynchroniserCounts:
    """Totals since the start. unpaired_*: images that left without a partner; jumps: times the stamps went back."""

    left: int = 0
    right: int = 0
    pairs: int = 0
    exact: int = 0
    unpaired_left: int = 0
    unpaired_right: int = 0
    jumps: int = 0
    largest_skew_ns: int = 0


class PairSynchroniser:
    """Bounded two-way synchroniser of in-order streams. Not thread-safe: call it from one executor."""

    def __init__(self, tolerance_ns: int = 10_000_000, capacity: int = 8) -> None:
        if tolerance_ns < 0 or capacity < 1:
            raise ValueError(f"tolerance_ns must be 0 or more and capacity 1 or more, got {tolerance_ns} and {capacity}")
        self.tolerance_ns = tolerance_ns
        self.capacity = capacity
        self.counts = SynchroniserCounts()
        self._waiting: dict[str, OrderedDict[int, Any]] = {side: OrderedDict() for side in SIDES}
        self._newest: dict[str, int | None] = dict.fromkeys(SIDES)
        self._exact_credit = 0

    def add(self, side: str, stamp_ns: int, item: Any) -> Pair | None:
        """Take one image of `side` ('left' or 'right'); return the pair it completes, if any.

        A stamp older than the newest of its side means that the source started again (a bag looped): everything that
        waits is dropped and `counts.jumps` grows. A repeated stamp replaces the image that waits.
        """
        newest = self._newest[side]
        if newest is not None and stamp_ns < newest:
            self._start_again()
        setattr(self.counts, side, getattr(self.counts, side) + 1)
        self._newest[side] = stamp_ns
        own, other_side = self._waiting[side], SIDES[side == "left"]
        if stamp_ns in own:
            self._count_unpaired(side, 1)
        own[stamp_ns] = item
        if stamp_ns in self._waiting[other_side]:
            self._exact_credit = EXACT_CREDIT
            return self._take(stamp_ns, stamp_ns)
        pair = self._approximate()
        while len(own) > self.capacity:
            own.popitem(last=False)
            self._count_unpaired(side, 1)
        return pair

    def _approximate(self) -> Pair | None:
        """The newest pair within the tolerance whose partner is settled."""
        for left in reversed(self._waiting["left"]):
            nearest = min(self._waiting["right"], key=lambda right: abs(right - left), default=None)
            if nearest is None or abs(nearest - left) > self.tolerance_ns:
                continue
            if not self._exact_credit or self._exact_is_past(left, nearest):
                self._exact_credit = max(0, self._exact_credit - 1)
                return self._take(left, nearest)
        return None

    def _exact_is_past(self, left: int, right: int) -> bool:
        """Neither image can get an exact partner any more: the other side's stream has moved beyond it."""
        newest_left, newest_right = self._newest["left"], self._newest["right"]
        assert newest_left is not None and newest_right is not None
        return newest_right > left and newest_left > right

    def _take(self, left_ns: int, right_ns: int) -> Pair:
        """Remove the pair and everything older than it."""
        left, right = self._waiting["left"].pop(left_ns), self._waiting["right"].pop(right_ns)
        for side, stamp_ns in (("left", left_ns), ("right", right_ns)):
            stale = [s for s in self._waiting[side] if s < stamp_ns]
            for s in stale:
                del self._waiting[side][s]
            self._count_unpaired(side, len(stale))
        skew_ns = right_ns - left_ns
        self.counts.pairs += 1
        self.counts.exact += skew_ns == 0
        self.counts.largest_skew_ns = max(self.counts.largest_skew_ns, abs(skew_ns))
        return Pair(left, right, left_ns, skew_ns)

    def _start_again(self) -> None:
        self.counts.jumps += 1
        for side in SIDES:
            self._count_unpaired(side, len(self._waiting[side]))
            self._waiting[side].clear()
            self._newest[side] = None

    def _count_unpaired(self, side: str, number: int) -> None:
        name = f"unpaired_{side}"
        setattr(self.counts, name, getattr(self.counts, name) + number)
