"""Many small operations on a CPU: whole sequences of them side by side, rather than each one split over the threads.

Splitting makes all threads meet after each operation. Where they are short, or where other programs take a core for a moment, the
threads then wait for each other most of the time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_making = threading.Lock()


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """function(item) of each item, without gradients, on as many threads as torch may use here; each of their operations on one.

    What they write must not overlap. The first error is raised when all have ended.
    """
    count = torch.get_num_threads()
    if count == 1 or len(items) == 1:
        return [function(item) for item in items]
    done = [_threads(count).submit(_without_gradients, function, item) for item in items]
    wait(done)
    return [one.result() for one in done]


def _without_gradients(function: Callable[[Item], Result], item: Item) -> Result:
    with torch.inference_mode():  # a thread has modes of its own
        return function(item)


def _use_one_thread() -> None:
    torch.get_num_threads()  # a thread takes over what was set for all when it first needs the number: that is done then
    torch.set_num_threads(1)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    with _making:
        pool = ThreadPoolExecutor(count, "torch", _use_one_thread)
        ready = threading.Barrier(count + 1)
        for _ in range(count):
            pool.submit(ready.wait)
        ready.wait()
        torch.set_num_threads(count)  # threads to come take over what was set last
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # the threads do not live on there
