"""A backend's name is its file's name, and an unknown name is answered with the known ones."""

import sys

import pytest

from semantic_stereo_ros import registry
from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.resources import share_file


def test_the_default_backends_are_found():
    assert "sgbm" in registry.backend_names("stereo")
    assert "geometric" in registry.backend_names("segmentation")


def test_an_unknown_backend_is_refused_with_the_known_names():
    with pytest.raises(ConfigError, match=r"unknown stereo backend 'sgmb'; known: .*sgbm"):
        registry.backend_module("stereo", "sgmb")


@pytest.mark.parametrize("name", ["../base", "base", "..base", "_private"])
def test_a_name_cannot_reach_another_module(name):
    with pytest.raises(ConfigError):
        registry.backend_module("stereo", name)


def test_a_new_file_is_a_new_backend(tmp_path, monkeypatch):
    import semantic_stereo_ros.stereo.backends as package

    (tmp_path / "mine.py").write_text("ANSWER = 42\n", encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "mine" in registry.backend_names("stereo")
    try:
        assert registry.backend_module("stereo", "mine").ANSWER == 42
    finally:
        sys.modules.pop("semantic_stereo_ros.stereo.backends.mine", None)


def test_shipped_files_are_found_and_missing_ones_named():
    assert share_file("config/labels.yaml").is_file()
    with pytest.raises(InputFileError, match=r"config/none\.yaml was not found"):
        share_file("config/none.yaml")
