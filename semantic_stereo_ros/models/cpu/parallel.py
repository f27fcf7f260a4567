"""Many small operations on a CPU: whole sequences of them side by side, rather than each one split over the threads.

Splitting makes all threads meet after each operation. Where they are short, or where other programs take a core for a moment, the
threads then wait for each other most of the time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_pools: dict[int, ThreadPoolExecutor] = {}
_making = threading.Lock()
_OMP_PAUSE_SOFT = 1  # omp.h


def each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """function(item) of each item, without gradients, on as many threads as torch may use here; each of their operations on one.

    What they write must not overlap. The first error is raised when all have ended.
    """
    count = torch.get_num_threads()
    if count == 1 or len(items) == 1:
        return [function(item) for item in items]
    end_idle = _openmp_pause()
    if end_idle is not None:
        end_idle(_OMP_PAUSE_SOFT)
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad  # a thread begins with neither
    done = [_threads(count).submit(_within, mode, function, item) for item in items]
    wait(done)
    return [one.result() for one in done]


@functools.cache
def _openmp_pause() -> Callable[[int], int] | None:
    """GCC's OpenMP, with which torch splits single operations: ends the calling thread's idle helpers, the next operation starts new ones.

    That takes 0.1 ms. Left alone they wait for it in a busy loop of some ms, on the cores that the tasks are to have.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL("libgomp.so.1", os.RTLD_NOLOAD), "omp_pause_resource_all", None)
    except OSError:  # torch is built with another one
        return None


def _within(mode: Callable[[], AbstractContextManager[None]], function: Callable[[Item], Result], item: Item) -> Result:
    with mode():
        return function(item)


def _use_one_thread() -> None:
    torch.get_num_threads()  # a thread takes over what was set for all when it first needs the number: that is done then
    torch.set_num_threads(1)


def _threads(count: int) -> ThreadPoolExecutor:
    with _making:
        if count not in _pools:
            _pools[count] = _pool(count)
        return _pools[count]


def _pool(count: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(count, "torch", _use_one_thread)
    ready = threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(ready.wait)
    ready.wait()
    torch.set_num_threads(count)  # threads to come take over what was set last
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # the threads do not live on there
