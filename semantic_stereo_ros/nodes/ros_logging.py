"""The core logs with Python's logging; here that goes to the node's ROS logger, so that the core never sees ROS."""

from __future__ import annotations

import logging
import time

from rclpy.node import Node


class RosHandler(logging.Handler):
    """Passes records on. Each severity has its own call site: rclpy ties a call site to one severity."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
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
    """Lets a text through once per `period_s` seconds; another text is let through at once. Bounded."""

    def __init__(self, period_s: float = 5.0, capacity: int = 64) -> None:
        self._period_s = period_s
        self._capacity = capacity
        self._last: dict[str, float] = {}

    def __call__(self, text: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(text, -self._period_s) < self._period_s:
            return False
        if len(self._last) >= self._capacity:
            self._last.clear()
        self._last[text] = now
        return True
