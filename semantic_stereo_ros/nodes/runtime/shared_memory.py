"""Fast DDS's files under /dev/shm: whose they are, which of them ended processes left behind, and how those go away.

A process that is killed leaves its segment (64 MB with our profile), and no later one reclaims it. Beside each segment or port
lies `<name>_el`, which the owner holds locked (flock) while it lives; a port that several read has `<name>_sl`, locked in share.
The kernel frees both locks when the owner ends, so a lock that can be taken proves that nobody is there, other containers included.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_LOCKS = ("_el", "_sl")
_NAME = re.compile(r"(fastrtps|fastdds)_([0-9a-f]{16}|port\d+)")
_SETTLED_S = 10.0  # a younger file may be one whose owner has not locked it yet


def segments_of(pid: int) -> set[Path]:
    """Fast DDS's files of /dev/shm that a process has mapped; empty where /proc is missing or the process is gone."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    names = {Path(line.split()[-1]) for line in maps.splitlines() if f"{SHARED_MEMORY}/" in line}
    return {path for path in names if _NAME.fullmatch(path.name)}


def stale_files(now_s: float | None = None) -> list[Path]:
    """Segments and ports of this user that provably nobody uses: every lock beside them can be taken and no process maps them.

    A file of another user, one without its lock file and one that is younger than 10 s are never among them.
    """
    now_s = time.time() if now_s is None else now_s
    if not SHARED_MEMORY.is_dir() or not hasattr(os, "geteuid"):
        return []
    found = [path for path in SHARED_MEMORY.iterdir() if _NAME.fullmatch(path.name) and _is_abandoned(path, now_s)]
    used = _used() if found else set()
    return sorted(path for path in found if path not in used)


def remove_stale() -> list[Path]:
    """Remove what `stale_files` finds, with its locks and its semaphore; returns what was removed."""
    found = stale_files()
    for path in found:
        _remove(path)
    return found


def remove_orphans(segments: Iterable[Path]) -> None:
    """Remove those of `segments` (of an own child that had to be killed) that no living process has mapped."""
    used = _used()
    for path in segments:
        if path not in used:
            _remove(path)


def size_bytes(path: Path) -> int:
    """Size of a file; 0 when it has gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _used() -> set[Path]:
    processes = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return {path for pid in processes for path in segments_of(pid)}


def _is_abandoned(path: Path, now_s: float) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    locks = [lock for suffix in _LOCKS if (lock := path.with_name(path.name + suffix)).exists()]
    settled = now_s - max(status.st_mtime, status.st_ctime) > _SETTLED_S
    return status.st_uid == os.geteuid() and settled and bool(locks) and all(map(_is_free, locks))


def _is_free(lock: Path) -> bool:
    """Whether nobody holds the lock file. Ours for a moment only; it is not created when it has just gone."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _remove(path: Path) -> None:
    for file in (path, *(path.with_name(path.name + suffix) for suffix in _LOCKS), path.with_name(f"sem.{path.name}_mutex")):
        file.unlink(missing_ok=True)
