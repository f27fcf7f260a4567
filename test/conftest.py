"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """real_data('motorcycle') -> that folder of the real stereo data; the test skips, saying what is missing, where it is not there.

    The folder is $SEMANTIC_STEREO_DATA, else ../shared/data beside the repository.
    """
    root = Path(os.environ.get("SEMANTIC_STEREO_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real data '{name}' is missing: set SEMANTIC_STEREO_DATA to the folder that holds it")
        return root / name

    return folder
