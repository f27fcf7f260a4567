"""What happened in the last seconds: values by time, and growing totals as what they grew by. Thread-safe."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

SPAN_S = 5.0


class Window:
    """The values of the last `span_s` seconds, at most `capacity` of them."""

    def __init__(self, span_s: float = SPAN_S, capacity: int = 2000) -> None:
        self._span_s = span_s
        self._values: deque[tuple[float, float]] = deque(maxlen=capacity)
        self._lock = threading.Lock()

    def add(self, now_s: float, value: float = 0.0) -> None:
        with self._lock:
            self._forget(now_s)
            self._values.append((now_s, value))

    def values(self, now_s: float) -> np.ndarray:
        """(N,) float64, oldest first."""
        with self._lock:
            self._forget(now_s)
            return np.array([value for _, value in self._values], np.float64)

    def _forget(self, now_s: float) -> None:
        """Whether or not anybody asks for the values: what nobody reads must not grow for minutes."""
        while self._values and self._values[0][0] < now_s - self._span_s:
            self._values.popleft()

    def count(self, now_s: float) -> int:
        return len(self.values(now_s))

    def rate(self, now_s: float) -> float:
        """Events per second over the window."""
        return self.count(now_s) / self._span_s

    def percentiles(self, now_s: float) -> tuple[float, float] | None:
        """(p50, p95) or None when nothing came."""
        values = self.values(now_s)
        if values.size == 0:
            return None
        low, high = np.percentile(values, (50, 95))
        return float(low), float(high)


class Total:
    """A counter that lives elsewhere and only grows: `update` tells its value, `recent` what the window saw of it."""

    def __init__(self, span_s: float = SPAN_S) -> None:
        self.value = 0
        self._growth = Window(span_s)

    def update(self, now_s: float, total: int) -> None:
        if total > self.value:
            self._growth.add(now_s, total - self.value)
        self.value = total

    def recent(self, now_s: float) -> int:
        return int(self._growth.values(now_s).sum())
