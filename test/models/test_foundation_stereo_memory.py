"""Memory above the weights against the plain form: tensors counted on the meta device, and a process's resident memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from plain_foundation_stereo import Plain

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.runtime import peak_bytes, weight_bytes
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig

ROWS = 16
SHARES = [(192, 0.6), (416, 0.5)]


def meta_model(variant, max_disp):
    with torch.device("meta"):
        return FoundationStereo(ModelConfig(variant, max_disp)).eval().requires_grad_(False)


@pytest.mark.parametrize("max_disp, share", SHARES)
def test_tensors_of_a_pass_take_a_share_of_the_plain_form_s(max_disp, share):
    model = meta_model("vits", max_disp)
    plain = Plain(model.state_dict(), "vits", max_disp)
    with torch.device("meta"):
        image = torch.zeros(1, 3, 480, 640)
        whole = hardware.peak_bytes(lambda: plain.forward(image, image.clone(), 1))
    assert peak_bytes(model, (480, 640), ROWS) < share * whole


def test_the_largest_variant_runs_1280x736_on_six_gigabytes():
    model = meta_model("vitl", 416)
    needed = weight_bytes(model) + peak_bytes(model, (736, 1280), ROWS)
    assert needed < 5e9, "a gigabyte is left for the libraries' scratch memory"


def resident_bytes(form, max_disp):
    script = Path(__file__).with_name("memory_of_a_pass.py")
    # The heap's defaults, whatever this process runs under.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    command = [sys.executable, str(script), form, str(max_disp), "480", "640"]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize("max_disp, share", SHARES)
def test_a_process_takes_a_share_of_the_plain_form_s_memory(max_disp, share):
    assert resident_bytes("ours", max_disp) < share * resident_bytes("plain", max_disp)
