"""FoundationStereo's exported form: the same result in torch, in onnxruntime, and through the stereo backend."""

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.checks import ConfigError, SemanticStereoError
from semantic_stereo_ros.models.foundation_stereo import export
from semantic_stereo_ros.models.foundation_stereo.export_form import ExportForm, PriorForm, VolumeForm, bicubic_matrix
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.fast.volume_slabs import VolumeSlabs
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig
from semantic_stereo_ros.models.foundation_stereo.volume import concatenation_volume, correlation_volume
from semantic_stereo_ros.models.onnx import metadata as onnx_metadata
from semantic_stereo_ros.models.onnx.writing import OPSET

SIZE_HW = (64, 96)
ITERATIONS = 2

# Operators of opset 17 that TensorRT's parser lists as supported (onnx-tensorrt 10.1, docs/operators.md) and the export may use.
TENSORRT = (
    "Add And AveragePool Cast Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Div Equal Erf Exp Expand Flatten Floor Gather "
    "GatherElements GreaterOrEqual Identity InstanceNormalization LayerNormalization LeakyRelu Less MatMul Mod Mul Neg Pad Pow Range "
    "ReduceL2 ReduceMax ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh Tile "
    "Transpose Unsqueeze Where"
)


@pytest.fixture(scope="module")
def make(filled_state):
    def model(attention="tokens"):
        return prepare(assemble(filled_state(), ModelConfig("vits", 64, attention)))

    return model


@pytest.fixture(scope="module")
def exported(filled_state, tmp_path_factory):
    """The file that the verb writes from a checkpoint like the official ones, and what was found while writing it."""
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'semantic_stereo_ros[export]'")
    folder = tmp_path_factory.mktemp("export")
    torch.save({"model": filled_state(), "global_step": 1, "epoch": 1}, folder / "model.pth")
    (folder / "cfg.yaml").write_text("max_disp: 416\nvit_size: vits\n")
    path = folder / "out" / "model.onnx"
    return export.export_foundation_stereo(folder / "model.pth", path, SIZE_HW, iterations=ITERATIONS, max_disp=64)


@pytest.mark.parametrize("attention", ["tokens", "heads"])
def test_export_form_computes_what_the_model_does(make, pair, attention):
    left, right = pair(*SIZE_HW)
    model = make(attention)
    with torch.no_grad():
        expected = model(left, right, ITERATIONS).disparity
        found = ExportForm(model, SIZE_HW, ITERATIONS)(left, right)
    assert expected.std() > 1  # not a trivial map
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_prior_form_equals_the_prior(make):
    """Both limits of the input's size: enlarged, and wider than 1344."""
    prior = make().feature.dino
    for size in ((64, 96), (32, 1408)):
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected, found = prior(image), PriorForm(prior, size)(image)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


def test_volume_form_and_the_slabs_equal_the_plain_volume(make):
    """More disparities than columns, too: 16 of them on 12 columns."""
    model = make()
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.randn(1, model.config.size.feature, 8, 12, generator=generator) for _ in range(2))
    pointwise, levels = model.corr_stem[0], model.config.levels
    with torch.no_grad():
        projected = model.proj_cmb(left), model.proj_cmb(right)
        plain = torch.cat([correlation_volume(left, right, levels), concatenation_volume(*projected, levels)], 1)
        slabs = VolumeSlabs(left, right, levels, model.proj_cmb, pointwise)
        torch.testing.assert_close(VolumeForm(model, 12)(left, right), pointwise(plain), rtol=0, atol=1e-5)
        torch.testing.assert_close(torch.cat([slabs.rows(0, 3), slabs.rows(3, 8)], 3), pointwise(plain), rtol=0, atol=1e-5)


def test_bicubic_matrices_interpolate_as_torch_does():
    image = torch.rand(1, 1, 64, 96)
    expected = torch.nn.functional.interpolate(image, (112, 112), mode="bicubic", align_corners=False)
    torch.testing.assert_close(bicubic_matrix(112, 64) @ image @ bicubic_matrix(112, 96).T, expected, rtol=0, atol=1e-5)


def test_exported_file_equals_the_model_in_onnxruntime(exported, make, pair):
    assert exported.difference_px < 1e-2  # on the exporter's own pair
    left, right = pair(*SIZE_HW)
    with torch.no_grad():
        expected = make()(left, right, ITERATIONS).disparity.numpy()
    assert np.abs(export.run(exported.path, left, right) - expected).max() < 1e-2


def test_exported_file_uses_only_operators_that_tensorrt_reads(exported):
    import onnx

    model = onnx.load(exported.path)
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": OPSET}
    assert Counter(node.op_type for node in model.graph.node) == exported.operators
    assert set(exported.operators) <= set(TENSORRT.split())
    for node in model.graph.node:
        if node.op_type == "Resize":  # its parser knows neither cubic interpolation nor other coordinates
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert attributes["mode"] == b"linear"
            assert attributes["coordinate_transformation_mode"] in (b"align_corners", b"half_pixel", b"pytorch_half_pixel")
        if node.op_type == "AveragePool":
            assert len(onnx.helper.get_node_attr_value(node, "kernel_shape")) == 2
    assert [i.name for i in model.graph.input] == ["left", "right"] and [o.name for o in model.graph.output] == ["disparity"]
    shape = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [1, 1, *SIZE_HW]


def test_exported_file_describes_itself(exported):
    import onnx

    model = onnx.load(exported.path, load_external_data=False)
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties[onnx_metadata.FAMILY] == onnx_metadata.OWN_FAMILY
    assert properties[onnx_metadata.MAX_DISPARITY_PX] == "64"
    assert "vits" in properties[onnx_metadata.MODEL] and f"{ITERATIONS} iterations" in properties[onnx_metadata.MODEL]
    assert "non-commercial" in properties[onnx_metadata.LICENCE]
    assert [p.name for p in exported.path.parent.iterdir()] == [exported.path.name]  # nothing temporary is left


@pytest.mark.long
def test_float16_stays_near(filled_state, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'semantic_stereo_ros[export]'")
    model = prepare(assemble(filled_state(), ModelConfig("vits", 64)))
    half = export.write(model, tmp_path / "half.onnx", SIZE_HW, ITERATIONS, "float16")
    assert 0 < half.difference_px < export.TOLERANCE_PX["float16"]


@pytest.mark.parametrize(
    "size_hw, nearest",
    [((480, 650), "480x640 or 480x672"), ((470, 640), "448x640 or 480x640"), ((1, 96), "use 64x96 "), ((32, 96), "use 64x96 ")],
)
def test_other_sizes_are_refused_with_the_nearest(size_hw, nearest):
    with pytest.raises(ConfigError, match=nearest):
        export.check_size(size_hw)


def test_a_file_that_computes_something_else_is_not_kept(make, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'semantic_stereo_ros[export]'")

    def wrong(form, example, path, inputs, outputs):
        """The mean of the left image's channels."""
        node = onnx.helper.make_node("ReduceMean", ["left"], ["disparity"], axes=[1])
        values = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, *SIZE_HW]) for name in ("left", "right")]
        result = onnx.helper.make_tensor_value_info("disparity", 1, [1, 1, *SIZE_HW])
        opset = [onnx.helper.make_opsetid("", OPSET)]
        onnx.save(
            onnx.helper.make_model(onnx.helper.make_graph([node], "wrong", values, [result]), opset_imports=opset, ir_version=8), path
        )

    monkeypatch.setattr(export, "trace", wrong)
    with pytest.raises(SemanticStereoError, match="differ from the model's by up to"):
        export.write(make(), tmp_path / "wrong.onnx", SIZE_HW, 1)
    assert not list(tmp_path.iterdir())


def test_exported_file_is_a_stereo_backend(exported, make):
    """Through the backend, which knows from the file what it expects, a frame gets the model's own disparities."""
    from semantic_stereo_ros.stereo.backends.onnx import Backend, Config
    from semantic_stereo_ros.types import StereoFrame, StereoRig

    height, width = SIZE_HW
    images = np.random.default_rng(4).integers(0, 256, (2, height, width, 3), np.uint8)
    frame = StereoFrame(images[0], images[1], StereoRig((width, height), 100.0, 100.0, width / 2, height / 2, 0.1))
    left, right = (torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in images)
    with torch.no_grad():
        expected = make()(left, right, ITERATIONS).disparity[0, 0].numpy()
    backend = Backend(Config(model=str(exported.path), threads=1, invisible=False))
    result = backend(frame)
    np.testing.assert_allclose(result.disparity_px, expected, rtol=0, atol=1e-2)
    assert result.max_px >= 64 and result.min_px <= 0
