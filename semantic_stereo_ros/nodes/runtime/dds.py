"""Fast DDS settings of a process: a shared-memory segment large enough for images, as far as /dev/shm has room.

With Fast DDS's default segment (512 KB) best-effort images are mostly lost and reliable ones arrive late. Call
`use_large_segment()` before rclpy.init(); the profile helps only between processes that all load one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semantic_stereo_ros.nodes.runtime import shared_memory
from semantic_stereo_ros.nodes.runtime.shared_memory import SHARED_MEMORY
from semantic_stereo_ros.resources import share_file

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Fast DDS 2 and 3
SEGMENT_SIZES_MB = (64, 16, 4)
OVERHEAD_MB = 6  # what one process takes of /dev/shm beside its segment (measured: 69 MB for 64 MB)
MAX_DOMAIN_ID = 100  # ports of ids from 102 on meet the ephemeral ports


def use_large_segment(processes: int = 1) -> str:
    """Choose the largest shipped profile for which `processes` processes fit into free /dev/shm and set it in os.environ.

    A profile that the user set is left alone. Returns one sentence that says what is in use and why.
    """
    set_by_user = next((name for name in PROFILE_VARIABLES if os.environ.get(name)), None)
    if set_by_user:
        return f"Fast DDS profile: {os.environ[set_by_user]}, as {set_by_user} says"
    middleware = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if "fastrtps" not in middleware:
        return f"no Fast DDS profile: the middleware is {middleware}"
    free_mb = free_shared_memory_mb()
    if free_mb is None:
        return "no Fast DDS profile: this system has no /dev/shm"
    for size_mb in SEGMENT_SIZES_MB:
        if free_mb >= processes * (size_mb + OVERHEAD_MB):
            path = share_file(f"config/fastdds_shm_{size_mb}mb.xml")
            for name in PROFILE_VARIABLES:
                os.environ[name] = str(path)
            return f"Fast DDS profile: shared-memory segment of {size_mb} MB ({free_mb} MB of /dev/shm are free)"
    needed = SEGMENT_SIZES_MB[-1] + OVERHEAD_MB
    return (
        f"no Fast DDS profile: only {free_mb} MB of /dev/shm are free and the smallest segment needs {needed} MB per process, so "
        f"large best-effort messages may be lost; {_how_to_get_more()}"
    )


def _how_to_get_more() -> str:
    stale = shared_memory.stale_files()
    if not stale:
        return "give more (docker run --shm-size=512m)"
    size_mb = sum(shared_memory.size_bytes(file) for file in stale) / 2**20
    return f"{len(stale)} segments of ended processes hold {size_mb:.0f} MB: `semantic-stereo doctor --clean` removes them"


def free_shared_memory_mb() -> int | None:
    """Free MB of /dev/shm, or None where there is no such directory."""
    if not SHARED_MEMORY.is_dir():
        return None
    return shutil.disk_usage(SHARED_MEMORY).free // (1024 * 1024)


@contextmanager
def private_domain() -> Iterator[int]:
    """A domain id in 1..100 that no other user of this function on this machine holds, locked while the context lasts.

    Raises RuntimeError when all are taken.
    """
    import tempfile

    folder = Path(tempfile.gettempdir()) / "semantic_stereo_ros_domains"
    folder.mkdir(exist_ok=True)
    start = os.getpid()
    for offset in range(MAX_DOMAIN_ID):
        domain_id = (start + offset) % MAX_DOMAIN_ID + 1
        with (folder / f"{domain_id}.lock").open("a+b") as file:
            if _lock(file):
                yield domain_id
                return
    raise RuntimeError(f"all ROS domain ids from 1 to {MAX_DOMAIN_ID} are locked under {folder}; remove the folder if nothing runs")


def _lock(file) -> bool:
    """Lock an open file for this process without waiting; the lock goes with the file's closing or the process's end."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
