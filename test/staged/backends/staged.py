"""A stereo backend for tests: as slow, or as broken, as its options say; its answers are sgbm's. Put on the backends' path by the tests."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Config:
    name: str = option("a", "told in RECORD")
    load_s: float = option(0.0, "how long loading takes", unit="s", minimum=0.0)
    frame_s: float = option(0.0, "how long a frame takes", unit="s", minimum=0.0)
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
        time.sleep(self.config.load_s)
        if self.config.fails:
            raise InputFileError(f"the weights of {self.config.name} are broken")

    def __call__(self, frame: StereoFrame) -> Disparity:
        if self.config.frame_s:
            logger.info("staged: a frame begins")
            time.sleep(self.config.frame_s)
        return self._matcher(frame)

    def reset(self, reason: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        note(f"close {self.config.name}")
