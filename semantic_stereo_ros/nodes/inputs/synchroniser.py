"""Pairs left and right images by stamp: exact stamps first, then within a tolerance. Knows nothing of ROS types.

A camera pair triggered together carries equal stamps; two free-running drivers do not. While a stream delivers exact
pairs, an approximate one is made only when the exact partner can no longer come, so that one lost image does not
pair its neighbours crosswise. A stream that never delivered an exact pair is paired at once, without waiting.
A tolerance below half the camera period leaves no doubt which images belong together.

A side's stamp far behind its newest one means that the source started again (a bag that loops, a simulator that was reset): what
waits from before is dropped, and pairing goes on with the next image. A stamp only a few images behind is one that came late:
it is paired if its moment has not passed yet; when more than a few in a row come late, the source started again, too.
Stamps of the pairs only grow, except where `jumps` was counted.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    """Totals since the start. unpaired_*: images that left without a partner, `late` ones among them; jumps: times the stamps went back;
    late: images that came after a newer pair."""

    left: int = 0
    right: int = 0
    pairs: int = 0
    exact: int = 0
    unpaired_left: int = 0
    unpaired_right: int = 0
    jumps: int = 0
    late: int = 0
    largest_skew_ns: int = 0


class PairSynchroniser:
    """Bounded two-way synchroniser. Not thread-safe: call it from one executor."""

    def __init__(self, tolerance_ns: int = 10_000_000, capacity: int = 8) -> None:
        if tolerance_ns < 0 or capacity < 1:
            raise ValueError(f"tolerance_ns must be 0 or more and capacity 1 or more, got {tolerance_ns} and {capacity}")
        self.tolerance_ns = tolerance_ns
        self.capacity = capacity
        self.counts = SynchroniserCounts()
        self._waiting: dict[str, OrderedDict[int, Any]] = {side: OrderedDict() for side in SIDES}
        self._recent: dict[str, deque[int]] = {side: deque(maxlen=capacity) for side in SIDES}
        self._late_in_a_row: dict[str, int] = dict.fromkeys(SIDES, 0)
        self._newest_pair: dict[str, int] | None = None
        self._ahead: str | None = None
        self._exact_credit = 0

    def add(self, side: str, stamp_ns: int, item: Any) -> Pair | None:
        """Take one image of `side` ('left' or 'right'); return the pair it completes, if any. A repeated stamp replaces what waits."""
        setattr(self.counts, side, getattr(self.counts, side) + 1)
        recent = self._recent[side]
        late = self._newest_pair is not None and stamp_ns <= self._newest_pair[side]
        self._late_in_a_row[side] = self._late_in_a_row[side] + 1 if late else 0
        if (recent and stamp_ns < min(recent)) or self._late_in_a_row[side] > self.capacity:
            self._start_again(side)
        elif late:
            self.counts.late += 1
            self._count_unpaired(side, 1)
            return None
        recent.append(stamp_ns)
        own, other_side = self._waiting[side], SIDES[side == "left"]
        if stamp_ns in own:
            self._count_unpaired(side, 1)
        own[stamp_ns] = item
        if stamp_ns in self._waiting[other_side]:
            self._exact_credit = EXACT_CREDIT
            return self._take(stamp_ns, stamp_ns)
        pair = self._approximate()
        while len(own) > self.capacity:
            del own[min(own)]
            self._count_unpaired(side, 1)
        return pair

    def _approximate(self) -> Pair | None:
        """The newest pair within the tolerance whose partner is settled."""
        for left in sorted(self._waiting["left"], reverse=True):
            nearest = min(self._waiting["right"], key=lambda right: abs(right - left), default=None)
            if nearest is None or abs(nearest - left) > self.tolerance_ns:
                continue
            if not self._exact_credit or self._exact_is_past(left, nearest):
                self._exact_credit = max(0, self._exact_credit - 1)
                return self._take(left, nearest)
        return None

    def _exact_is_past(self, left: int, right: int) -> bool:
        """Neither image can get an exact partner any more: the other side's stream has moved beyond it."""
        return max(self._recent["right"]) > left and max(self._recent["left"]) > right

    def _take(self, left_ns: int, right_ns: int) -> Pair:
        """Remove the pair and everything older than it."""
        left, right = self._waiting["left"].pop(left_ns), self._waiting["right"].pop(right_ns)
        for side, stamp_ns in (("left", left_ns), ("right", right_ns)):
            stale = [s for s in self._waiting[side] if s < stamp_ns]
            for s in stale:
                del self._waiting[side][s]
            self._count_unpaired(side, len(stale))
        self._newest_pair, self._ahead = {"left": left_ns, "right": right_ns}, None
        skew_ns = right_ns - left_ns
        self.counts.pairs += 1
        self.counts.exact += skew_ns == 0
        self.counts.largest_skew_ns = max(self.counts.largest_skew_ns, abs(skew_ns))
        return Pair(left, right, left_ns, skew_ns)

    def _start_again(self, side: str) -> None:
        """`side` begins anew. Where the other side did so just before, what it brought since then stays: both began the same anew."""
        follows = self._ahead not in (None, side)
        for dropped in (side,) if follows else SIDES:
            self._count_unpaired(dropped, len(self._waiting[dropped]))
            self._waiting[dropped].clear()
        self._recent[side].clear()
        self._late_in_a_row[side] = 0
        if follows:
            self._ahead = None
            return
        self._ahead, self._newest_pair = side, None
        self.counts.jumps += 1

    def _count_unpaired(self, side: str, number: int) -> None:
        name = f"unpaired_{side}"
        setattr(self.counts, name, getattr(self.counts, name) + number)


class SkewTrend:
    """Do the two sides' stamps drift apart? Watches the skew of the pairs of the last `span_s` seconds of their own stamps."""

    def __init__(self, span_s: float = 30.0, least_pairs: int = 30) -> None:
        self._span_ns = round(span_s * 1e9)
        self._least = least_pairs
        self._pairs: deque[tuple[int, int]] = deque(maxlen=4096)

    def add(self, pair: Pair) -> None:
        if self._pairs and not 0 <= pair.stamp_ns - self._pairs[-1][0] < self._span_ns:
            self._pairs.clear()
        self._pairs.append((pair.stamp_ns, pair.skew_ns))
        while self._pairs[0][0] < pair.stamp_ns - self._span_ns:
            self._pairs.popleft()

    def drift(self) -> float | None:
        """Seconds of skew that are won per second: least squares; None before there are enough pairs over a third of the span."""
        if len(self._pairs) < self._least or 3 * (self._pairs[-1][0] - self._pairs[0][0]) < self._span_ns:
            return None
        time_s, skew_s = np.array(self._pairs, np.float64).T * 1e-9
        slope, offset = np.polyfit(time_s - time_s[0], skew_s, 1)
        scatter_s = np.std(skew_s - np.polyval((slope, offset), time_s - time_s[0]))
        certain = abs(slope) > 4 * scatter_s / (np.std(time_s) * len(time_s) ** 0.5)
        return float(slope) if certain else 0.0

    def sentence(self, tolerance_ns: int, horizon_s: float = 300.0) -> str:
        """What a drift that reaches the tolerance within `horizon_s` means, in words; '' when there is none."""
        drift = self.drift()
        if not drift:
            return ""
        skew_ns = self._pairs[-1][1]
        left_s = (tolerance_ns - skew_ns if drift > 0 else tolerance_ns + skew_ns) / (abs(drift) * 1e9)
        if left_s > horizon_s:
            return ""
        return (
            f"the stamps drift apart by {abs(drift) * 60e3:.2g} ms per minute and are {abs(skew_ns) / 1e6:.2g} ms apart now, so in "
            f"{max(left_s, 0):.0f} s none will pair any more: synchronise the two drivers' clocks"
        )
