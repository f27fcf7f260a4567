"""FoundationStereo made ready for a device, and what memory a pass over images takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm
from semantic_stereo_ros.models.foundation_stereo.fast.precision import lower
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.fast.volume_slabs import rows_on_cpu as slab_rows_on_cpu
from semantic_stereo_ros.models.foundation_stereo.inference import predict
from semantic_stereo_ros.models.foundation_stereo.loading import assemble, load
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo


def load_ready(path: Path, variant: str, max_disp: int, attention: str, device: torch.device, dtype: torch.dtype) -> InferenceForm:
    """The network of a checkpoint for inference on a device. variant 'auto' and max_disp 0: what the checkpoint says.

    Raises InputFileError and ConfigError, and torch's own error when the device has no room.
    """
    model = load(path)
    if variant not in ("auto", model.config.variant):
        raise InputFileError(f"checkpoint {path} is of variant {model.config.variant}, but {variant} is asked for: set variant to auto")
    wanted = dataclasses.replace(model.config, attention=attention, max_disp=max_disp or model.config.max_disp)
    if wanted != model.config:
        model = assemble(model.state_dict(), wanted, path)
    # On a GPU from here on: this machine's memory holds nothing but pages of the file.
    model = prepare(model.to(device), fast_convolutions=device.type == "cpu" and dtype == torch.float32)
    return lower(model, dtype)


def rows_on_cpu(model: FoundationStereo, shape: tuple[int, int]) -> int:
    """The slab for images of `shape` (H, W) where memory is not limited."""
    return slab_rows_on_cpu(-(-shape[0] // 4), -(-shape[1] // 4), model.config.levels)


def weight_bytes(model: nn.Module) -> int:
    """All parameters and buffers."""
    return sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))


def peak_bytes(model: FoundationStereo, shape: tuple[int, int], rows: int) -> int:
    """The most bytes of tensors beside the weights in a pass over images of `shape` (H, W), told by shapes alone: seconds, no memory."""
    with torch.device("meta"):
        twin = FoundationStereo(model.config).eval().requires_grad_(False)
        twin = lower(prepare(twin), model.proj_cmb.weight.dtype)
        image = torch.zeros(1, 3, *shape)
    return hardware.peak_bytes(lambda: predict(twin, image, image.clone(), 1, rows=rows or None))
