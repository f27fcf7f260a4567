"""What loading a checkpoint costs in memory, measured in a process of its own: the peak of its resident set over what its imports took.

Pages of a mapped file count while they are in memory, so the weights' own share of the file is the floor once all are read.
"""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read and reset through Linux's /proc")

ALLOWED = 1.2
MEASURE = """
import ctypes, gc, sys
from pathlib import Path
import torch
{imports}

def resident(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

gc.collect()
getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # where the C library is glibc: what the imports freed is no reserve
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = resident("VmRSS")
model = {load}
total = sum(float(x.sum()) for x in (*model.parameters(), *model.buffers()))  # every page of every weight is read
print(resident("VmHWM") - before)
"""


def peak_bytes(imports: str, load: str, path) -> int:
    """Bytes by which `load` and reading every weight raise the peak of a fresh process."""
    script = MEASURE.format(imports=imports, load=load)
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


def share(state) -> int:
    return sum(x.numel() * x.element_size() for x in state.values())


def save(state, path) -> None:
    """As the official files are: the weights beside an optimizer's state, which is not to be read."""
    torch.save({"model": state, "optimizer": {"moments": torch.zeros(share(state) // 8)}}, path)


@pytest.mark.parametrize(
    "load, allowed",
    [
        ("loading.load(sys.argv[1])", ALLOWED),
        # Batch norms are folded into new weights, 36 MB whatever the variant; the file's clean pages of the old ones still count here.
        ("runtime.load_ready(Path(sys.argv[1]), 'auto', 0, 'tokens', torch.device('cpu'), torch.float32)", ALLOWED + 0.05),
    ],
    ids=["as it is", "ready for a cpu"],
)
def test_foundation_stereo(filled_state, tmp_path, load, allowed):
    state = filled_state()
    save(state, tmp_path / "model.pth")
    imports = "from semantic_stereo_ros.models.foundation_stereo import loading, runtime"
    peak = peak_bytes(imports, load, tmp_path / "model.pth")
    assert 0.5 * share(state) < peak < allowed * share(state)


def test_sam2(tmp_path):
    pytest.importorskip("sam2", reason="sam2 is not installed: make build")
    from semantic_stereo_ros.bench.random_weights import random_weights
    from semantic_stereo_ros.models.sam2 import loading as sam2_loading

    state = random_weights(sam2_loading.build("sam2.1_hiera_tiny").state_dict())
    save(state, tmp_path / "model.pt")
    # Building the smallest form imports what the configuration names, which no import of ours tells.
    imports = "from semantic_stereo_ros.models.sam2 import loading as sam2_loading\nsam2_loading.build('sam2.1_hiera_tiny', 64)"
    peak = peak_bytes(imports, "sam2_loading.load(sys.argv[1])", tmp_path / "model.pt")
    assert 0.5 * share(state) < peak < ALLOWED * share(state)
