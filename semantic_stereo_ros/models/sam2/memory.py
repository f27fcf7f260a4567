"""What SAM 2 remembers of tracked objects: a bounded bank for each, and the tokens that the memory attention reads of many at once.

Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos", memory bank and memory attention. An object's frames are those it was
prompted in and the last ones. The package keeps every frame and attends to one object at a time; here what can never be read again goes
at once, and objects whose memories have the same number of tokens are one batch, each with its own times.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


@dataclass(frozen=True, eq=False)
class Memory:
    """One object in one frame. features: (h*w, mem_dim) bfloat16, as the package stores them; None once only the pointer is read.
    pointer: (hidden_dim,)."""

    features: Tensor | None
    pointer: Tensor


@dataclass(eq=False)
class MemoryBank:
    """One object's memories by frame number. prompted: of frames with prompts, at most prompt_frames; recent: of the last frames without.

    A prompted frame beyond the limit counts as a recent one from then on, as the package's max_cond_frames_in_attn has it.
    """

    prompt_frames: int
    memory_frames: int
    pointer_frames: int
    prompted: dict[int, Memory] = field(default_factory=dict)
    recent: dict[int, Memory] = field(default_factory=dict)

    def add(self, frame: int, memory: Memory, prompted: bool) -> None:
        """Remember the newest frame, and forget what the next frames will not read."""
        self.recent.pop(frame, None)
        (self.prompted if prompted else self.recent)[frame] = memory
        if len(self.prompted) > self.prompt_frames:
            oldest = min(self.prompted)
            self.recent[oldest] = self.prompted.pop(oldest)
        for past in [t for t in self.recent if t <= frame - max(self.memory_frames, self.pointer_frames)]:
            del self.recent[past]
        for past in [t for t in self.recent if t <= frame - self.memory_frames]:
            self.recent[past] = Memory(None, self.recent[past].pointer)

    @property
    def size_bytes(self) -> int:
        tensors = [t for m in (*self.prompted.values(), *self.recent.values()) for t in (m.features, m.pointer) if t is not None]
        return sum(t.numel() * t.element_size() for t in tensors)

    def spatial(self, frame: int) -> list[tuple[Tensor, int]]:
        """(features, place in maskmem_tpos_enc) of what is read for this frame: -1 for prompted frames, age - 1 for recent ones."""
        found = [(memory.features, -1) for memory in self.prompted.values()]
        found += [(memory.features, frame - t - 1) for t, memory in sorted(self.recent.items())]
        return [(features, place) for features, place in found if features is not None]

    def pointers(self, frame: int) -> list[tuple[Tensor, int]]:
        """(pointer, age in frames)."""
        found = [(memory.pointer, frame - t) for t, memory in self.prompted.items()]
        return found + [(memory.pointer, frame - t) for t, memory in sorted(self.recent.items()) if frame - t <= self.pointer_frames]


@dataclass(frozen=True, eq=False)
class MemoryTokens:
    """tokens, positions: (L, B, mem_dim); the last pointer_tokens of L are of object pointers."""

    tokens: Tensor
    positions: Tensor
    pointer_tokens: int


def same_structure(banks: dict[str, MemoryBank], frame: int) -> list[list[str]]:
    """The objects by the number of their tokens: each list can be one batch."""
    groups: dict[tuple[int, int], list[str]] = {}
    for key, bank in banks.items():
        groups.setdefault((len(bank.spatial(frame)), len(bank.pointers(frame))), []).append(key)
    return list(groups.values())


def memory_tokens(model: SAM2Base, banks: list[MemoryBank], frame: int, spatial_position: Tensor) -> MemoryTokens:
    """What the memory attention reads for this frame, of banks of one structure. spatial_position: (h*w, mem_dim), the encoder's."""
    spatial = [bank.spatial(frame) for bank in banks]
    pointers = [bank.pointers(frame) for bank in banks]
    features = torch.stack([torch.cat([f for f, _ in memories]) for memories in spatial], dim=1)  # (m*h*w, B, mem_dim)
    places = torch.tensor([[place for _, place in memories] for memories in spatial], device=features.device)
    time = model.maskmem_tpos_enc[:, 0, 0][places]  # (B, m, mem_dim)
    positions = (spatial_position[None, None] + time[:, :, None]).flatten(1, 2).transpose(0, 1)
    if not model.use_obj_ptrs_in_encoder or not pointers[0]:
        return MemoryTokens(features.to(positions.dtype), positions, 0)
    stacked = torch.stack([torch.stack([p for p, _ in of_object]) for of_object in pointers], dim=1)  # (p, B, hidden_dim)
    ages = torch.tensor([[age for _, age in of_object] for of_object in pointers], device=features.device).T
    pointer_tokens, pointer_positions = _split(model, stacked, _pointer_positions(model, ages, stacked))
    return MemoryTokens(
        torch.cat([features.to(pointer_tokens.dtype), pointer_tokens]), torch.cat([positions, pointer_positions]), len(pointer_tokens)
    )


def _pointer_positions(model: SAM2Base, ages: Tensor, pointers: Tensor) -> Tensor:
    """(p, B, mem_dim): the sine encoding of ages (p, B) over the longest age that is read, projected where the model learned to."""
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    if not model.add_tpos_enc_to_obj_ptrs:
        return pointers.new_zeros(*ages.shape, model.mem_dim)
    dim = model.hidden_dim if model.proj_tpos_enc_in_obj_ptrs else model.mem_dim
    encoded = get_1d_sine_pe(ages.flatten() / (model.max_obj_ptrs_in_encoder - 1), dim=dim)
    return model.obj_ptr_tpos_proj(encoded).unflatten(0, ages.shape)


def _split(model: SAM2Base, pointers: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """A pointer that is wider than a memory is hidden_dim / mem_dim tokens at one position."""
    parts = model.hidden_dim // model.mem_dim
    tokens = pointers.unflatten(2, (parts, model.mem_dim)).permute(0, 2, 1, 3).flatten(0, 1)
    return tokens, positions.repeat_interleave(parts, dim=0)
