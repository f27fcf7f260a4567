"""Time and memory of a FoundationStereo pass: what bench_foundation_stereo measures.

As a program, for one form and case: `peak` prints the bytes of one pass; `race` prints the seconds of a pass for each line that it reads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.bench.random_weights import random_weights
from semantic_stereo_ros.models.foundation_stereo.fast.precision import lower
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.inference import predict
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig
from semantic_stereo_ros.models.hardware import PRECISIONS, release

FORMS = ("ours", "plain")
"""What prepare makes, and the network without it."""
GAIN = 2**0.5  # of a layer before a ReLU
CPU_CASES = (("vits", 128, 192, 192, 4), ("vits", 320, 480, 192, 8))
GPU_VARIANTS, GPU_SIZES, GPU_UPDATES, GPU_MAX_DISP = ("vits", "vitl"), ((480, 640), (736, 1280)), (8, 16, 32), 416
COMPILED = (480, 640), 16
MEMORY_CASE = ("vits", 480, 640, 192, 2)
BARS = {"plain_to_ours_time": 1.3, "ours_to_plain_memory at 640x480": 0.6}


def measure(rounds: int) -> dict[str, Any]:
    """See bench_foundation_stereo.run."""
    if torch.cuda.is_available():
        return {"name": "foundation_stereo", "rounds": rounds, "device": torch.cuda.get_device_name(), **_on_gpu(rounds)}
    result: dict[str, Any] = {
        "name": "foundation_stereo",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "bars": BARS,
    }
    for case in CPU_CASES:
        variant, height, width, max_disp, updates = case
        result[f"{variant} {width}x{height} max_disp {max_disp} updates {updates}"] = _on_cpu(case, rounds)
    variant, height, width, max_disp, updates = MEMORY_CASE
    result[f"{variant} {width}x{height} max_disp {max_disp} updates {updates}"] = _peaks(MEMORY_CASE)
    return result


def weights(variant: str) -> dict[str, Tensor]:
    """A state_dict of random values that keep activations of ordinary size: vanishing ones would be slow, infinite ones fast."""
    with torch.device("meta"):
        names = FoundationStereo(ModelConfig(variant)).state_dict()
    scales = {name for name, value in names.items() if value.ndim == 1 and not name.endswith((".bias", ".running_mean"))}
    return {name: torch.ones_like(value) if name in scales else GAIN * value for name, value in random_weights(names).items()}


def _on_cpu(case: tuple[str, int, int, int, int], rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in FORMS}
    with ExitStack() as stack:
        racers = {name: stack.enter_context(_Racer(name, case)) for name in FORMS}
        for turn in range(rounds + 1):
            for name, racer in racers.items():
                taken = racer.turn()
                if turn:  # the first round reorders weights and allocates
                    seconds[name].append(taken)
    result: dict[str, Any] = {"seconds": {name: float(np.median(values)) for name, values in seconds.items()}}
    result["plain_to_ours_time"] = result["seconds"]["plain"] / result["seconds"]["ours"]
    return {**result, **_peaks(case)}


def _peaks(case: tuple[str, int, int, int, int]) -> dict[str, Any]:
    """The most memory of a pass of each form, in a process of its own."""
    if sys.platform != "linux":
        return {"peak_mb": "told on Linux only"}
    peak_mb = {name: _peak_bytes(name, case) / 2**20 for name in FORMS}
    return {"peak_mb": peak_mb, "ours_to_plain_memory": peak_mb["ours"] / peak_mb["plain"]}


class _Racer:
    """A form in a process of its own, since how ours has the heap set up would slow the plain form down."""

    def __init__(self, name: str, case: tuple[str, int, int, int, int]) -> None:
        self._name, self._errors = name, tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", __spec__.name, "race", name, *map(str, case)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True)

    def __enter__(self) -> _Racer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def turn(self) -> float:
        """Seconds of a pass."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, with an error that is told below
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"measuring the time of {self._name} failed: {self._errors.read().strip()[-500:]}")
        return json.loads(line)


def _pass(name: str, variant: str, height: int, width: int, max_disp: int, updates: int) -> Callable[[], Any]:
    """A pass over one pair, float32 on the CPU."""
    state = weights(variant)
    left, right = (torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 255 for seed in (1, 2))
    model = assemble(state, ModelConfig(variant, max_disp))
    if name == "ours":
        model = prepare(model, fast_convolutions=True)

    def once() -> None:
        with torch.inference_mode():
            predict(model, left, right, updates)

    return once


def _peak_bytes(name: str, case: tuple[str, int, int, int, int]) -> int:
    done = subprocess.run([sys.executable, "-m", __spec__.name, "peak", name, *map(str, case)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {name} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process. Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _on_gpu(rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for variant in GPU_VARIANTS:
        state = weights(variant)
        for precision, dtype in PRECISIONS.items():
            model = lower(prepare(assemble(state, ModelConfig(variant, GPU_MAX_DISP)).cuda()), dtype)
            for size in GPU_SIZES:
                for updates in GPU_UPDATES:
                    key = f"{variant} {size[1]}x{size[0]} updates {updates} {precision}"
                    result[key] = _gpu_pass(model, size, updates, rounds)
                    if (size, updates) == COMPILED:
                        result[f"{key} compiled"] = _gpu_pass(torch.compile(model, dynamic=False), size, updates, rounds)
            del model
            release(torch.device("cuda"))
    return result


def _gpu_pass(model: Any, size: tuple[int, int], updates: int, rounds: int) -> dict[str, float]:
    left, right = (torch.rand(1, 3, *size, device="cuda") * 255 for _ in range(2))
    seconds = []
    with torch.inference_mode():
        predict(model, left, right, updates)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(rounds):
            start = time.perf_counter()
            predict(model, left, right, updates)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return {"ms": 1e3 * float(np.median(seconds)), "peak_mb": (torch.cuda.max_memory_allocated() - before) / 2**20}


def _print_peak(run: Callable[[], Any]) -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far, of making the weights, is forgotten
    before = resident_bytes("VmRSS")
    run()
    print(json.dumps(resident_bytes("VmHWM") - before))


def _race(run: Callable[[], Any]) -> None:
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    _what, _form, _variant, *_numbers = sys.argv[1:]
    {"peak": _print_peak, "race": _race}[_what](_pass(_form, _variant, *map(int, _numbers)))  # pyright: ignore[reportCallIssue]
