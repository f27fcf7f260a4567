"""An ONNX file run by onnxruntime: which provider (TensorRT, CUDA, CPU) does it, and what is said when it cannot."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semantic_stereo_ros.checks import ConfigError, InputFileError

logger = logging.getLogger(__name__)

AUTOMATIC = ("tensorrt", "cuda", "cpu")
TENSORRT, CPU = "TensorrtExecutionProvider", "CPUExecutionProvider"


def start(
    path: Path, asked: Sequence[str], *, key: str, required: bool, threads: int = 0, engine_cache: str = "", tensorrt_fp16: bool = False
) -> Any:
    """An InferenceSession. asked: of `choose_providers`, the first choice first; key: the parameter they come from.

    threads: of the CPU provider, 0 = one per core. Where the first one does not start, that is a ConfigError if `required`, else a warning.
    Raises InputFileError for a file that onnxruntime cannot load.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    settings = {TENSORRT: tensorrt_settings(engine_cache, tensorrt_fp16)} if TENSORRT in asked else {}
    if asked[0] != CPU and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries from pip's wheels
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[(name, settings.get(name, {})) for name in asked])
    except Exception as error:  # its exceptions have no class in common
        raise InputFileError(f"onnxruntime cannot load {path}: {short(error)}") from error
    running = session.get_providers()
    if asked[0] not in running:
        message = f"{asked[0]} could not be started for {path.name}, {running[0]} runs it"
        if required:
            raise ConfigError(f"{message}: check the driver and libraries, or set {key} to auto")
        logger.warning(message)
    return session


def available_providers() -> list[str]:
    """onnxruntime's names of what it is built with."""
    import onnxruntime

    return onnxruntime.get_available_providers()


def choose_providers(wanted: str, key: str, available: Sequence[str]) -> list[str]:
    """onnxruntime's names of the wanted providers. wanted: 'auto', or names with commas between; key: the parameter it comes from.

    Raises ConfigError for one that is not available.
    """
    by_name = {name.lower().removesuffix("executionprovider"): name for name in available}
    if is_automatic(wanted):
        return [by_name[name] for name in AUTOMATIC if name in by_name]
    names = [name.strip().lower().removesuffix("executionprovider") for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        raise ConfigError(
            f"{key} must be auto or some of {', '.join(by_name)}, got {wanted!r}: for a GPU install onnxruntime-gpu in place of onnxruntime"
        )
    return [by_name[name] for name in names]


def is_automatic(wanted: str) -> bool:
    """Whether no provider is asked for by name."""
    return wanted.strip().lower() == "auto"


def tensorrt_settings(engine_cache: str, fp16: bool) -> dict[str, Any]:
    """TensorRT's options. engine_cache: a folder, made if missing; '' = none. Raises ConfigError for one that cannot be."""
    settings: dict[str, Any] = {"trt_fp16_enable": fp16}
    if engine_cache:
        folder = Path(engine_cache).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"engine_cache must be a folder that can be written, got {folder}: {error.strerror}") from error
        settings.update(trt_engine_cache_enable=True, trt_engine_cache_path=str(folder))
    return settings


def short(error: Exception) -> str:
    """Its text on one line, cut where it becomes a listing."""
    return " ".join(str(error).split())[:300]
