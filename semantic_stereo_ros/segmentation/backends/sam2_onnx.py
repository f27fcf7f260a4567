"""SAM 2 from two ONNX files, through onnxruntime: all masks of a frame, or prompted objects. Needs torch, onnxruntime and an export."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_stereo_ros.checks import ConfigError, InputFileError, missing_dependency
from semantic_stereo_ros.models.sam2.files import Description
from semantic_stereo_ros.options import option
from semantic_stereo_ros.prompts import PromptSet
from semantic_stereo_ros.segmentation.automask.generator_config import MaskConfig
from semantic_stereo_ros.types import Disparity, Segmentation, StereoFrame


@dataclass(frozen=True)
class Config(MaskConfig):
    """Options of the masks, of the files, and of what they run on."""

    mode: str = option(
        "automatic",
        "automatic: all masks, prompted objects over them; prompted: only these. The files hold no memory of objects: "
        "to follow them through the model take the backend sam2 with its mode track",
        choices=("automatic", "prompted"),
    )
    folder: str = option("", "folder that `semantic-stereo export sam2` wrote")
    providers: str = option(
        "auto",
        "what runs the networks, comma-separated, first choice first: tensorrt (the encoder only), cuda, cpu, ...; auto = those three, if "
        "there",
    )
    threads: int = option(0, "threads of the CPU provider; 0 = one per core", minimum=0, maximum=256)
    engine_cache: str = option("", "folder in which TensorRT keeps what it compiled; empty = it compiles at each start, for minutes")
    tensorrt_fp16: bool = option(False, "let TensorRT compute in half precision")


class Backend:
    """Two onnxruntime sessions. When memory runs out, one attempt is made with fewer points at a time; `notes` says so."""

    stateful = False
    needs_disparity = False
    accepts_prompts = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._prompts = PromptSet()
        self._model: Any = None
        self._thrift: Any = None

    def check(self) -> None:
        """Raise ConfigError (no folder), InputFileError (nothing exported there) or MissingDependencyError (torch, onnxruntime)."""
        if not self.config.folder:
            raise ConfigError(
                "the segmentation backend sam2_onnx needs the folder of an export: run `semantic-stereo export sam2 --output FOLDER` and "
                "set segmentation.sam2_onnx.folder to it"
            )
        folder = Path(self.config.folder).expanduser()
        if not folder.is_dir():
            raise InputFileError(f"the folder {folder} does not exist: check segmentation.sam2_onnx.folder")
        for module in ("torch", "onnxruntime"):
            if importlib.util.find_spec(module) is None:
                raise missing_dependency(module, "sam2_onnx", "the segmentation backend sam2_onnx")
        Description.read(folder)

    def load(self) -> None:
        """Start onnxruntime. Raises what `check` raises, and InputFileError or ConfigError saying what does not fit."""
        self.check()
        from semantic_stereo_ros.models.sam2.onnx_image import Sam2Onnx
        from semantic_stereo_ros.segmentation.automask.frame_masks import Thrift

        config = self.config
        self._model = Sam2Onnx.load(
            Path(config.folder).expanduser(),
            config.providers,
            key="segmentation.sam2_onnx.providers",
            threads=config.threads,
            engine_cache=config.engine_cache,
            tensorrt_fp16=config.tensorrt_fp16,
        )
        self._thrift = Thrift(config.points_per_batch, self._model.on_cpu)

    def set_prompts(self, prompts: PromptSet) -> None:
        """All prompts in force from the next frame on."""
        self._prompts = prompts

    def reset(self, reason: str) -> None:
        """Forget prompts."""
        self._prompts = PromptSet()

    def close(self) -> None:
        """Free the sessions."""
        self._model = None

    def notes(self) -> tuple[str, ...]:
        """What is other than asked for, one sentence each; empty when all is as configured."""
        return () if self._thrift is None else self._thrift.notes

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        """Layers group, object and part (only those that are not empty, and object).

        Raises ImageError when memory does not suffice even for a few points at a time, ConfigError when onnxruntime fails otherwise.
        """
        from semantic_stereo_ros.segmentation.automask.frame_masks import refined, segment

        model, config, thrift = self._model, self.config, self._thrift
        result = thrift.run(lambda: segment(model, config, frame, disparity, self._prompts, thrift.points_per_batch), model.device)
        return refined(result, config, disparity)
