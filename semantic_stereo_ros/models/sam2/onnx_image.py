"""SAM 2 for single images from two ONNX files, run by onnxruntime: a promptable model (segmentation/automask) without the package sam2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.models.onnx.session import CPU, TENSORRT, available_providers, choose_providers, is_automatic, short, start
from semantic_stereo_ros.models.sam2.files import Description, Part
from semantic_stereo_ros.models.sam2.image import in_model_pixels, prepare
from semantic_stereo_ros.models.sam2.loading import SINGLE_MASK

PADDING = -1


@dataclass(frozen=True, eq=False)
class Embedding:
    """Of one image: shape_hw in px; values: the encoder's outputs, where the decoder runs."""

    shape_hw: tuple[int, int]
    values: list[Any]


class Sam2Onnx:
    """A PromptableModel. What it answers lies on the CPU; between encoder and decoder nothing is copied."""

    def __init__(self, described: Description, encoder: Any, decoder: Any) -> None:
        self.description = described
        self._encoder, self._decoder = encoder, decoder
        self.device = torch.device("cpu")

    @classmethod
    def load(
        cls, folder: Path, providers: str, *, key: str, threads: int = 0, engine_cache: str = "", tensorrt_fp16: bool = False
    ) -> Sam2Onnx:
        """Start both sessions. providers: as `choose_providers` takes them, from the parameter `key`.

        TensorRT runs the encoder only: it would compile the decoder again for each other number of prompts.
        Raises ConfigError and InputFileError saying what does not fit.
        """
        described = Description.read(folder)
        asked, required = choose_providers(providers, key, available_providers()), not is_automatic(providers)
        others = [name for name in asked if name != TENSORRT] or [CPU]
        encoder = start(
            folder / described.encoder.file,
            asked,
            key=key,
            required=required,
            threads=threads,
            engine_cache=engine_cache,
            tensorrt_fp16=tensorrt_fp16,
        )
        decoder = start(folder / described.decoder.file, others, key=key, required=required, threads=threads)
        for part, session in ((described.encoder, encoder), (described.decoder, decoder)):
            _check_names(part, session)
        shape = encoder.get_inputs()[0].shape
        if list(shape) != [1, 3, described.image_size, described.image_size]:
            raise InputFileError(
                f"{described.encoder.file} takes images of shape {shape}, but {Description.FILE} says image_size {described.image_size}: "
                "the files do not belong together, export again"
            )
        return cls(described, encoder, decoder)

    @property
    def providers(self) -> tuple[str, str]:
        """What runs the encoder, and what the decoder."""
        return self._encoder.get_providers()[0], self._decoder.get_providers()[0]

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU decodes."""
        return self.providers[1] == CPU

    def encode(self, image: np.ndarray) -> Embedding:
        """image: (H, W, 3) uint8 RGB. Raises MemoryError, and ConfigError when onnxruntime fails otherwise."""
        part = self.description.encoder
        binding = self._encoder.io_binding()
        binding.bind_cpu_input(part.inputs[0], prepare(image, self.description.image_size, self.device).numpy())
        where = "cuda" if self.providers[1] == "CUDAExecutionProvider" else "cpu"
        for name in part.outputs:
            binding.bind_output(name, where)
        _run(self._encoder, binding, part)
        return Embedding((image.shape[0], image.shape[1]), binding.get_outputs())

    def decode(
        self,
        embedding: Embedding,
        points_xy: Tensor | None = None,
        labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        mask_logits: Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """As PromptableModel.decode. Raises MemoryError, and ConfigError when onnxruntime fails otherwise."""
        side = self.description.image_size
        given = in_model_pixels(embedding.shape_hw, side, points_xy, labels, boxes_xyxy)
        count = 1 if mask_logits is None else len(mask_logits)
        xy, kinds = given if given is not None else (torch.zeros(count, 0, 2), torch.zeros(count, 0, dtype=torch.int32))
        xy = torch.cat([xy, xy.new_zeros(len(xy), 1, 2)], dim=1).numpy()
        kinds = torch.cat([kinds, kinds.new_full((len(kinds), 1), PADDING)], dim=1).numpy()
        if mask_logits is None:
            none = np.zeros((1, 1, side // 4, side // 4), np.float32)
            logits, scores = self._decode(embedding, xy, kinds, none, False)
        else:  # one mask serves all prompts of a call
            starts = [mask[None].float().contiguous().numpy() for mask in mask_logits]
            answers = [self._decode(embedding, xy[i : i + 1], kinds[i : i + 1], start, True) for i, start in enumerate(starts)]
            logits, scores = (torch.cat(parts) for parts in zip(*answers))
        return (logits[:, 1:], scores[:, 1:]) if multimask else single_mask(logits, scores)

    def _decode(self, embedding: Embedding, xy: np.ndarray, kinds: np.ndarray, mask: np.ndarray, use_mask: bool) -> tuple[Tensor, Tensor]:
        """All masks (B, 4, h, w) and scores (B, 4)."""
        part = self.description.decoder
        binding = self._decoder.io_binding()
        for name, value in zip(part.inputs, embedding.values):
            binding.bind_ortvalue_input(name, value)
        own = (np.ascontiguousarray(xy), np.ascontiguousarray(kinds), mask, np.array([use_mask], np.float32))
        for name, array in zip(part.inputs[len(embedding.values) :], own):
            binding.bind_cpu_input(name, array)
        for name in part.outputs:
            binding.bind_output(name, "cpu")
        _run(self._decoder, binding, part)
        logits, scores = (torch.from_numpy(array) for array in binding.copy_outputs_to_cpu())
        return logits, scores


def single_mask(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B, 4, h, w) logits and (B, 4) scores one mask each: the first, or, where that is not stable, the best of the others."""
    first, delta = logits[:, 0], SINGLE_MASK["dynamic_multimask_stability_delta"]
    inner, outer = ((first > value).sum(dim=(1, 2)) for value in (delta, -delta))
    stable = (inner >= SINGLE_MASK["dynamic_multimask_stability_thresh"] * outer) | (outer == 0)
    chosen = torch.where(stable, 0, 1 + scores[:, 1:].argmax(dim=1))
    rows = torch.arange(len(logits))
    return logits[rows, chosen][:, None], scores[rows, chosen][:, None]


def _check_names(part: Part, session: Any) -> None:
    for kind, named, nodes in (("inputs", part.inputs, session.get_inputs()), ("outputs", part.outputs, session.get_outputs())):
        present = [node.name for node in nodes]
        if set(present) != set(named):
            raise InputFileError(
                f"{part.file} has the {kind} {', '.join(present)}, but {Description.FILE} says {', '.join(named)}: "
                "the files do not belong together, export again"
            )


def _run(session: Any, binding: Any, part: Part) -> None:
    try:
        session.run_with_iobinding(binding)
    except Exception as error:  # its exceptions have no class in common
        text = short(error)
        if "allocate memory" in text.lower() or "out of memory" in text.lower():
            raise MemoryError(text) from error
        raise ConfigError(f"onnxruntime fails in {part.file}: {text}") from error
