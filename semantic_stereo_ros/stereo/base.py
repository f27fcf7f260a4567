"""What a stereo backend is. One file in backends/ holds a frozen dataclass `Config` and a class `Backend`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, StereoFrame


@dataclass(frozen=True)
class Config:
    """Options of the stage, whatever the backend."""

    backend: str = option("sgbm", "stereo backend: the name of a file in stereo/backends")
    switch: str = option(
        "load_first",
        "how another backend comes in: load_first keeps the old one at work until the new one is loaded and falls back on it; free_first "
        "needs memory for one only, and frames wait",
        choices=("load_first", "free_first"),
    )


class StereoBackend(Protocol):
    """One instance serves one stream. `Backend(config)` is cheap; `load()` allocates; frames follow; `close()` frees.

    A backend may have `notes() -> tuple[str, ...]`: what it does otherwise than asked, one sentence each, callable beside a frame.
    """

    stateful: bool

    def __init__(self, config: Any) -> None: ...

    def check(self) -> None:
        """Raise, without loading anything, what is known to be wrong: options that do not fit, a library or file that is missing."""
        ...

    def load(self) -> None:
        """Check, load weights and import heavy libraries. Raises ConfigError, MissingDependencyError or InputFileError."""
        ...

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair."""
        ...

    def reset(self, reason: str) -> None:
        """Forget what earlier frames left (a stamp jump, another size or rig)."""
        ...

    def close(self) -> None:
        """Free everything; the instance is not used again."""
        ...
