"""Where weights lie on this machine, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.weights.catalogue import Weights, find

VARIABLE = "SEMANTIC_STEREO_CACHE"
_BLOCK_BYTES = 1 << 22


def cache_folder() -> Path:
    """$SEMANTIC_STEREO_CACHE, else semantic_stereo_ros/weights in $XDG_CACHE_HOME or the platform's cache folder. It may not exist."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    return platform_cache() / "semantic_stereo_ros" / "weights"


def platform_cache() -> Path:
    """The folder for caches. A relative $XDG_CACHE_HOME is ignored, as the XDG base directory specification asks."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


def path_of(weights: Weights) -> Path:
    """Where the file belongs, there or not. Raises InputFileError where a link inside the cache leads out of it."""
    folder = cache_folder()
    path = folder / weights.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputFileError(f"{path} leads out of the cache folder to {path.resolve()}: remove that link, or give the file's own path")
    return path


def is_here(weights: Weights) -> bool:
    """Whether the file is there in its full size; its content is not read."""
    path = path_of(weights)
    return path.is_file() and path.stat().st_size == weights.size_bytes


def where_to_put(weights: Weights) -> str:
    """The sentence for a machine without a network, or for a file that cannot be downloaded by its address."""
    source = weights.url or f"{weights.page} (folder {Path(weights.path).parent.name}, file {weights.file_name})"
    return f"download {source} on a machine with a network and put it at {path_of(weights)}"


def locate(name: str) -> Path:
    """The checked file of a name. Raises ConfigError for an unknown name, InputFileError when it is missing or is not what it should be.

    The hash is taken once per file; a note beside it remembers size, time and hash.
    """
    weights = find(name)
    path = path_of(weights)
    if not path.is_file():
        get = f"semantic-stereo weights download {name}, or " if weights.url else ""
        raise InputFileError(f"the weights {name} are not on this machine: {get}{where_to_put(weights)}")
    verify(weights, path)
    return path


def verify(weights: Weights, path: Path, progress: Callable[[int], None] | None = None, again: bool = False) -> str:
    """Check size, and hash where one is known; what was checked, in words. Raises InputFileError when they differ.

    progress(bytes) is called as the file is read. again: read it although a note says that it was right.
    """
    size = path.stat().st_size
    if size != weights.size_bytes:
        raise InputFileError(
            f"{path} has {size} bytes, but {weights.name} has {weights.size_bytes}: remove it and download it again; a file that is meant "
            "to be different is given by its path outside the cache"
        )
    if not weights.sha256:
        return f"size {size} bytes; no hash of it is published"
    if again or _noted(path) != weights.sha256:
        check_hash(weights, path, progress)
        _note(path, weights.sha256)
    return f"size {size} bytes, SHA-256 {weights.sha256} (from {weights.hash_from})"


def accept(weights: Weights, part: Path) -> Path:
    """Give a complete download its name in one step, once it is checked. Raises InputFileError when it is wrong; then it is removed."""
    if weights.sha256:
        try:
            check_hash(weights, part)
        except InputFileError:
            part.unlink()
            raise
    path = path_of(weights)
    part.replace(path)
    if weights.sha256:
        _note(path, weights.sha256)
    return path


def check_hash(weights: Weights, path: Path, progress: Callable[[int], None] | None = None) -> None:
    """Raises InputFileError where the file's SHA-256 is not that of the catalogue."""
    found = sha256_of(path, progress)
    if found != weights.sha256:
        raise InputFileError(
            f"{path} is not {weights.name}: its SHA-256 is {found}, expected {weights.sha256} (from {weights.hash_from}); "
            "it is damaged or another file, and is refused: remove it and download it again"
        )


def sha256_of(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hexadecimal SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".checked")


def _noted(path: Path) -> str:
    """The hash that the file had when it was last read, '' when it has changed since."""
    try:
        note = json.loads(_note_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    stat = path.stat()
    same = isinstance(note, dict) and note.get("size") == stat.st_size and note.get("mtime_ns") == stat.st_mtime_ns
    return str(note.get("sha256", "")) if same else ""


def _note(path: Path, sha256: str) -> None:
    stat = path.stat()
    note = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    try:
        _note_path(path).write_text(json.dumps(note), encoding="utf-8")
    except OSError:
        return  # A cache that may only be read is checked each time.
