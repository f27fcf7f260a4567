"""A graph under bad input: a camera that keeps sending, and what the graph answers and says meanwhile."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

SIZE_WH = (160, 120)
PERIOD_S = 0.1
LEFT, RIGHT, LEFT_INFO, RIGHT_INFO = range(4)


def scene_of(size_wh: tuple[int, int], seed: int = 5):
    """A synthetic scene of objects that can all be measured."""
    from semantic_stereo_ros.synthetic import default_rig, random_sequence

    return random_sequence(seed, 1, rig=default_rig(size_wh, baseline_m=0.3))[0]


class Patient:
    """One pipeline_node (or any graph that answers on `objects`) with a camera of 10 Hz that may misbehave."""

    def __init__(
        self, graph, camera, scene, *processes: subprocess.Popen, stamp_ns: Callable[[], int] = time.time_ns, namespace: str = ""
    ) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from semantic_stereo_ros.msg import ObjectDistanceArray

        objects = f"{namespace}/objects" if namespace else "objects"
        self.graph = graph
        self.camera = camera
        self.scene = scene
        self.processes = processes
        self.stamp_ns = stamp_ns
        self.objects: list[Any] = graph.subscribe(ObjectDistanceArray, objects)
        self.diagnostics: list[Any] = graph.subscribe(DiagnosticArray, "/diagnostics")
        camera.wait_for_subscribers()
        graph.until(lambda: graph.node.count_publishers(objects), "a publisher of objects")

    def send(self, stamp_ns: int | None = None, *, skip: tuple[int, ...] = (), change=None, scene=None) -> int:
        """One frame, stamped now unless told; returns its stamp. skip: which of the four messages are withheld."""
        stamp_ns = self.stamp_ns() if stamp_ns is None else stamp_ns
        frame = (scene or self.scene).frame
        self.camera.send(frame.left, frame.right, frame.rig, stamp_ns, change=change, skip=skip)
        return stamp_ns

    def play(self, condition: Callable[[], Any], what: str, send: Callable[[], Any] | None = None, period_s: float = PERIOD_S) -> Any:
        """Send a (good) frame every `period_s` until `condition()` is true; its value."""
        due_s = time.monotonic()

        def step():
            nonlocal due_s
            if time.monotonic() >= due_s:
                due_s = max(due_s + period_s, time.monotonic())
                (send or self.send)()
            return condition()

        return self.graph.until(step, what)

    def said(self, pattern: str, least_level: int = 1) -> Callable[[], Any]:
        """A condition: since this call a diagnostic of at least WARN holds the pattern. Its value is the status."""
        self.diagnostics.clear()
        wanted = re.compile(pattern, re.IGNORECASE)

        def found():
            statuses = (status for message in self.diagnostics for status in message.status)
            return next((s for s in statuses if s.level[0] >= least_level and wanted.search(s.message)), None)

        return found

    def answered(self, since_ns: int) -> Callable[[], Any]:
        """A condition: an answer that could be measured, to a frame not older than `since_ns`. Its value is the message."""
        from semantic_stereo_ros.msg import ObjectDistanceArray

        from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns

        return lambda: next(
            (m for m in self.objects if stamp_to_ns(m.header.stamp) >= since_ns and m.status == ObjectDistanceArray.OK), None
        )

    def number(self, key: str) -> float:
        """A value of the newest diagnostics that have it."""
        values = {v.key: v.value for message in self.diagnostics for status in message.status for v in status.values}
        return float(values[key])

    def assert_alive(self) -> None:
        assert [process.poll() for process in self.processes] == [None] * len(self.processes), "a node died"
