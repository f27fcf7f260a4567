"""The core logs with Python's logging; here that goes to the node's ROS logger, so that the core never sees ROS."""

from __future__ import annotations

import logging
import math
import re
import time

from rclpy.node import Node

_NUMBERS = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


class RosHandler(logging.Handler):
    """Passes records on, of one kind no more than `burst` in 10 s. A kind is one text, whatever numbers are in it: a stream that breaks
    at every frame would fill the log. Errors always pass.

    Each severity has its own call site: rclpy ties a call site to one severity.
    """

    def __init__(self, node: Node, burst: int = 3) -> None:
        super().__init__()
        self._logger = node.get_logger()
        self._kinds = KindThrottle(burst)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        withheld = 0 if record.levelno >= logging.ERROR else self._kinds(_NUMBERS.sub("#", text))
        if withheld is None:
            return
        text += f" ({withheld} more of this kind were withheld before)" if withheld else ""
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def bridge_logging(node: Node) -> RosHandler:
    """Send the package's records from INFO on to the node's logger; returns the handler for `unbridge_logging`."""
    handler = RosHandler(node)
    logger = logging.getLogger("semantic_stereo_ros")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return handler


def unbridge_logging(handler: RosHandler) -> None:
    """To be called before the node is destroyed."""
    logger = logging.getLogger("semantic_stereo_ros")
    logger.removeHandler(handler)
    logger.propagate = True


class Throttle:
    """Lets a text through once per `period_s` seconds, whatever numbers are in it; another text is let through at once. Bounded."""

    def __init__(self, period_s: float = 5.0, capacity: int = 64) -> None:
        self._period_s = period_s
        self._capacity = capacity
        self._last: dict[str, float] = {}

    def __call__(self, text: str) -> bool:
        now, kind = time.monotonic(), _NUMBERS.sub("#", text)
        if now - self._last.get(kind, -math.inf) < self._period_s:
            return False
        if len(self._last) >= self._capacity:
            self._last.clear()
        self._last[kind] = now
        return True


class KindThrottle:
    """Lets at most `burst` texts of a kind through in each `period_s` seconds, and counts the others. Bounded."""

    def __init__(self, burst: int, period_s: float = 10.0, capacity: int = 64) -> None:
        self._burst = burst
        self._period_s = period_s
        self._capacity = capacity
        self._seen: dict[str, tuple[float, int]] = {}

    def __call__(self, kind: str) -> int | None:
        """None: withhold it. Else how many of this kind have been withheld since the last one that was not."""
        now_s = time.monotonic()
        start_s, count = self._seen.get(kind, (now_s, 0))
        withheld = max(0, count - self._burst)
        if now_s - start_s >= self._period_s:
            start_s, count = now_s, 0
        elif count >= self._burst:
            self._seen[kind] = (start_s, count + 1)
            return None
        if kind not in self._seen and len(self._seen) >= self._capacity:
            self._seen.clear()
        self._seen[kind] = (start_s, count + 1)
        return withheld
