"""Where the package's own data files (config/, rviz/) lie: source tree, pip install or ROS install space."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from semantic_stereo_ros.checks import InputFileError

_PACKAGE = "semantic_stereo_ros"


def share_file(relative: str) -> Path:
    """Path of a shipped file such as 'config/labels.yaml'. Raises InputFileError listing where it was looked for."""
    here = Path(__file__).resolve()
    candidates = [here.parent.parent / relative]
    candidates += [parent / "share" / _PACKAGE / relative for parent in here.parents]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) + [sys.prefix]
    candidates += [Path(prefix) / "share" / _PACKAGE / relative for prefix in prefixes if prefix]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputFileError(
        f"the package's file {relative} was not found beside {here.parent} nor under share/{_PACKAGE} of "
        "AMENT_PREFIX_PATH or the Python prefix; install the package again"
    )
