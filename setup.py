"""Everything static is in setup.cfg; the shipped data files are listed here because they are found by pattern."""

from collections.abc import Sequence
from pathlib import Path

from setuptools import setup

SHARE = Path("share/semantic_stereo_ros")


def data_files() -> list[tuple[str, Sequence[str]]]:
    """(target folder, files): what resources.share_file looks for, and the marker by which ament finds the package."""
    folders: dict[Path, list[str]] = {}
    for top in ("config", "launch", "rviz"):
        for file in sorted(Path(top).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                folders.setdefault(SHARE / file.parent, []).append(file.as_posix())
    folders[Path("share/ament_index/resource_index/packages")] = ["resource/semantic_stereo_ros"]
    return [(folder.as_posix(), files) for folder, files in folders.items()]


setup(data_files=data_files())
