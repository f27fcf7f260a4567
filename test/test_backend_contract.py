"""What every backend must keep, run over all that the registry finds: a new file in backends/ is tested here by being there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tiny_onnx
import tiny_sam2
from contract import check_disparity

from semantic_stereo_ros.checks import InputFileError, MissingDependencyError
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.options import build, options_of
from semantic_stereo_ros.registry import backend_module, backend_names
from semantic_stereo_ros.synthetic import plane, random_sequence
from semantic_stereo_ros.types import Disparity, Measured, Segmentation, StereoFrame

STEREO = backend_names("stereo")
SEGMENTATION = backend_names("segmentation")
DEPTH_M = 3.0
# What a backend needs that has no default: a small network that really matches, or segments.
OPTIONS = {
    "onnx": tiny_onnx.contract_options,
    "sam2": tiny_sam2.contract_options,
    "sam2_onnx": tiny_sam2.onnx_contract_options,
}


def loaded(stage: str, name: str):
    """A backend with its defaults and OPTIONS; the test skips, saying what is missing, where an extra or its weights are not installed."""
    module = backend_module(stage, name)
    backend = module.Backend(build(module.Config, OPTIONS.get(name, dict)()))
    try:
        backend.load()
    except (MissingDependencyError, InputFileError) as error:
        pytest.skip(str(error))
    return backend


def shown(scene, as_input=None) -> StereoFrame:
    """The scene's pair; beside it the truth as what the camera measured itself, which only the backend `external` reads."""
    frame = as_input(scene.frame) if as_input else scene.frame
    return dataclasses.replace(frame, measured=Measured(disparity_px=scene.disparity_px.astype(np.float32)))


def grey(frame: StereoFrame) -> StereoFrame:
    return StereoFrame(np.ascontiguousarray(frame.left[..., 1]), np.ascontiguousarray(frame.right[..., 1]), frame.rig, frame.stamp_ns)


def wide(frame: StereoFrame) -> StereoFrame:
    return StereoFrame(frame.left.astype(np.uint16) * 200, frame.right.astype(np.uint16) * 200, frame.rig, frame.stamp_ns)


@pytest.mark.parametrize("name", STEREO)
@pytest.mark.parametrize("doffs_px", [0.0, 11.5])
@pytest.mark.parametrize("as_input", [None, grey, wide], ids=["rgb8", "grey8", "rgb16"])
def test_stereo_backend_measures_a_plane(name, doffs_px, as_input):
    backend = loaded("stereo", name)
    scene = plane(DEPTH_M, size_wh=(320, 240), doffs_px=doffs_px)
    result = backend(shown(scene, as_input))
    unknown = check_disparity(result, scene.rig)

    # raw x_left - x_right: the sign and the offset are right when the depth is
    inside = (slice(16, -16), slice(48, -32))
    assert (~unknown[inside]).mean() > 0.9
    error = np.abs(result.disparity_px - scene.disparity_px)[inside]
    assert np.nanmedian(error) < 0.2 and np.nanpercentile(error, 95) < 1
    depth = disparity_to_depth(result.disparity_px, result.rig)[inside]
    assert np.nanmedian(depth) == pytest.approx(DEPTH_M, rel=0.02)
    backend.close()


@pytest.mark.parametrize("name", STEREO)
def test_stereo_backend_serves_a_stream(name):
    backend = loaded("stereo", name)
    near, far = plane(2.0, size_wh=(320, 240)), plane(6.0, size_wh=(320, 240), seed=1)
    other_size = plane(4.0, size_wh=(256, 192), doffs_px=4.0)
    before = (near.frame.left.copy(), near.frame.right.copy())
    first = backend(shown(near))
    kept = first.disparity_px.copy()
    for scene in (far, other_size, near):
        backend.reset("another scene")
        error = backend(shown(scene)).disparity_px - scene.disparity_px
        assert abs(np.nanmedian(error)) < 0.2
    np.testing.assert_array_equal(first.disparity_px, kept)  # results belong to the caller
    np.testing.assert_array_equal(near.frame.left, before[0])  # and inputs are only read
    np.testing.assert_array_equal(near.frame.right, before[1])
    backend.close()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation_backend_labels_a_scene(name):
    backend = loaded("segmentation", name)
    scene = random_sequence(seed=5, size_wh=(320, 240))[0]
    check_segmentation(backend(scene.frame, true_disparity(scene)), (240, 320))
    backend.close()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation_backend_bears_a_view_without_any_disparity(name):
    backend = loaded("segmentation", name)
    scene = plane(DEPTH_M, size_wh=(160, 120))
    nothing = np.full(scene.disparity_px.shape, np.nan, np.float32)
    unknown = Disparity(nothing, nothing, np.zeros_like(nothing), scene.rig)
    result = backend(scene.frame, unknown)
    check_segmentation(result, (120, 160))
    if backend.needs_disparity:
        assert not result.labels.any()
    backend.close()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation_backend_serves_a_stream(name):
    backend = loaded("segmentation", name)
    large, small = random_sequence(seed=6, size_wh=(320, 240))[0], random_sequence(seed=7, size_wh=(160, 120))[0]
    first = backend(large.frame, true_disparity(large))
    kept = [layer.labels.copy() for layer in first.layers]
    for scene in (small, large):
        backend.reset("another scene")
        check_segmentation(backend(scene.frame, true_disparity(scene)), scene.disparity_px.shape)
    for layer, labels in zip(first.layers, kept):
        np.testing.assert_array_equal(layer.labels, labels)
    backend.close()


def true_disparity(scene) -> Disparity:
    disparity = np.where(scene.occluded, np.nan, scene.disparity_px).astype(np.float32)
    known = np.isfinite(disparity)
    sigma = np.where(known, np.float32(0.2), np.float32(np.nan)).astype(np.float32)
    return Disparity(disparity, sigma, known.astype(np.float32), scene.rig)


def check_segmentation(result: Segmentation, shape: tuple[int, int]) -> None:
    assert isinstance(result, Segmentation)
    assert result.layers
    records = [(instance.layer, instance.label) for instance in result.instances]
    assert len(set(records)) == len(records)
    for index, layer in enumerate(result.layers):
        assert layer.labels.shape == shape and layer.labels.dtype == np.uint16
        present = sorted(int(label) for label in np.unique(layer.labels) if label)
        assert present == sorted(label for of, label in records if of == index)  # one record per label of every layer
    for instance in result.instances:
        assert 0 <= instance.score <= 1 and instance.class_name and instance.class_id >= 0
        if instance.parent is not None:
            assert instance.layer > 0 and (instance.layer - 1, instance.parent) in records
    if result.ground is not None:
        assert np.linalg.norm(result.ground.normal) == pytest.approx(1)
        assert result.ground.normal[1] < 0  # up, while the camera's y points down


@pytest.mark.parametrize(("stage", "name"), [("stereo", n) for n in STEREO] + [("segmentation", n) for n in SEGMENTATION])
def test_backend_declares_itself(stage, name):
    module = backend_module(stage, name)
    for option in options_of(module.Config).values():
        assert option.description
        assert option.parse(option.default, option.name) == option.default  # a default lies in its own range
    backend = module.Backend(build(module.Config, {}))
    assert isinstance(backend.stateful, bool)
    if stage == "segmentation":
        assert isinstance(backend.needs_disparity, bool) and isinstance(backend.accepts_prompts, bool)
    backend.close()  # closing what was never loaded is allowed


@pytest.mark.parametrize(("stage", "name"), [("stereo", n) for n in STEREO] + [("segmentation", n) for n in SEGMENTATION])
def test_importing_a_backend_imports_no_heavy_library(stage, name):
    code = (
        f"import sys, semantic_stereo_ros.{stage}.backends.{name} as m; m.Backend(m.Config());"
        "print([h for h in ('torch', 'onnxruntime', 'rclpy', 'matplotlib', 'transformers') if h in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation_backend_that_accepts_prompts_takes_them(name):
    backend = backend_module("segmentation", name).Backend
    assert backend.accepts_prompts == hasattr(backend, "set_prompts")
