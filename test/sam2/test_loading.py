"""Checkpoints by path: told apart by their shapes, refused with what differs."""

from __future__ import annotations

import oracle
import pytest
import torch

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.models.sam2 import loading as sam2_loading


@pytest.fixture(scope="module")
def checkpoint(filled_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save({"model": filled_state}, path)
    return path


def test_a_checkpoint_is_told_by_its_shapes_and_its_tensors_are_the_models(checkpoint, filled_state):
    model = sam2_loading.load(checkpoint, image_size=256)
    assert model.image_size == 256 and not model.training
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in filled_state.items())
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


@pytest.mark.parametrize("name", sam2_loading.MODELS)
def test_every_model_is_built_from_the_packages_configuration_and_known_again(name):
    state = sam2_loading.build(name, 256).state_dict()
    assert sam2_loading.name_of(state) == name
    assert all(value.is_meta for key, value in state.items() if key.startswith("image_encoder.trunk.blocks.0.attn"))


def test_overrides_reach_the_model():
    assert sam2_loading.build(oracle.MODEL, 256, {"num_maskmem": 4}).num_maskmem == 4


def test_what_does_not_fit_is_named(checkpoint, filled_state, tmp_path):
    with pytest.raises(InputFileError, match=r"is sam2\.1_hiera_tiny by its shapes, but sam2\.1_hiera_large is asked for"):
        sam2_loading.load(checkpoint, "sam2.1_hiera_large", 256)
    other = {**filled_state, "no_mem_embed": torch.zeros(1, 1, 7)}
    del other["memory_attention.norm.bias"]
    path = tmp_path / "other.pt"
    torch.save({"model": other}, path)
    with pytest.raises(InputFileError, match=r"1 missing: memory_attention.norm.bias; 1 of another shape: no_mem_embed is 1x1x7"):
        sam2_loading.load(path, image_size=256)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputFileError, match=r"is none of sam2\.1_hiera_tiny"):
        sam2_loading.load(path)


def test_options_that_cannot_be():
    with pytest.raises(ConfigError, match="multiple of 32, got 250"):
        sam2_loading.build(oracle.MODEL, 250)
    with pytest.raises(ConfigError, match=r"unknown SAM 2 model .huge.; known: sam2\.1_hiera_tiny"):
        sam2_loading.build("huge")
