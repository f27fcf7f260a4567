"""SAM 2 for single images as two ONNX files, an encoder and a decoder, and a YAML file that says what they are."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.models.onnx import metadata as onnx_metadata
from semantic_stereo_ros.models.onnx.writing import finish, library, trace
from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.export_form import DecoderForm, EncoderForm
from semantic_stereo_ros.models.sam2.files import OWN, Description
from semantic_stereo_ros.models.sam2.image import Sam2Image
from semantic_stereo_ros.models.sam2.onnx_image import Sam2Onnx

TOLERANCE = 0.01
"""Largest difference of mask logits (from -32 to 32, mostly) and of predicted IoUs that is taken for rounding."""


@dataclass(frozen=True)
class Exported:
    """folder: what was written. operators: how often each ONNX operator occurs, by file. difference: the largest of mask logits and
    scores from the model's own in float32, NaN when it was not compared."""

    folder: Path
    operators: dict[str, dict[str, int]]
    difference: float


def export_sam2(checkpoint: str | Path, output: str | Path, model: str = "", image_size: int = 1024, *, compare: bool = True) -> Exported:
    """Write encoder.onnx, decoder.onnx and sam2.yaml into the folder `output`, which is made if missing; other files there stay.

    model: of sam2_loading.MODELS, '' = told by the checkpoint. compare: run both files once beside the model (needs onnxruntime).
    The files appear only when all are complete. Raises ConfigError, InputFileError, MissingDependencyError; SemanticStereoError when the
    exported files do not compute what the model does.
    """
    library("onnx", "writing ONNX files")
    if compare:
        library("onnxruntime", "comparing the exported files with the model")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise SemanticStereoError(f"the export of SAM 2 is a folder of three files, but {output} is a file: give a folder")
    network: Any = sam2_loading.load(checkpoint, model, image_size)
    name = model or sam2_loading.name_of(network.state_dict()) or ""
    output.mkdir(parents=True, exist_ok=True)
    expected = _answers(Sam2Image(network)) if compare else []
    with tempfile.TemporaryDirectory(dir=output, prefix=".export-") as folder:
        described = Description(name, image_size, *OWN)
        operators = _write(network, Path(folder), described)
        difference = float("nan")
        if compare:
            found = _answers(Sam2Onnx.load(Path(folder), "cpu", key="providers"))
            difference = max(float((a - b).abs().max()) for a, b in zip(expected, found))
            if not difference <= TOLERANCE:
                raise SemanticStereoError(
                    f"the exported files' masks differ from the model's by up to {difference:g} in their logits, which is more than "
                    f"{TOLERANCE}, so they were not kept: try another version of torch"
                )
        for file in (described.encoder.file, described.decoder.file, Description.FILE):
            (Path(folder) / file).replace(output / file)
    return Exported(output, operators, difference)


def _write(network: Any, folder: Path, described: Description) -> dict[str, dict[str, int]]:
    """All three files; the operators of each. The network is taken over and not used again."""
    side, (encoder, decoder) = network.image_size, (described.encoder, described.decoder)
    image = torch.zeros(1, 3, side, side)
    points, labels = torch.full((2, 3, 2), side / 2), torch.tensor([[1, 0, -1], [2, 3, -1]], dtype=torch.int32)
    with torch.no_grad():
        features = network.forward_image(image)["backbone_fpn"]
    example = (features[-1], *features[:-1], points, labels, torch.zeros(1, 1, side // 4, side // 4), torch.zeros(1))
    objects = {0: "objects"}
    open_axes = {"points": {0: "objects", 1: "points"}, "labels": {0: "objects", 1: "points"}, "masks": objects, "scores": objects}
    trace(DecoderForm(network).eval(), example, folder / decoder.file, decoder.inputs, decoder.outputs, open_axes)
    trace(EncoderForm(network).eval(), (image,), folder / encoder.file, encoder.inputs, encoder.outputs)
    described.save(folder)
    metadata = {onnx_metadata.MODEL: f"SAM 2, {described.model}, {side} px"}
    return {part.file: finish(folder / part.file, metadata) for part in (encoder, decoder)}


def _answers(model: Any) -> list[Tensor]:
    """A promptable model's logits and scores for one made-up image: two points; with boxes; with a mask, too, and one answer each."""
    image = np.kron(np.random.default_rng(0).integers(0, 256, (12, 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    embedding = model.encode(image)
    points, labels = torch.tensor([[[100.0, 80.0]], [[30.0, 150.0]]]), torch.ones(2, 1, dtype=torch.int32)
    boxes = torch.tensor([[60.0, 40.0, 150.0, 120.0], [10.0, 100.0, 60.0, 180.0]])
    alone = model.decode(embedding, points, labels)
    boxed = model.decode(embedding, points, labels, boxes)
    again = model.decode(embedding, points, labels, boxes, alone[0][:, :1], multimask=False)
    return [*alone, *boxed, *again]
