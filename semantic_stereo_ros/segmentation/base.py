"""What a segmentation backend is. One file in backends/ holds a frozen dataclass `Config` and a class `Backend`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from semantic_stereo_ros.options import option
from semantic_stereo_ros.prompts import PromptSet
from semantic_stereo_ros.types import Disparity, Segmentation, StereoFrame


@dataclass(frozen=True)
class Config:
    """Options of the stage, whatever the backend."""

    backend: str = option("geometric", "segmentation backend: the name of a file in segmentation/backends")
    switch: str = option(
        "load_first",
        "how another backend comes in: load_first keeps the old one at work until the new one is loaded and falls back on it; free_first "
        "needs memory for one only, and frames wait",
        choices=("load_first", "free_first"),
    )
    every_n: int = option(
        1, "masks of every n-th frame; of the others, the geometry is new and the objects are predicted", minimum=1, maximum=1000
    )
    max_rate_hz: float = option(0.0, "masks at most so often, by the images' stamps; 0 = no limit", unit="Hz", minimum=0.0, maximum=1000.0)


class SegmentationBackend(Protocol):
    """One instance serves one stream. `disparity` is handed over when `needs_disparity`, and may be None otherwise.

    accepts_prompts is an attribute of the class. Such a backend has `set_prompts(prompts: PromptSet)`, too (PromptableBackend).
    """

    stateful: bool
    needs_disparity: bool
    accepts_prompts: bool

    def __init__(self, config: Any) -> None: ...

    def check(self) -> None:
        """Raise, without loading anything, what is known to be wrong: options that do not fit, a library or file that is missing."""
        ...

    def load(self) -> None:
        """Check, load weights and import heavy libraries. Raises ConfigError, MissingDependencyError or InputFileError."""
        ...

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        """Segment one frame."""
        ...

    def reset(self, reason: str) -> None:
        """Forget what earlier frames left (a stamp jump, another size or rig)."""
        ...

    def close(self) -> None:
        """Free everything; the instance is not used again."""
        ...


class PromptableBackend(SegmentationBackend, Protocol):
    """A backend whose accepts_prompts is True."""

    def set_prompts(self, prompts: PromptSet) -> None:
        """All prompts in force from the next frame on, called between two frames; an empty set ends prompting.

        Every prompt fits the image; 3D boxes come as 2D ones. What is found for the prompts of one object is an Instance whose
        source_key is `prompts.source_key_of(object_id)` and whose class_name is the prompts'. `reset` forgets the prompts, too.
        """
        ...
