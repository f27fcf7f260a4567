"""Where results may be written: below the output folder and nowhere else, and never half a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from semantic_stereo_ros.checks import InputFileError

_UNSAFE = re.compile(r"[^\w.\-]+")
# Device names that Windows reserves in every folder, whatever the suffix.
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}


def safe_name(name: str, fallback: str = "frame") -> str:
    """A file name made from any text: letters, digits, '_', '-', '.'; no separators, no leading or trailing dots; <= 80 long."""
    text = _UNSAFE.sub("_", name).strip("._-")[:80].rstrip(".")
    if not text:
        return fallback
    return f"_{text}" if text.split(".")[0].lower() in _RESERVED else text


def inside(directory: str | Path, *parts: str) -> Path:
    """`directory` / sanitised parts, its parent created. Raises InputFileError when a link leads out of `directory`."""
    root = Path(directory).resolve()
    path = root.joinpath(*(safe_name(part) for part in parts))
    if not path.resolve().is_relative_to(root):
        raise InputFileError(f"{path} leads out of the output folder {root}: remove the link or choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under `path` complete or not at all; written beside it first, then renamed."""
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def output_directory(path: str | Path) -> Path:
    """The folder, created. Raises InputFileError when it cannot be one or cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"the output folder {path} cannot be made ({error.strerror}): choose another") from error
    if not os.access(path, os.W_OK):
        raise InputFileError(f"the output folder {path} cannot be written: check its permissions or choose another")
    return path


def output_file(path: str | Path) -> Path:
    """The path of a file that will be written, its folder created. Raises InputFileError when it cannot be one or cannot be written.

    Asked before the work that fills the file.
    """
    path = Path(path)
    output_directory(path.parent)
    if path.is_dir():
        raise InputFileError(f"the output {path} must be a file, but is a folder: give a file name in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputFileError(f"the output file {path} cannot be written: check its permissions or choose another")
    return path
