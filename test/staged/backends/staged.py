"""A stereo backend that waits for files, or is broken, as its options say; its answers are those of sgbm. Tests put it on the path."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.backends import sgbm
from semantic_stereo_ros.types import Disparity, StereoFrame

logger = logging.getLogger(f"semantic_stereo_ros.{__name__}")
RECORD: list[str] = []


def note(text: str) -> None:
    """Keep what happened, and say it in the log."""
    RECORD.append(text)
    logger.info("staged: %s", text)


def wait_for(file: str) -> None:
    while file and not Path(file).exists():
        time.sleep(0.01)


@dataclass(frozen=True)
class Config:
    name: str = option("a", "told in RECORD")
    load_until: str = option("", "loading ends when this file is there; '' = at once")
    frame_until: str = option("", "each frame ends when this file is there, and says that it begins; '' = at once")
    fails: bool = option(False, "loading fails at its end")
    missing: bool = option(False, "the check fails: its library is missing")


class Backend:
    stateful = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self._matcher = sgbm.Backend(sgbm.Config())

    def check(self) -> None:
        if self.config.missing:
            raise InputFileError("the library of staged is missing")

    def load(self) -> None:
        note(f"load {self.config.name}")
        wait_for(self.config.load_until)
        if self.config.fails:
            raise InputFileError(f"the weights of {self.config.name} are broken")

    def __call__(self, frame: StereoFrame) -> Disparity:
        if self.config.frame_until:
            logger.info("staged: a frame begins")
            wait_for(self.config.frame_until)
        return self._matcher(frame)

    def reset(self, reason: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        note(f"close {self.config.name}")
