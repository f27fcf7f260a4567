"""Runs a function on the newest item in a thread of its own; what came meanwhile and is older is dropped and counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class LatestOnlyWorker(Generic[Item]):
    """One slot, one thread. `handle` runs on the thread; what it raises goes to `on_error` and the thread lives on."""

    def __init__(self, handle: Callable[[Item], None], on_error: Callable[[Exception], None], name: str = "worker") -> None:
        self._handle = handle
        self._on_error = on_error
        self._condition = threading.Condition()
        self._waiting: list[Item] = []
        self._busy_since_s: float | None = None
        self._stopping = False
        self.submitted = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Put `item` in the slot; one that still waits there is dropped. Never blocks on the work."""
        with self._condition:
            self.submitted += 1
            self.dropped += len(self._waiting)
            self._waiting = [item]
            self._condition.notify_all()

    def clear(self) -> None:
        """Drop what waits in the slot."""
        with self._condition:
            self.dropped += len(self._waiting)
            self._waiting = []

    @property
    def busy_since_s(self) -> float | None:
        """Since when (time.monotonic) it is at work on one item; None between two."""
        return self._busy_since_s

    def wait_idle(self, timeout_s: float) -> bool:
        """True when the slot is empty and nothing runs, within `timeout_s` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._waiting and self._busy_since_s is None, timeout_s)

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Finish the running item, discard the waiting one, end the thread. False if it did not end in time."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                item = self._waiting.pop()
                self._busy_since_s = time.monotonic()
            try:
                self._handle(item)
            except Exception as error:  # the thread serves the next frame whatever this one was
                self._on_error(error)
            finally:
                del item
                with self._condition:
                    self._busy_since_s = None
                    self._condition.notify_all()
