"""Joins what several nodes say of one frame, by its exact stamp. Knows nothing of ROS types.

Each part of a frame (disparity, masks, ...) is a stream of its own with stamps that go up. What has come waits in a ring, so that a mask
which comes a second after its disparity still finds it. Results go up in stamp, too: what is older than the newest one is let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Joined:
    """One frame whose required parts have all come. items: by part; a wanted extra that could not come is missing."""

    stamp_ns: int
    items: Mapping[str, Any]


@dataclass
class JoinCounts:
    """Totals since the start.

    missing: by part, frames given up for a newer result because this required part had not come. too_late: by part, items that came when
    their frame had left the ring or a newer result was out. evicted: frames that left the ring incomplete. superseded: complete frames
    given up for a newer one. jumps: times that the stamps went back.
    """

    joined: int = 0
    superseded: int = 0
    evicted: int = 0
    jumps: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    too_late: dict[str, int] = field(default_factory=dict)


class StampJoin:
    """The ring. Not thread-safe: call it from one callback group.

    required: a frame is joined when all of these have come. An extra (`want`) is waited for while its stream can still deliver it, and
    no longer than until the next frame is complete. seconds (of stamps) and megabytes bound what waits; the newest frame always stays.
    """

    def __init__(self, required: Iterable[str], seconds: float, megabytes: float) -> None:
        self.require(required)
        self.seconds = seconds
        self.megabytes = megabytes
        self.counts = JoinCounts()
        self.last_miss = ""
        self._extras: frozenset[str] = frozenset()
        self._frames: dict[int, dict[str, tuple[Any, int]]] = {}
        self._newest: dict[str, int] = {}
        self._bytes = 0
        self._evicted_ns: int | None = None
        self._joined_ns: int | None = None

    def require(self, required: Iterable[str]) -> None:
        """Other parts without which a frame is not joined."""
        self.required = tuple(sorted(required))

    def want(self, extras: Iterable[str]) -> None:
        """Which parts beyond the required ones the next frames should have."""
        wanted = frozenset(extras) - frozenset(self.required)
        for part in self._extras - wanted:
            self._newest.pop(part, None)
        self._extras = wanted

    def clear(self) -> None:
        """Forget everything that waits and the order of what was joined; the counts stay."""
        self._frames.clear()
        self._newest.clear()
        self._bytes, self._evicted_ns, self._joined_ns = 0, None, None

    @property
    def waiting(self) -> tuple[int, float]:
        """Number of frames in the ring, and their size in MB."""
        return len(self._frames), self._bytes / 1e6

    def add(self, part: str, stamp_ns: int, item: Any, size_bytes: int) -> Joined | None:
        """Take one item; the newest frame that is complete now, if any.

        A stamp older than the newest of its part means that the source started again (a bag looped): frames of later stamps are dropped.
        """
        if stamp_ns < self._newest.get(part, stamp_ns):
            self._start_again(stamp_ns)
        self._newest[part] = stamp_ns
        if self._is_too_late(part, stamp_ns):
            return None
        frame = self._frames.setdefault(stamp_ns, {})
        self._bytes += size_bytes - frame.get(part, (None, 0))[1]
        frame[part] = (item, size_bytes)
        joined = self._join()
        self._evict()
        return joined

    def _is_too_late(self, part: str, stamp_ns: int) -> bool:
        if self._joined_ns is not None and stamp_ns <= self._joined_ns:
            why = f"came after the result of the stamp {_seconds(self._joined_ns)}, and results go up in stamp"
        elif self._evicted_ns is not None and stamp_ns <= self._evicted_ns:
            behind_s = (max(self._newest.values()) - stamp_ns) / 1e9
            why = (
                f"came when the rest of its frame had already left the ring, {behind_s:.2f} s behind the newest stamp: raise join.seconds "
                f"({self.seconds:g}) or join.megabytes ({self.megabytes:g})"
            )
        else:
            return False
        self.counts.too_late[part] = self.counts.too_late.get(part, 0) + 1
        self.last_miss = f"{part} of the stamp {_seconds(stamp_ns)} {why}"
        return True

    def _join(self) -> Joined | None:
        complete = sorted(stamp for stamp, frame in self._frames.items() if all(part in frame for part in self.required))
        for stamp_ns in reversed(complete):
            if stamp_ns != complete[-1] or not self._still_to_come(stamp_ns):
                return self._take(stamp_ns)
        return None

    def _still_to_come(self, stamp_ns: int) -> bool:
        """A wanted extra is on its way: its stream runs and has not passed this stamp."""
        absent = self._extras - self._frames[stamp_ns].keys()
        return any(part in self._newest and self._newest[part] < stamp_ns for part in absent)

    def _take(self, stamp_ns: int) -> Joined:
        """Remove the frame and everything older."""
        items = {part: item for part, (item, _) in self._frames[stamp_ns].items()}
        for older in sorted(stamp for stamp in self._frames if stamp < stamp_ns):
            self._give_up(older)
        self._remove(stamp_ns)
        self._joined_ns = stamp_ns
        self.counts.joined += 1
        return Joined(stamp_ns, items)

    def _give_up(self, stamp_ns: int) -> None:
        """A newer result is on its way out; say which parts this frame lacked."""
        missing = [part for part in self.required if part not in self._frames[stamp_ns]]
        self._remove(stamp_ns)
        for part in missing:
            self.counts.missing[part] = self.counts.missing.get(part, 0) + 1
        if missing:
            self.last_miss = f"no {' and no '.join(missing)} with the stamp {_seconds(stamp_ns)} came before those of a newer frame"
        else:
            self.counts.superseded += 1

    def _evict(self) -> None:
        while len(self._frames) > 1:
            oldest, newest = min(self._frames), max(self._frames)
            if newest - oldest <= self.seconds * 1e9 and self._bytes <= self.megabytes * 1e6:
                return
            missing = [part for part in (*self.required, *sorted(self._extras)) if part not in self._frames[oldest]]
            self._remove(oldest)
            self._evicted_ns = oldest
            self.counts.evicted += 1
            self.last_miss = f"no {' and no '.join(missing)} with the stamp {_seconds(oldest)} came before its frame left the ring"

    def _remove(self, stamp_ns: int) -> None:
        self._bytes -= sum(size for _, size in self._frames.pop(stamp_ns).values())

    def _start_again(self, stamp_ns: int) -> None:
        self.counts.jumps += 1
        for later in [stamp for stamp in self._frames if stamp > stamp_ns]:
            self._remove(later)
        self._newest.clear()
        self._evicted_ns = self._joined_ns = None


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns / 1e9:.6f} s"
