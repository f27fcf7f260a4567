"""FoundationStereo as an ONNX file of one image size, for onnxruntime and TensorRT."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.checks import ConfigError, SemanticStereoError
from semantic_stereo_ros.models.foundation_stereo.export_form import ExportForm
from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm
from semantic_stereo_ros.models.foundation_stereo.fast.precision import lower
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.loading import assemble, load
from semantic_stereo_ros.models.foundation_stereo.padding import MULTIPLE
from semantic_stereo_ros.models.onnx import metadata as onnx_metadata
from semantic_stereo_ros.models.onnx.writing import finish, library, trace

SMALLEST = 64
PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
TOLERANCE_PX = {"float32": 0.01, "float16": 0.1}
"""Largest difference of the exported file from the model in float32 that is taken for rounding."""

LICENCE = (
    "Holds the weights of the checkpoint it was exported from. Those of the FoundationStereo releases are under the NVIDIA Source Code "
    "License: non-commercial use (research) only, redistribution only under the same licence."
)


@dataclass(frozen=True)
class Exported:
    """path: the file. operators: how often each ONNX operator occurs. difference_px: largest from the model's own result in
    float32 over one made-up pair, NaN when it was not compared.
    """

    path: Path
    operators: dict[str, int]
    difference_px: float


def export_foundation_stereo(
    checkpoint: str | Path,
    output: str | Path,
    size_hw: tuple[int, int],
    *,
    iterations: int = 16,
    max_disp: int | None = None,
    attention: str | None = None,
    precision: str = "float32",
    compare: bool = True,
) -> Exported:
    """Write `output`: inputs left and right (1, 3, H, W) float32 0..255 RGB, output disparity (1, 1, H, W) float32 px.

    max_disp, attention: None takes the checkpoint's configuration. compare: run both once (needs onnxruntime) and raise when they differ.
    The file appears only when it is complete. Raises ConfigError, InputFileError, MissingDependencyError; SemanticStereoError when the
    exported file does not compute what the model does.
    """
    check_size(size_hw)
    if iterations < 1:
        raise ConfigError(f"iterations must be 1 or more, got {iterations}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    library("onnx", "writing ONNX files")
    if compare:
        library("onnxruntime", "comparing the exported file with the model")
    model = load(checkpoint)
    wanted = {"max_disp": max_disp, "attention": attention}
    config = dataclasses.replace(model.config, **{name: value for name, value in wanted.items() if value is not None})
    model = prepare(assemble(model.state_dict(), config, checkpoint))
    description = f"FoundationStereo {config.variant}, {config.attention}, {iterations} iterations, {precision}"
    metadata = {
        onnx_metadata.FAMILY: onnx_metadata.OWN_FAMILY,
        onnx_metadata.MODEL: description,
        onnx_metadata.MAX_DISPARITY_PX: str(config.max_disp),
        onnx_metadata.LICENCE: LICENCE,
    }
    return write(model, Path(output), size_hw, iterations, precision, metadata, compare)


def check_size(size_hw: tuple[int, int]) -> None:
    """Raise ConfigError, naming the two nearest sizes, unless (height, width) are multiples of 32 and 64 at least."""
    if all(n % MULTIPLE == 0 and n >= SMALLEST for n in size_hw):
        return
    below = "x".join(str(max(n // MULTIPLE * MULTIPLE, SMALLEST)) for n in size_hw)
    above = "x".join(str(max(-(-n // MULTIPLE) * MULTIPLE, SMALLEST)) for n in size_hw)
    nearest = below if below == above else f"{below} or {above}"
    raise ConfigError(
        f"the exported size must be HEIGHTxWIDTH in multiples of {MULTIPLE} px, {SMALLEST} at least, got {size_hw[0]}x{size_hw[1]}: "
        f"use {nearest} (the backend pads smaller images)"
    )


def write(
    model: InferenceForm,
    output: Path,
    size_hw: tuple[int, int],
    iterations: int,
    precision: str = "float32",
    metadata: dict[str, str] | None = None,
    compare: bool = True,
) -> Exported:
    """As export_foundation_stereo, of a prepared model in float32, which is taken over and not used again."""
    left, right = made_up_pair(size_hw)
    output.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        expected = model(left, right, iterations).disparity.numpy() if compare else None
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        path = Path(folder) / "model.onnx"
        form = ExportForm(lower(model, PRECISIONS[precision]), size_hw, iterations).eval()
        trace(form, (left, right), path, ["left", "right"], ["disparity"])
        operators = finish(path, metadata or {})
        difference_px = float("nan")
        if expected is not None:
            difference_px = float(np.abs(run(path, left, right) - expected).max())
            if not difference_px <= TOLERANCE_PX[precision]:
                raise SemanticStereoError(
                    f"the exported file's disparities differ from the model's by up to {difference_px:g} px, which is more than "
                    f"{TOLERANCE_PX[precision]} px, so it was not kept: try another version of torch, or precision float32"
                )
        path.replace(output)
    return Exported(output, operators, difference_px)


def run(path: Path, left: Tensor, right: Tensor) -> np.ndarray:
    """(1, 1, H, W) float32 by onnxruntime on the CPU."""
    onnxruntime = library("onnxruntime", "comparing the exported file with the model")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["disparity"], {"left": left.numpy(), "right": right.numpy()})[0]


def made_up_pair(size_hw: tuple[int, int], shift_px: int = 7) -> tuple[Tensor, Tensor]:
    """Two (1, 3, H, W) float32 0..255 views of a random texture, the right one shifted."""
    height, width = size_hw
    coarse = torch.rand(1, 3, height // 4 + 3, (width + shift_px) // 4 + 3, generator=torch.Generator().manual_seed(0))
    scene = torch.nn.functional.interpolate(coarse, (height, width + shift_px), mode="bicubic").clamp(0, 1) * 255
    return scene[..., :width].contiguous(), scene[..., shift_px:].contiguous()
