"""Whether SAM 2 fits a card, told before it is loaded: encoder and one batch of prompts run on the meta device, which costs nothing."""

from __future__ import annotations

import numpy as np
import torch

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.image import Sam2Image

SCRATCH = 1.25  # libraries' own memory and holes, by which tensors are multiplied
MASK_BYTES_PER_PIXEL = 1  # of each kept mask at full size
MEMORY_FLOATS = 7 * 64 / 256  # of a followed object: so many floats per pixel of the embedding's stride, times 256 for its seven memories


def estimate_bytes(name: str, image_size: int, points_per_batch: int, max_objects: int, shape_hw: tuple[int, int]) -> int:
    """Peak of a CUDA device's memory: weights, the encoder or the decoder with one batch, the kept masks and the objects' memories.

    Raises what `sam2_loading.build` raises.
    """
    with torch.device("meta"):
        points = torch.zeros(points_per_batch, 1, 2)
        labels = torch.ones(points_per_batch, 1)
    model = sam2_loading.build(name, image_size).to("meta").eval()
    image = np.zeros((*shape_hw, 3), np.uint8)
    run = Sam2Image(model)
    work = hardware.peak_bytes(lambda: run.decode(run.encode(image), points, labels))
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    masks = max_objects * 3 * shape_hw[0] * shape_hw[1] * MASK_BYTES_PER_PIXEL
    memories = max_objects * 4 * 256 * MEMORY_FLOATS * (image_size // 16) ** 2
    return int(SCRATCH * (weights + work + masks + memories))


def check_fits(free: int | None, name: str, image_size: int, points_per_batch: int, max_objects: int, shape_hw: tuple[int, int]) -> None:
    """Raise ConfigError naming a setting that would fit, unless this one does. free: bytes, None = not known, no check."""
    if free is None:
        return
    needed = estimate_bytes(name, image_size, points_per_batch, max_objects, shape_hw)
    if needed <= free:
        return
    remedy = "close other programs on that GPU, or set device to cpu"
    for other, size in _smaller(name, image_size):
        if estimate_bytes(other, size, points_per_batch, max_objects, shape_hw) <= free:
            remedy = (
                f"use {other}"
                if size == image_size
                else f"use image_size {size}"
                if other == name
                else f"use {other} with image_size {size}"
            )
            break
    raise ConfigError(
        f"{name} with image_size {image_size}, {points_per_batch} points at a time and {max_objects} objects needs about "
        f"{needed / 1e9:.1f} GB of GPU memory, but {free / 1e9:.1f} GB are free: {remedy}"
    )


def _smaller(name: str, image_size: int) -> list[tuple[str, int]]:
    """Cheaper settings, the least change first."""
    family = [other for other in sam2_loading.MODELS if other.split("_")[0] == name.split("_")[0]]
    models = family[: family.index(name)][::-1]
    sizes = [size for size in (768, 512, 384, 256) if size < image_size]
    return [*((m, image_size) for m in models), *((name, s) for s in sizes), *((m, s) for s in sizes for m in models)]
