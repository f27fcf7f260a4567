"""Checkpoint files: official form, other forms, damaged ones, and ones that would run code."""

import argparse
import pickle
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.checks import ConfigError, InputFileError, MissingDependencyError
from semantic_stereo_ros.models.foundation_stereo.loading import load, read_config
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig


def test_official_file_with_its_configuration(filled_state, tmp_path):
    state = filled_state()
    torch.save({"model": state, "global_step": 3, "epoch": 1, "optimizer": {"state": {0: torch.zeros(3)}}}, tmp_path / "model_best_bp2.pth")
    (tmp_path / "cfg.yaml").write_text("max_disp: 192\nvit_size: vits\nhidden_dims: [128, 128, 128]\n", encoding="utf-8")
    model = load(tmp_path / "model_best_bp2.pth")
    assert model.config == ModelConfig("vits", 192) and not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    (tmp_path / "cfg.yaml").write_text("max_disp: 192\n", encoding="utf-8")  # without vit_size it is vitl
    with pytest.raises(InputFileError, match=r"is of variant vits, but vitl is what .*cfg.yaml says.*write 'vit_size: vits' there"):
        load(tmp_path / "model_best_bp2.pth")


def test_bare_and_prefixed_state_dicts_and_safetensors(filled_state, tmp_path):
    state = filled_state()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.pth")
    assert load(tmp_path / "a.pth").config.variant == "vits"
    save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    save_file(state, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors").proj_cmb.weight, state["proj_cmb.weight"])


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_code_in_a_checkpoint_is_refused_and_not_run(filled_state, tmp_path):
    marker = tmp_path / "code-ran"
    torch.save({"model": {"x": torch.zeros(1)}, "extra": Malicious(marker)}, tmp_path / "bad.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Malicious(marker)))
    for name in ("bad.pth", "raw.pth"):
        with pytest.raises(InputFileError, match="refused"):
            load(tmp_path / name)
    assert not marker.exists()
    torch.save({"model": {"x": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}, tmp_path / "args.pth")
    with pytest.raises(InputFileError, match=r"other than tensors \(argparse\.Namespace\), which could run") as refused:
        load(tmp_path / "args.pth")
    assert "weights_only" not in str(refused.value), "torch's advice is to run the code"


def test_what_does_not_fit_is_named(filled_state, tmp_path):
    state = filled_state()
    del state["proj_cmb.bias"]
    state["something.else"] = torch.zeros(2)
    state["cam.fc.0.weight"] = torch.zeros(9, 128, 1, 1)
    torch.save({"model": state}, tmp_path / "c.pth")
    with pytest.raises(InputFileError) as caught:
        load(tmp_path / "c.pth")
    for words in ("proj_cmb.bias", "something.else", "cam.fc.0.weight is 9x128x1x1 but should be 8x128x1x1"):
        assert words in str(caught.value)
    with pytest.raises(InputFileError, match="variant vits, but vitl"):
        load(tmp_path / "c.pth", ModelConfig("vitl"))


def test_missing_empty_cut_and_foreign_files(filled_state, tmp_path):
    with pytest.raises(InputFileError, match="does not exist"):
        load(tmp_path / "none.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"model": filled_state()}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5_000_000])
    (tmp_path / "text.pth").write_text("not a checkpoint", encoding="utf-8")
    with pytest.raises(InputFileError, match=r"text.pth is no checkpoint, or holds objects other than tensors"):
        load(tmp_path / "text.pth")
    for name in ("empty.pth", "cut.pth"):
        size = (tmp_path / name).stat().st_size
        with pytest.raises(InputFileError, match=rf"{name} of {size} bytes is cut short or no checkpoint \(.*\w.*\)"):
            load(tmp_path / name)
    torch.save({"weights": [1, 2]}, tmp_path / "other.pth")
    with pytest.raises(InputFileError, match="holds no state_dict"):
        load(tmp_path / "other.pth")


def test_a_missing_reader_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"pip install safetensors$"):
        load(tmp_path / "a.safetensors")


def test_configurations_of_another_network_are_refused(tmp_path):
    path = tmp_path / "cfg.yaml"
    path.write_text("max_disp: 416\n", encoding="utf-8")
    assert read_config(path) == ModelConfig("vitl", 416)
    path.write_text("corr_radius: 8\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="corr_radius is 8"):
        read_config(path)
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(InputFileError, match="mapping"):
        read_config(path)
