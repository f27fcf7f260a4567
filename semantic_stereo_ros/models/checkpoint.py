"""Reading checkpoint files without running their code and without a second copy in memory."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semantic_stereo_ros.checks import InputFileError, MissingDependencyError

SHOWN = 5


def read_checkpoint(path: str | Path) -> Any:
    """What torch.save or safetensors wrote, its tensors mapped from the file: pages are read when they are first used.

    Only tensors and plain containers are accepted; a file that holds other pickled objects is refused. Raises InputFileError,
    and MissingDependencyError for a .safetensors file without that library.
    """
    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"checkpoint {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise MissingDependencyError(
                f"reading {path} needs the Python module 'safetensors', which is not installed: pip install safetensors"
            ) from error
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputFileError(f"checkpoint {path} is no valid safetensors file: {error}") from error
    try:
        # Files of torch before 1.6 are no zip archives and cannot be mapped.
        with path.open("rb") as file:
            mapped = file.read(4) == b"PK\x03\x04"
        return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "Weights only load failed" not in str(error):
            raise _corrupt(path, error) from error
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = (
            f"holds pickled objects other than tensors ({found[1]})" if found else "is no checkpoint, or holds objects other than tensors"
        )
        raise InputFileError(
            f"checkpoint {path} {what}, which could run any code when read, and is refused; save its state_dict alone, or convert it to "
            "safetensors on a machine that you can lose"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> InputFileError:
    """Of torch's words the first sentence, where they are words."""
    first = " ".join(str(error).split()).partition(". ")[0]
    reason = first if " " in first else "torch cannot read it"
    return InputFileError(f"checkpoint {path} of {path.stat().st_size} bytes is cut short or no checkpoint ({reason}): copy it again")


def state_dict_of(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The state_dict in what a checkpoint held: itself, or under 'model' or 'state_dict'; a 'module.' prefix is removed."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        found = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else type(content).__name__
        raise InputFileError(f"checkpoint {path} holds no state_dict (tensors by name), but: {found or 'nothing'}")
    prefix = "module." if all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Give a model (on the meta device, too) the tensors themselves, without a copy. Raises InputFileError naming what differs."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    shapes = [
        f"{name} is {_shape(state[name])} but should be {_shape(value)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    faults = [
        f"{len(found)} {what}: {', '.join(found[:SHOWN])}{', ...' if len(found) > SHOWN else ''}"
        for what, found in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if found
    ]
    if faults:
        raise InputFileError(f"checkpoint {path} does not fit the model ({len(expected)} entries): {'; '.join(faults)}")
    model.load_state_dict(dict(state), assign=True)


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape)) or "a scalar"
