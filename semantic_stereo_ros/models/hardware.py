"""What torch runs on: device and precision by name, free memory, and what 'out of memory' looks like. Set once, in one place."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semantic_stereo_ros.checks import ConfigError

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAPPED_BYTES = 8 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_HEAP_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # torch 2.9 and later, earlier


def choose_device(name: str) -> torch.device:
    """'auto' (CUDA where there is one), 'cpu', 'cuda' or 'cuda:N'. Raises ConfigError for a device that this machine does not have."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    index = re.fullmatch(r"cuda(?::(\d+))?", name)
    if index is None:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no usable CUDA device"
        raise ConfigError(f"device {name} is asked for, but {why}: use auto or cpu, or see 'semantic-stereo doctor'")
    count = torch.cuda.device_count()
    number = int(index[1] or 0)
    if number >= count:
        raise ConfigError(f"device {name} is asked for, but this machine has {count} CUDA device(s): use cuda:0 to cuda:{count - 1}")
    prefer_expandable_segments()
    return torch.device("cuda", number)


def prefer_expandable_segments() -> None:
    """Let CUDA's allocator grow its segments, so that frames of several sizes do not leave holes. Before its first use, once.

    What the user has set stays; other systems than Linux have no such segments.
    """
    if sys.platform.startswith("linux") and not any(name in os.environ for name in _ALLOCATOR_VARIABLES):
        version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
        os.environ[_ALLOCATOR_VARIABLES[0 if version >= (2, 9) else 1]] = "expandable_segments:True"


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """A key of PRECISIONS as a dtype; a CPU always gets float32, in which it is fastest and exact."""
    return PRECISIONS[precision] if device.type == "cuda" else torch.float32


def eager_on_cpu(x: torch.Tensor) -> bool:
    """Whether what is done with x happens on a CPU here and now: no gradients to keep, no compiler or export that wants the graph."""
    watched = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and not watched


def free_bytes(device: torch.device) -> int | None:
    """What a CUDA device has free, torch's own unused cache included; None for a CPU."""
    if device.type != "cuda":
        return None
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU or this machine has no memory left."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text or "not enough memory" in text)


def release(device: torch.device) -> None:
    """Give back what is not in use. To be called where no exception holds the tensors of a failed attempt any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def map_large_tensors() -> None:
    """Under glibc, take blocks above MAPPED_BYTES one by one from the system and give them back when they are freed. For a CPU, once.

    By default freed blocks of up to 32 MB stay in a heap that tensors of ever other sizes fragment: half as much memory again. The
    system's zeroed pages cost a few percent of the time. Images and clouds are smaller and stay in the heap; what the user has set stays.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _HEAP_VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 32 * MAPPED_BYTES)  # or else each free block at the heap's end would go back at once
        if "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(_M_ARENA_MAX, 1)  # or else each thread would keep a heap of its own


def trim_heap(device: torch.device) -> None:
    """On a CPU under glibc, give the system what has been freed between tensors that are still in use; elsewhere nothing.

    Its allocator keeps freed memory for the next tensors; those of the next part of a network have other sizes and do not fit the holes.
    """
    if device.type == "cpu" and not torch.compiler.is_compiling():
        trim = _malloc_trim()
        if trim is not None:
            trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes of tensors that `run` makes and holds at one time. On the meta device nothing is computed or allocated.

    Scratch memory inside an operation is not seen.
    """
    with torch.inference_mode(), _LiveBytes() as live:
        run()
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations return, until they are freed; not those that were there before, of which they return views."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage(), 0)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._see(storage, storage.nbytes())
        return result

    def _see(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = size
            self.now += self._known[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)
