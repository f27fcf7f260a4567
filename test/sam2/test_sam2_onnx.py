"""SAM 2 from ONNX files answers what the model answers: logits, automatic masks, prompted objects; and says what does not fit."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import oracle
import pytest
import torch
from typer.testing import CliRunner

from semantic_stereo_ros.checks import ConfigError, ImageError, InputFileError, MissingDependencyError, SemanticStereoError
from semantic_stereo_ros.cli.main import app
from semantic_stereo_ros.models.onnx.writing import OPSET
from semantic_stereo_ros.models.sam2 import export as sam2_export
from semantic_stereo_ros.models.sam2.files import Description
from semantic_stereo_ros.models.sam2.image import Sam2Image
from semantic_stereo_ros.models.sam2.onnx_image import Sam2Onnx
from semantic_stereo_ros.options import build
from semantic_stereo_ros.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, find_masks
from semantic_stereo_ros.segmentation.backends import sam2, sam2_onnx
from semantic_stereo_ros.synthetic import random_sequence

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'semantic_stereo_ros[sam2_onnx]'")

# Operators that TensorRT's parser lists as supported (onnx-tensorrt 10.1, docs/operators.md) and these files may use.
TENSORRT = (
    "Add Cast Concat Constant ConstantOfShape Conv Cos Div Einsum Equal Erf Expand Flatten Gather Gemm GreaterOrEqual Identity "
    "LayerNormalization MatMul MaxPool Mod Mul Pad Pow ReduceMean Relu Reshape Resize Shape Sigmoid Sin Slice Softmax Split Sqrt Squeeze "
    "Sub Tile Transpose Unsqueeze Where"
)
KEY = "segmentation.sam2_onnx.providers"


@pytest.fixture(scope="module")
def checkpoint(filled_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save({"model": filled_state}, path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    """The folder that the command line writes, and what it said."""
    folder = tmp_path_factory.mktemp("export") / "tiny"
    arguments = ["export", "sam2", "--model", "tiny", "--size", str(oracle.IMAGE_SIZE), "--checkpoint", str(checkpoint), "-o", str(folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    return folder, result.output


@pytest.fixture(scope="module")
def loaded(exported):
    return Sam2Onnx.load(exported[0], "cpu", key=KEY, threads=1)


@pytest.fixture(scope="module")
def both(model, loaded):
    """(model, its embedding), (the files, theirs) of one image."""
    return [(run, run.encode(oracle.textured_image())) for run in (Sam2Image(model), loaded)]


def test_the_export_is_whole_and_says_how_near_it_is(exported):
    folder, said = exported
    assert sorted(p.name for p in folder.iterdir()) == ["decoder.onnx", "encoder.onnx", "sam2.yaml"]
    described = Description.read(folder)
    assert (described.model, described.image_size) == (oracle.MODEL, oracle.IMAGE_SIZE)
    assert float(said.split("scores: ")[1].split()[0]) < 1e-3
    assert "segmentation.sam2_onnx.folder=" in said
    for part in (described.encoder, described.decoder):
        file = onnx.load(folder / part.file)
        onnx.checker.check_model(file, full_check=True)
        assert {opset.domain: opset.version for opset in file.opset_import} == {"": OPSET}
        assert {node.op_type for node in file.graph.node} <= set(TENSORRT.split())
        assert tuple(i.name for i in file.graph.input) == part.inputs and tuple(o.name for o in file.graph.output) == part.outputs
    for node in onnx.load(folder / "encoder.onnx").graph.node:
        if node.op_type == "Resize":  # its parser knows no cubic interpolation
            assert onnx.helper.get_node_attr_value(node, "mode") in (b"nearest", b"linear")


@pytest.mark.parametrize(("objects", "points"), [(1, 1), (7, 1), (3, 4)])
def test_logits_and_scores_are_the_models_for_any_number_of_prompts(both, objects, points):
    generator = torch.Generator().manual_seed(objects)
    xy = torch.rand(objects, points, 2, generator=generator) * torch.tensor([320.0, 240.0])
    labels = torch.randint(0, 2, (objects, points), generator=generator)
    labels[:, 0] = 1
    boxes = torch.cat([xy[:, 0] * 0.5, xy[:, 0] * 0.5 + 60], dim=1)
    for options in ({}, {"boxes_xyxy": boxes}, {"boxes_xyxy": boxes, "multimask": False}):
        (expected, expected_scores), (found, found_scores) = (run.decode(e, xy, labels, **options) for run, e in both)
        assert expected.std() > 1 and found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(found_scores, expected_scores, rtol=0, atol=1e-5)
    (only_box, _), (box_found, _) = (run.decode(e, boxes_xyxy=boxes, multimask=False) for run, e in both)
    torch.testing.assert_close(box_found, only_box, rtol=0, atol=1e-3)


def test_a_mask_is_a_start_for_both(both):
    xy, labels = torch.tensor([[[150.0, 100.0]], [[40.0, 60.0]]]), torch.ones(2, 1)
    start = both[0][0].decode(both[0][1], xy, labels)[0][:, :1]
    (expected, scores), (found, found_scores) = (run.decode(e, xy, labels, mask_logits=start, multimask=False) for run, e in both)
    plain = both[0][0].decode(both[0][1], xy, labels, multimask=False)[0]
    assert (expected - plain).abs().max() > 0.1  # the mask makes a difference
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(found_scores, scores, rtol=0, atol=1e-5)


def test_automatic_masks_are_those_of_the_package(loaded, reference_masks):
    image, given = oracle.textured_image(), oracle.GENERATOR
    options = Options(given["points_per_side"], 16, given["pred_iou_thresh"], given["stability_score_thresh"], 1.0, given["box_nms_thresh"])
    masks = as_masks(find_masks(loaded, image, options), image.shape[:2]).flatten(1).float()
    theirs = torch.from_numpy(np.array([record["segmentation"] for record in reference_masks])).flatten(1).float()
    common = theirs @ masks.T
    overlaps = common / (theirs.sum(1)[:, None] + masks.sum(1)[None] - common)
    assert len(masks) == len(theirs) >= oracle.FEWEST_MASKS
    assert (overlaps.max(1).values >= 0.98).float().mean() >= 0.98


@pytest.mark.parametrize("mode", ["automatic", "prompted"])
def test_the_backend_segments_as_the_backend_sam2_does(mode, exported, checkpoint):
    scene = random_sequence(seed=5, size_wh=(320, 240))[0]
    few = {"mode": mode, "points_per_side": 8, "min_stability": 0.7}
    there = sam2.Backend(build(sam2.Config, {**few, "checkpoint": str(checkpoint), "image_size": 256, "device": "cpu"}))
    here = sam2_onnx.Backend(build(sam2_onnx.Config, {**few, "folder": str(exported[0]), "threads": 1}))
    mask = np.zeros((240, 320), bool)
    mask[10:40, 250:300] = True
    prompts = (PointPrompt(7, (160.0, 120.0), class_name="cup"), BoxPrompt(9, (20.0, 150.0, 90.0, 220.0)), PointPrompt(9, (55.0, 185.0)))
    results = []
    for backend in (there, here):
        backend.load()
        backend.set_prompts(PromptSet((*prompts, MaskPrompt(9, mask))))
        results.append(backend(scene.frame, None))
    expected, found = results
    keys = [i.source_key for i in expected.instances if i.source_key]
    assert keys == ["prompt:7", "prompt:9"] and (mode == "prompted" or len(expected.instances) > 5)
    assert [dataclasses.replace(i, score=0.0) for i in found.instances] == [dataclasses.replace(i, score=0.0) for i in expected.instances]
    assert [i.score for i in found.instances] == pytest.approx([i.score for i in expected.instances], abs=2e-3)
    same = [(a.labels == b.labels).mean() for a, b in zip(found.layers, expected.layers)]
    assert len(found.layers) == len(expected.layers) and min(same) > 0.999
    here.reset("another stream")
    assert not [i for i in here(scene.frame, None).instances if i.source_key]
    here.close()


def test_following_is_refused():
    with pytest.raises(ConfigError, match="mode must be one of automatic, prompted, got 'track'"):
        build(sam2_onnx.Config, {"mode": "track"})
    assert "backend sam2" in sam2_onnx.Config.__dataclass_fields__["mode"].metadata["description"]


def test_what_is_missing_is_said_before_loading(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="run `semantic-stereo export sam2"):
        sam2_onnx.Backend().check()
    with pytest.raises(InputFileError, match="does not exist"):
        sam2_onnx.Backend(sam2_onnx.Config(folder=str(tmp_path / "none"))).check()
    with pytest.raises(InputFileError, match=r"sam2\.yaml does not exist"):
        sam2_onnx.Backend(sam2_onnx.Config(folder=str(tmp_path))).check()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime'.*pip install 'semantic_stereo_ros\[sam2_onnx\]'"):
        sam2_onnx.Backend(sam2_onnx.Config(folder=str(tmp_path))).check()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("image_size: 256", "image_size: 512", "image_size 512: the files do not belong together"),
        ("inputs: [image]", "inputs: [pixels]", "has the inputs image, but sam2.yaml says pixels"),
        ("inputs: [image]", "inputs: [image, more]", "must have 1 inputs and 3 outputs"),
        ("file: decoder.onnx", "file: other.onnx", "other.onnx does not exist"),
        ("image_size: 256", "image_size: many", "must say model, image_size"),
        ("encoder:", "coder:", "'encoder' is wrong or missing"),
        ("encoder:", "{", "is wrong or missing"),
    ],
)
def test_a_description_that_does_not_fit_is_said(exported, tmp_path, before, after, message):
    for file in exported[0].iterdir():
        (tmp_path / file.name).symlink_to(file)
    text = (exported[0] / Description.FILE).read_text(encoding="utf-8")
    assert before in text
    (tmp_path / Description.FILE).unlink()
    (tmp_path / Description.FILE).write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(InputFileError, match=message):
        Sam2Onnx.load(tmp_path, "cpu", key=KEY)


def test_a_provider_that_is_not_there_is_said(exported):
    with pytest.raises(ConfigError, match=r"segmentation\.sam2_onnx\.providers must be auto or some of .*, got 'magic'"):
        Sam2Onnx.load(exported[0], "magic", key=KEY)
    automatic = Sam2Onnx.load(exported[0], "auto", key=KEY)
    assert automatic.providers[1] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert automatic.on_cpu == (automatic.providers[1] == "CPUExecutionProvider")


def test_memory_that_runs_out_costs_one_retry(exported, monkeypatch):
    backend = sam2_onnx.Backend(build(sam2_onnx.Config, {"folder": str(exported[0]), "threads": 1, "points_per_side": 4}))
    backend.load()
    frame, decoder = random_sequence(seed=5, size_wh=(320, 240))[0].frame, backend._model._decoder

    class Short:
        """A session that fails as onnxruntime does."""

        def __init__(self, fails):
            self.io_binding, self.get_providers, self.fails = decoder.io_binding, decoder.get_providers, fails

        def run_with_iobinding(self, binding):
            if self.fails:
                self.fails -= 1
                raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 1")
            decoder.run_with_iobinding(binding)

    monkeypatch.setattr(backend._model, "_decoder", Short(1))
    assert backend(frame, None).layers and "memory ran out: 4 points" in backend.notes()[0]
    monkeypatch.setattr(backend._model, "_decoder", Short(100))
    with pytest.raises(ImageError, match="no memory is left"):
        backend(frame, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "250"], "must be a positive multiple of 32, got 250"),
        (["--model", "huge"], "must be tiny, small, base_plus, large"),
        (["--model", "small"], r"is sam2\.1_hiera_tiny by its shapes, but sam2\.1_hiera_small is asked for"),
        (["--checkpoint", "none.pt"], "none.pt does not exist"),
        (["--output", __file__], "but .* is a file: give a folder"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_sentence(checkpoint, tmp_path, arguments, message):
    fixed = ["export", "sam2", "--size", "256", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, fixed + arguments)
    assert isinstance(result.exception, SemanticStereoError)
    with pytest.raises(type(result.exception), match=message):
        raise result.exception
    assert not list(tmp_path.rglob("*"))


def test_files_that_compute_something_else_are_not_kept(checkpoint, tmp_path, monkeypatch):
    write = sam2_export._write

    def wrong(network, folder, described):
        network.sam_mask_decoder.iou_prediction_head.layers[-1].bias.add_(1)
        return write(network, folder, described)

    monkeypatch.setattr(sam2_export, "_write", wrong)
    with pytest.raises(SemanticStereoError, match="differ from the model's by up to"):
        sam2_export.export_sam2(checkpoint, tmp_path / "out", image_size=64)
    assert not list((tmp_path / "out").iterdir())
