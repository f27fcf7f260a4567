"""The verb export: what it refuses before anything is loaded. What it writes is tested in test/models/test_export.py."""

import pytest
from typer.testing import CliRunner

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.cli.export import size_of
from semantic_stereo_ros.cli.main import app


def test_size_is_height_first():
    assert size_of("480x640") == (480, 640) and size_of(" 64X96 ") == (64, 96)
    for wrong in ("480", "480x", "480*640", "-1x32", "480x640x3"):
        with pytest.raises(ConfigError, match="HEIGHTxWIDTH"):
            size_of(wrong)


def run(tmp_path, *arguments: str):
    fixed = ["export", "foundation_stereo", "--checkpoint", str(tmp_path / "no.pth"), "--output", str(tmp_path / "out.onnx")]
    return CliRunner().invoke(app, [*fixed, *arguments])


def test_other_sizes_are_refused_with_the_nearest(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")
    result = run(tmp_path, "--size", "480x650")
    assert isinstance(result.exception, ConfigError) and "use 480x640 or 480x672" in str(result.exception)
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_checkpoint_is_said_after_the_licence(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'semantic_stereo_ros[export]'")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")
    pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")
    result = run(tmp_path, "--size", "64x96")
    assert "non-commercial" in result.output
    assert "no.pth" in str(result.exception) and "does not exist" in str(result.exception)


def test_a_checkpoint_may_be_an_official_name(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")
    monkeypatch.setenv("SEMANTIC_STEREO_CACHE", str(tmp_path / "cache"))
    result = run(tmp_path, "--size", "64x96", "--checkpoint", "foundation_stereo_11-33-40")
    assert isinstance(result.exception, InputFileError)
    assert "foundation_stereo_11-33-40 are not on this machine" in str(result.exception)
    assert str(tmp_path / "cache") in str(result.exception)


def test_an_unknown_network_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["export", "hitnet", "--size", "64x96", "--checkpoint", "x", "--output", "y"])
    assert result.exit_code == 2 and "hitnet" in result.output
    assert all(name in CliRunner().invoke(app, ["export", "--help"]).output for name in ("foundation_stereo", "sam2"))
