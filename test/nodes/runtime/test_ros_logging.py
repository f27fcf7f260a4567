"""The core's records on their way to a ROS log: a kind that comes with every frame does not fill it."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no loggers to pass records to")

from semantic_stereo_ros.nodes.runtime import ros_logging
from semantic_stereo_ros.nodes.runtime.ros_logging import KindThrottle, RosHandler


@pytest.fixture
def clock(monkeypatch):
    """clock.now_s is what time.monotonic says."""
    found = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(ros_logging, "time", SimpleNamespace(monotonic=lambda: found.now_s))
    return found


class Log:
    """A node whose logger keeps what it gets."""

    def __init__(self):
        self.texts = []

    def get_logger(self):
        return self

    def error(self, text):
        self.texts.append(text)

    warning = info = debug = error


def record(level, template, *values):
    return logging.LogRecord("core", level, __file__, 1, template, values, None)


def test_a_kind_is_throttled_whatever_is_filled_in(clock):
    log = Log()
    handler = RosHandler(cast(Any, log))
    for step in range(20):
        handler.emit(record(logging.INFO, "tracker reset: the stamp moved by %s s", f"{(-1) ** step * step:+.1e}"))
        handler.emit(record(logging.ERROR, "frame %d failed", step))
    assert [text for text in log.texts if "reset" in text] == [
        f"tracker reset: the stamp moved by {step} s" for step in ("+0.0e+00", "-1.0e+00", "+2.0e+00")
    ]
    assert len([text for text in log.texts if "failed" in text]) == 20, "errors always pass"
    handler.emit(record(logging.INFO, "tracker reset: %s", "another cause"))
    assert log.texts[-1] == "tracker reset: another cause"
    clock.now_s += 10.0
    handler.emit(record(logging.INFO, "tracker reset: the stamp moved by %d s", 99))
    assert log.texts[-1] == "tracker reset: the stamp moved by 99 s (17 more of this kind were withheld before)"


def test_what_comes_rarely_is_never_withheld(clock):
    throttle = KindThrottle(burst=1, period_s=10.0)
    found = []
    for _ in range(4):
        found.append(throttle("a kind"))
        clock.now_s += 10.0
    assert found == [0, 0, 0, 0]


def test_the_memory_of_kinds_is_bounded(clock):
    throttle = KindThrottle(burst=1, capacity=4)
    assert all(throttle(f"kind {number}") == 0 for number in range(100))
