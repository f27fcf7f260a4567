"""The backend `sam2` on a synthetic scene, with weights from a file."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch

from semantic_stereo_ros.checks import ConfigError, ImageError, InputFileError
from semantic_stereo_ros.models.sam2 import memory_check
from semantic_stereo_ros.options import build
from semantic_stereo_ros.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from semantic_stereo_ros.segmentation.backends.sam2 import Backend, Config
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Disparity

FEW = {"image_size": 256, "points_per_side": 8, "min_stability": 0.7, "device": "cpu"}


@pytest.fixture(scope="module")
def checkpoint(filled_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save({"model": filled_state}, path)
    return str(path)


@pytest.fixture(scope="module")
def scene():
    return random_sequence(seed=5, size_wh=(320, 240))[0]


@pytest.fixture
def loaded(checkpoint):
    def make(**options) -> Backend:
        backend = Backend(build(Config, {**FEW, "checkpoint": checkpoint, **options}))
        backend.load()
        return backend

    return make


def truth(scene) -> Disparity:
    d = scene.disparity_px.astype(np.float32)
    return Disparity(d, np.full_like(d, 0.2), np.ones_like(d), scene.rig)


def check_layers(result, shape) -> None:
    for index, layer in enumerate(result.layers):
        assert layer.labels.shape == shape
        labels = sorted(i.label for i in result.instances if i.layer == index)
        assert labels == [int(n) for n in np.unique(layer.labels) if n] == list(range(1, len(labels) + 1))
    for instance in result.instances:
        if instance.parent is not None:
            assert any(i.layer == instance.layer - 1 and i.label == instance.parent for i in result.instances)


@pytest.mark.parametrize("adaptive", [True, False])
def test_automatic_masks_come_as_layers_with_parents(loaded, scene, adaptive):
    result = loaded(adaptive=adaptive)(scene.frame, truth(scene))
    check_layers(result, (240, 320))
    assert len(result.object_instances) > 5
    assert result.layers[result.object_layer].level == "object"
    assert any(i.parent is not None for i in result.instances)
    check_layers(loaded(adaptive=adaptive)(scene.frame, None), (240, 320))


def test_prompted_objects_carry_their_key_and_class(loaded, scene):
    backend = loaded(mode="prompted", split_at_depth=False, merge_by_depth=False)
    assert not backend(scene.frame, None).instances
    mask = np.zeros((240, 320), bool)
    mask[10:40, 250:300] = True
    prompts = PromptSet((
        PointPrompt(7, (160.0, 120.0), class_name="box"),
        BoxPrompt(9, (20.0, 150.0, 90.0, 220.0)),
        PointPrompt(9, (55.0, 185.0)),
        MaskPrompt(11, mask),
    ))  # fmt: skip
    backend.set_prompts(prompts)
    result = backend(scene.frame, None)
    check_layers(result, (240, 320))
    found = {i.source_key: i for i in result.instances}
    assert set(found) == {"prompt:7", "prompt:9", "prompt:11"}
    assert found["prompt:7"].class_name == "box" and found["prompt:9"].class_name == "object"
    assert result.labels[120, 160] == found["prompt:7"].label
    np.testing.assert_array_equal(result.labels[10:40, 250:300], found["prompt:11"].label)
    backend.reset("another stream")
    assert not backend(scene.frame, None).instances


def test_prompted_objects_lie_over_the_automatic_ones(loaded, scene):
    backend = loaded()
    mask = np.zeros((240, 320), bool)
    mask[100:150, 100:200] = True
    backend.set_prompts(PromptSet((MaskPrompt(3, mask, class_name="crate"),)))
    result = backend(scene.frame, None)
    check_layers(result, (240, 320))
    label = next(i.label for i in result.object_instances if i.source_key == "prompt:3")
    np.testing.assert_array_equal(result.labels == label, mask)


def test_objects_are_followed(loaded, scene):
    backend = loaded(mode="track", key_frame_interval=2, max_objects=8)
    assert backend.stateful
    first, second = (backend(scene.frame, truth(scene)) for _ in range(2))
    check_layers(second, (240, 320))
    keys = [{i.source_key for i in result.instances if i.source_key} for result in (first, second)]
    assert keys[0] and keys[0] & keys[1]


def test_memory_that_runs_out_costs_one_retry(loaded, scene, monkeypatch, caplog):
    backend = loaded()
    decode, batches = backend._image.decode, []

    def short(embedding, points_xy, *args, **kwargs):
        batches.append(len(points_xy))
        if len(points_xy) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(embedding, points_xy, *args, **kwargs)

    monkeypatch.setattr(backend._image, "decode", short)
    backend._thrift.points_per_batch = 16
    with caplog.at_level(logging.WARNING):
        check_layers(backend(scene.frame, None), (240, 320))
    failed = next(i for i, count in enumerate(batches) if count > 4)
    assert max(batches[failed + 1 :]) <= 4 and "4 points are decoded at a time" in backend.notes()[0]
    monkeypatch.setattr("semantic_stereo_ros.segmentation.automask.frame_masks.FEWEST_POINTS", 5)
    backend._thrift.points_per_batch = 5
    with pytest.raises(ImageError, match="no memory is left"):
        backend(scene.frame, None)


def test_what_cannot_be_is_said_before_loading(checkpoint):
    with pytest.raises(ConfigError, match="multiple of 32, got 250"):
        Backend(Config(image_size=250)).check()
    with pytest.raises(InputFileError, match="does not exist"):
        Backend(Config(checkpoint="/nowhere/sam2.pt")).check()
    with pytest.raises(InputFileError, match=r"is sam2\.1_hiera_tiny by its shapes, but sam2\.1_hiera_small is asked for"):
        Backend(dataclasses.replace(Config(checkpoint=checkpoint, device="cpu"), model="sam2.1_hiera_small")).load()


def test_a_card_that_is_too_small_is_told_what_would_fit():
    def needed(name, size):
        return memory_check.estimate_bytes(name, size, 16, 8, (240, 320))

    assert needed("sam2.1_hiera_tiny", 256) < needed("sam2.1_hiera_small", 256) < needed("sam2.1_hiera_small", 512)
    memory_check.check_fits(needed("sam2.1_hiera_small", 256), "sam2.1_hiera_small", 256, 16, 8, (240, 320))
    with pytest.raises(ConfigError, match=r"needs about .* GB are free: use sam2\.1_hiera_tiny$"):
        memory_check.check_fits(needed("sam2.1_hiera_tiny", 256), "sam2.1_hiera_small", 256, 16, 8, (240, 320))
    memory_check.check_fits(None, "sam2.1_hiera_large", 1024, 64, 64, (720, 1280))
