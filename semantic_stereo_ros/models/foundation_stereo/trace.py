"""Named intermediates, for parity tests and for finding where two implementations part."""

from __future__ import annotations

import torch
from torch import Tensor


class Trace:
    """Collects clones by name. `rows` collects slabs of a tensor that never exists as a whole."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[list[Tensor], int]] = {}

    def add(self, name: str, value: Tensor) -> None:
        self._parts[name] = ([value.clone()], 0)

    def rows(self, name: str, slab: Tensor) -> None:
        """A slab of rows (second to last axis), in order."""
        self._parts.setdefault(name, ([], -2))[0].append(slab.clone())

    def tensors(self) -> dict[str, Tensor]:
        return {name: torch.cat(parts, axis) for name, (parts, axis) in self._parts.items()}


class NoTrace(Trace):
    """Keeps nothing."""

    def add(self, name: str, value: Tensor) -> None:
        pass

    def rows(self, name: str, slab: Tensor) -> None:
        pass
