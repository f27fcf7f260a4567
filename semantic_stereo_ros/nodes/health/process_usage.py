"""What a process takes of its machine: memory and how it grows, processor time, GPU memory where torch uses CUDA."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

WARM_S = 60.0
_STATM = Path("/proc/self/statm")


def resident_mb() -> float:
    """Resident memory of this process, MB: the present one from /proc, elsewhere the largest so far (getrusage)."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / 1e6 if sys.platform == "darwin" else largest / 1e3


@dataclass
class ProcessUsage:
    """The process, MB. grown_mb: since it was warm, None before. gpu: used by torch, free and all of the card, None without CUDA."""

    rss_mb: float = 0.0
    grown_mb: float | None = None
    cpu_fraction: float | None = None
    gpu_used_mb: float | None = None
    gpu_free_mb: float | None = None
    gpu_total_mb: float | None = None


class UsageMonitor:
    """Growth is counted from `warm_s` after the work began (`begin`): caches, pools and libraries have filled by then."""

    def __init__(self, warm_s: float = WARM_S) -> None:
        self._warm_s = warm_s
        self._began_s: float | None = None
        self._warm_mb: float | None = None
        self._before: tuple[float, float] | None = None

    def begin(self, now_s: float | None) -> None:
        """Work begins, or begins anew with another backend; None: it has not begun."""
        self._began_s, self._warm_mb = now_s, None

    @property
    def begun(self) -> bool:
        return self._began_s is not None

    def measure(self, now_s: float) -> ProcessUsage:
        """About 0.1 ms; torch is asked only where somebody else has imported it."""
        found = ProcessUsage(rss_mb=resident_mb())
        if self._warm_mb is None and self._began_s is not None and now_s - self._began_s >= self._warm_s:
            self._warm_mb = found.rss_mb
        if self._warm_mb is not None:
            found.grown_mb = found.rss_mb - self._warm_mb
        spent_s = time.process_time()
        if self._before is not None and now_s > self._before[0]:
            found.cpu_fraction = (spent_s - self._before[1]) / (now_s - self._before[0])
        self._before = (now_s, spent_s)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            free, total = torch.cuda.mem_get_info()
            found.gpu_used_mb, found.gpu_free_mb, found.gpu_total_mb = torch.cuda.memory_reserved() / 1e6, free / 1e6, total / 1e6
        return found
