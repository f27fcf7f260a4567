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


STAGED = Path(__file__).resolve().parent / "staged" / "backends"
PROMPTABLE = Path(__file__).resolve().parent / "promptable"


@pytest.fixture
def drawn_backend(monkeypatch):
    """Makes the segmentation backend 'drawn' (test/promptable/drawn.py) known, as if its file lay in segmentation/backends; its name."""
    from semantic_stereo_ros import config
    from semantic_stereo_ros.segmentation import backends

    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(PROMPTABLE)])
    config.schema.cache_clear()
    yield "drawn"
    config.schema.cache_clear()


@pytest.fixture
def staged(monkeypatch):
    """The stereo backend 'staged' of test/staged/backends, as if its file lay in stereo/backends; its module's record of what happened."""
    from semantic_stereo_ros import config
    from semantic_stereo_ros.registry import backend_module
    from semantic_stereo_ros.stereo import backends

    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(STAGED)])
    config.schema.cache_clear()
    record = backend_module("stereo", "staged").RECORD
    record.clear()
    yield record
    config.schema.cache_clear()


def pytest_terminal_summary(terminalreporter) -> None:
    """What tests measured without judging it (record_property("measured", ...)), since times are not asserted."""
    reports = (report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, []))
    lines = [str(value) for report in reports for name, value in report.user_properties if name == "measured"]
    if lines:
        terminalreporter.section("measured")
        terminalreporter.write("\n".join(lines) + "\n")
