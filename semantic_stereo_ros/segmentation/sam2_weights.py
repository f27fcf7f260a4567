"""Which file SAM 2's weights are read from."""

from __future__ import annotations

from pathlib import Path

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.weights import cache
from semantic_stereo_ros.weights.catalogue import CATALOGUE

MODELS = tuple(f"{family}_hiera_{size}" for family in ("sam2.1", "sam2") for size in ("tiny", "small", "base_plus", "large"))


def checkpoint_of(checkpoint: str, model: str) -> Path:
    """The file. checkpoint: a path, an official name, or '' = the official file of `model`. Raises InputFileError when it is not there."""
    if not checkpoint:
        return cache.locate(model)
    if checkpoint in CATALOGUE:
        return cache.locate(checkpoint)
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise InputFileError(f"checkpoint {path} does not exist: give a file, or leave it empty for {model}'s official one")
    return path
