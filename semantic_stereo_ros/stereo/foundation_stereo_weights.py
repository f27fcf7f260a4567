"""Which file FoundationStereo's weights are read from, and what its licence says."""

from __future__ import annotations

import logging
from pathlib import Path

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.weights import cache
from semantic_stereo_ros.weights.catalogue import CATALOGUE, Weights

logger = logging.getLogger(__name__)

OFFICIAL = {"vitl": "foundation_stereo_23-51-11", "vits": "foundation_stereo_11-33-40"}


def checkpoint_of(checkpoint: str, variant: str) -> tuple[Path, Weights | None]:
    """The file, and its catalogue entry when it was chosen by name. Raises InputFileError when it is not there."""
    if checkpoint and checkpoint not in CATALOGUE:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InputFileError(f"checkpoint {path} {what}; names of official ones: {', '.join(OFFICIAL.values())}")
        return path, None
    if checkpoint:
        if checkpoint not in OFFICIAL.values():
            raise ConfigError(f"{checkpoint} is not a FoundationStereo checkpoint; official ones: {', '.join(OFFICIAL.values())}")
        names = [checkpoint]
    elif variant == "auto":
        names = list(OFFICIAL.values())
    elif variant in OFFICIAL:
        names = [OFFICIAL[variant]]
    else:
        raise ConfigError(f"no weights of variant {variant} were published: give your own file as checkpoint, or take vits or vitl")
    for weights in (CATALOGUE[name] for name in names):
        if cache.path_of(weights).is_file():
            return cache.path_of(weights), weights
    wanted = CATALOGUE[names[0]]
    raise InputFileError(
        f"the weights {' and '.join(names)} are not on this machine: {cache.where_to_put(wanted)}; or give another file as checkpoint"
    )


def show_licence(path: Path) -> None:
    """Log what the licence of an official file forbids, wherever the file lies."""
    size = path.stat().st_size
    for weights in (CATALOGUE[name] for name in OFFICIAL.values()):
        if weights.size_bytes == size:
            logger.warning("%s: %s, %s", weights.name, weights.licence.name, weights.licence.summary)
