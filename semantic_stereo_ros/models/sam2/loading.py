"""SAM 2 from the PyPI package `sam2`: its modules and YAML configurations, official checkpoints loaded by path. No torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from semantic_stereo_ros.checks import ConfigError, InputFileError, missing_dependency
from semantic_stereo_ros.models.checkpoint import load_exactly, read_checkpoint, state_dict_of

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

# name: (configuration in the package, width of the first layer, blocks of the image encoder)
MODELS = {
    f"{family}_hiera_{size}": (f"configs/{family}/{family}_hiera_{letter}.yaml", width, blocks)
    for family in ("sam2.1", "sam2")
    for size, letter, width, blocks in (
        ("tiny", "t", 96, 12),
        ("small", "s", 96, 16),
        ("base_plus", "b+", 112, 24),
        ("large", "l", 144, 48),
    )
}
# What the package's own build_sam2 sets beside its configurations: a single mask that is not stable gives way to the best of three.
SINGLE_MASK = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
SIZE_STEP = 32


def load(path: str | Path, name: str = "", image_size: int = 1024, overrides: Mapping[str, Any] | None = None) -> SAM2Base:
    """The model of a checkpoint, in eval mode; its tensors are mapped from the file.

    name: of MODELS, '' = told by the checkpoint's shapes. image_size: side of the square input, px. overrides: see `build`.
    Raises InputFileError naming what does not fit, ConfigError, and MissingDependencyError without the package.
    """
    state = state_dict_of(read_checkpoint(path), path)
    found = name_of(state)
    if not name and found is None:
        raise InputFileError(f"checkpoint {path} is none of {', '.join(MODELS)} by its shapes: set the model's name, or give another file")
    if name and found and name != found:
        raise InputFileError(f"checkpoint {path} is {found} by its shapes, but {name} is asked for: set the model to {found}")
    return assemble(state, name or found or "", image_size, overrides, path)


def assemble(
    state: Mapping[str, Tensor],
    name: str,
    image_size: int = 1024,
    overrides: Mapping[str, Any] | None = None,
    path: str | Path = "(in memory)",
) -> SAM2Base:
    """A model made of these very tensors, in eval mode. Raises InputFileError naming the entries that do not fit."""
    model = build(name, image_size, overrides)
    load_exactly(model, state, path)
    return model.eval().requires_grad_(False)


def build(name: str, image_size: int = 1024, overrides: Mapping[str, Any] | None = None) -> SAM2Base:
    """A model whose weights are not there yet (most lie on the meta device): `load_exactly` gives it some.

    overrides: of the configuration's `model`, as {'num_maskmem': 4}; '_target_' makes another class of it. Raises ConfigError for an
    unknown name or a size that the model cannot take, MissingDependencyError without the package.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown SAM 2 model {name!r}; known: {', '.join(MODELS)}")
    if image_size <= 0 or image_size % SIZE_STEP:
        raise ConfigError(
            f"SAM 2's image size must be a positive multiple of {SIZE_STEP}, got {image_size}: 1024 is what it was trained at"
        )
    try:
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        text = resources.files("sam2").joinpath(MODELS[name][0]).read_text(encoding="utf-8")
    except ImportError as error:
        raise missing_dependency(error.name or "sam2", "sam2", "SAM 2") from error
    config: Any = OmegaConf.create(text)
    changes = {"image_size": image_size, "sam_mask_decoder_extra_args": SINGLE_MASK, **(overrides or {})}
    with _EmptyOnMeta():
        model = instantiate(OmegaConf.merge(config.model, changes), _recursive_=True)
    _share_rotations(model)
    return model


def _share_rotations(model: SAM2Base) -> None:
    """Each layer of the memory attention makes the same table of rotary positions, 4 MB at 1024 px: one serves them all."""
    tables: list[Tensor] = []
    for module in model.modules():
        own = getattr(module, "freqs_cis", None)
        if isinstance(own, Tensor):
            same = next((t for t in tables if torch.equal(t, own)), None)
            if same is None:
                tables.append(own)
            else:
                module.freqs_cis = same


def name_of(state: Mapping[str, Tensor]) -> str | None:
    """The model of MODELS that a state_dict's names and shapes tell, or None."""
    first = state.get("image_encoder.trunk.patch_embed.proj.weight")
    if first is None:
        return None
    family = "sam2.1" if "no_obj_embed_spatial" in state else "sam2"
    prefix = "image_encoder.trunk.blocks."
    blocks = len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
    return next(
        (n for n, (_, width, count) in MODELS.items() if n.startswith(f"{family}_") and (width, count) == (first.shape[0], blocks)), None
    )


class _EmptyOnMeta(TorchFunctionMode):
    """Memory that a layer reserves for weights is not: they come from the file. What a layer computes when it is made stays real,
    which torch.device('meta') would not grant."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
