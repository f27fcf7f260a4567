"""FoundationStereo made ready for frames: loaded for a device, its memory estimated, and run over images of any size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo.inference import Answer, predict, predict_hierarchical
from semantic_stereo_ros.models.foundation_stereo.loading import assemble, load
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.padding import Padding
from semantic_stereo_ros.models.foundation_stereo.prepare import prepare


def load_ready(path: Path, variant: str, max_disp: int, attention: str, device: torch.device, dtype: torch.dtype) -> FoundationStereo:
    """The network of a checkpoint for inference on a device. variant 'auto' and max_disp 0: what the checkpoint says.

    Raises InputFileError and ConfigError, and torch's own error when the device has no room.
    """
    model = load(path)
    if variant not in ("auto", model.config.variant):
        raise InputFileError(f"checkpoint {path} is of variant {model.config.variant}, but {variant} is asked for: set variant to auto")
    wanted = dataclasses.replace(model.config, attention=attention, max_disp=max_disp or model.config.max_disp)
    if wanted != model.config:
        model = assemble(model.state_dict(), wanted, path)
    model = prepare(model, fast_convolutions=device.type == "cpu" and dtype == torch.float32)
    return model.to(device=device, dtype=dtype)


def weight_bytes(model: nn.Module) -> int:
    """All parameters and buffers."""
    return sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))


def peak_bytes(model: FoundationStereo, shape: tuple[int, int], rows: int) -> int:
    """The most bytes of tensors beside the weights in a pass over images of `shape` (H, W), told by shapes alone: seconds, no memory."""
    with torch.device("meta"):
        twin = FoundationStereo(model.config).to(model.proj_cmb.weight.dtype).eval().requires_grad_(False)
        image = torch.zeros(1, 3, *shape)
    return hardware.peak_bytes(lambda: predict(twin, image, image.clone(), 1, rows=rows or None))


def answer(run: Any, left: Tensor, right: Tensor, iterations: int, hierarchical: bool, **options: Any) -> Answer:
    """left, right: (1, 3, H, W) 0..255. run: a FoundationStereo, compiled or not. options: those of its forward."""
    if not hierarchical:
        return predict(run, left, right, iterations, **options)
    # Padded first, as the official demo does: the coarse-to-fine routine treats unpadded images in a way of its own.
    padding = Padding.of(left.shape[-2], left.shape[-1])
    found = predict_hierarchical(run, padding.add(left), padding.add(right), iterations, **options)
    return Answer(padding.crop(found.disparity), padding.crop(found.spread), padding.crop(found.mass), found.steps)
