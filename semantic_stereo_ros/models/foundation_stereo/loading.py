"""From a checkpoint file to a model: the official files ({'model': ..., 'epoch': ...} with cfg.yaml beside), or a bare state_dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.models.checkpoint import load_exactly, read_checkpoint, state_dict_of
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.variants import VARIANTS, ModelConfig

# What this implementation has built in; a configuration that says otherwise belongs to another network.
FIXED = {"corr_levels": 2, "corr_radius": 4, "hidden_dims": [128, 128, 128], "n_gru_layers": 3, "n_downsample": 2}
POSITIONS = "feature.dino.depth_anything.pretrained.pos_embed"


def load(path: str | Path, config: ModelConfig | None = None) -> FoundationStereo:
    """The model of a checkpoint, in eval mode; its tensors are mapped from the file.

    config: None takes the cfg.yaml beside the checkpoint, then the shapes in it. Raises InputFileError and ConfigError.
    """
    path = Path(path)
    state = state_dict_of(read_checkpoint(path), path)
    found = variant_of(state)
    beside, remedy = path.parent / "cfg.yaml", f"is asked for: set variant to {found}"
    if config is None and beside.is_file():
        config, remedy = read_config(beside), f"is what {beside} says, or means without vit_size: write 'vit_size: {found}' there"
    config = config or ModelConfig(found or "vitl")
    if found and config.variant != found:
        raise InputFileError(f"checkpoint {path} is of variant {found}, but {config.variant} {remedy}")
    return assemble(state, config, path)


def assemble(state: Mapping[str, Tensor], config: ModelConfig, path: str | Path = "(in memory)") -> FoundationStereo:
    """A model made of these very tensors. Raises InputFileError naming the entries that do not fit."""
    with torch.device("meta"):
        model = FoundationStereo(config)
    load_exactly(model, state, path)
    return model.eval().requires_grad_(False)


def variant_of(state: Mapping[str, Tensor]) -> str | None:
    """The size that a state_dict's shapes tell, or None."""
    width = state[POSITIONS].shape[-1] if POSITIONS in state else None
    return next((v.name for v in VARIANTS.values() if v.width == width), None)


def read_config(path: str | Path) -> ModelConfig:
    """cfg.yaml of an official checkpoint; vit_size defaults to vitl. Raises InputFileError; ConfigError for another network."""
    try:
        values: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputFileError(f"{path} must hold a mapping, got {type(values).__name__}")
    for key, value in FIXED.items():
        if values.get(key, value) != value:
            raise ConfigError(f"{path}: {key} is {values[key]!r}; this implementation has {value!r}")
    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    max_disp = values.get("max_disp", defaults["max_disp"])
    if not isinstance(max_disp, int):
        raise ConfigError(f"{path}: max_disp must be an integer, got {max_disp!r}")
    return ModelConfig(str(values.get("vit_size", "vitl")), max_disp)
