"""Rates, latencies and the reason why nothing comes out. Knows nothing of ROS types."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

OK, WARN, ERROR = 0, 1, 2
GRACE_S = 6.0


class Window:
    """The values of the last `span_s` seconds, at most `capacity` of them. Thread-safe."""

    def __init__(self, span_s: float = 5.0, capacity: int = 2000) -> None:
        self._span_s = span_s
        self._values: deque[tuple[float, float]] = deque(maxlen=capacity)
        self._lock = threading.Lock()

    def add(self, now_s: float, value: float = 0.0) -> None:
        with self._lock:
            self._values.append((now_s, value))

    def values(self, now_s: float) -> np.ndarray:
        with self._lock:
            while self._values and self._values[0][0] < now_s - self._span_s:
                self._values.popleft()
            return np.array([value for _, value in self._values])

    def rate(self, now_s: float) -> float:
        """Events per second over the window."""
        return len(self.values(now_s)) / self._span_s

    def percentiles(self, now_s: float) -> tuple[float, float] | None:
        """(p50, p95) or None when nothing came."""
        values = self.values(now_s)
        return None if values.size == 0 else (float(np.percentile(values, 50)), float(np.percentile(values, 95)))


@dataclass
class SideHealth:
    """One image input. received: rates; publishers: how many there are now; qos_mismatch: text, or '' when none."""

    topic: str
    received: Window = field(default_factory=Window)
    publishers: int = 0
    qos_mismatch: str = ""
    newest_stamp_ns: int | None = None


@dataclass
class Health:
    """What the node knows of itself. last_error: text of the newest refused frame, '' after a good one."""

    left: SideHealth
    right: SideHealth
    tolerance_ms: float = 0.0
    missing_infos: tuple[str, ...] = ()
    info_topics: dict[str, str] = field(default_factory=dict)
    wanted: bool = True
    started_s: float = float("-inf")
    last_error: str = ""
    scene_reason: str = ""
    pair_finding: str = ""
    pairs: Window = field(default_factory=Window)
    output: Window = field(default_factory=Window)
    age_s: Window = field(default_factory=Window)
    processing_s: Window = field(default_factory=Window)
    skew_s: Window = field(default_factory=Window)

    def verdict(self, now_s: float) -> tuple[int, str]:
        """(level, one sentence): the first thing on the way from camera to objects that is not as it should be.

        What is only missing is no fault yet in the first seconds.
        """
        level, text = self._judge(now_s)
        starting = level == WARN and now_s - self.started_s < GRACE_S and not self.output.rate(now_s)
        return (OK, f"starting: {text}") if starting else (level, text)

    def _judge(self, now_s: float) -> tuple[int, str]:
        silent = [side for side in (self.left, self.right) if not side.received.rate(now_s)]
        for side in silent:
            if side.qos_mismatch:
                return ERROR, f"{side.topic}: {side.qos_mismatch}"
        absent = [side.topic for side in silent if not side.publishers]
        if absent:
            return WARN, f"nobody publishes {' and '.join(absent)}"
        if silent:
            return WARN, f"no image has come on {' and '.join(side.topic for side in silent)} for 5 s though somebody publishes there"
        if self.missing_infos:
            topics = " and ".join(self.info_topics.get(side, side) for side in self.missing_infos)
            return WARN, f"no camera_info has come on {topics}"
        if not self.pairs.rate(now_s):
            return WARN, self._why_no_pairs()
        if self.last_error:
            return ERROR, self.last_error
        if not self.wanted:
            return OK, "idle: nobody subscribes to any output"
        if not self.output.rate(now_s):
            return WARN, "pairs come, but none has been finished for 5 s: the processing is slower than that"
        if self.pair_finding:
            return WARN, self.pair_finding
        if self.scene_reason:
            return WARN, self.scene_reason
        return OK, f"running at {self.output.rate(now_s):.1f} Hz"

    def _why_no_pairs(self) -> str:
        left, right = self.left.newest_stamp_ns, self.right.newest_stamp_ns
        apart = "" if left is None or right is None else f"; the newest stamps are {abs(left - right) / 1e6:.1f} ms apart"
        return (
            f"left and right images come, but no two stamps lie within input.sync_tolerance_ms = {self.tolerance_ms:g}{apart}: "
            "synchronise the cameras' clocks or raise the tolerance"
        )
