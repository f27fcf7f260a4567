"""What one pass takes in a process of its own: `python memory_of_a_pass.py plain|ours MAX_DISP HEIGHT WIDTH` prints bytes.

The number is the process's largest resident memory during a pass less its resident memory before the model is prepared: what preparing
copies counts as well, the weights and libraries do not. The kernel keeps both (VmHWM, reset through clear_refs); nothing is sampled.
"""

import gc
import sys
from pathlib import Path

import torch
from filling import fill
from plain_foundation_stereo import Plain

from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig


def resident(key: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def main() -> None:
    form, max_disp, height, width = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(2)  # with one, torch has a slower path for the plain form's volumes, of several times the memory
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(1, 3, height, width, generator=generator) * 255 for _ in range(2))
    config = ModelConfig("vits", max_disp)
    with torch.device("meta"):
        names = FoundationStereo(config).state_dict()
    state = fill(names)
    gc.collect()
    before = resident("VmRSS")
    if form == "plain":
        plain = Plain(state, "vits", max_disp)
        del state
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        plain.forward(left, right, 2)
    else:
        model = assemble(state, config)
        del state
        model = prepare(model, fast_convolutions=True)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        with torch.inference_mode():
            model(left, right, 2)
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
