"""The backend onnx: each family's conventions on graphs that say what they were fed with, and a real matcher through all options."""

import logging
import sys

import numpy as np
import pytest
from tiny_onnx import Graph, constant_map, matcher, mean_of_channel

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'semantic_stereo_ros[onnx]'")

from semantic_stereo_ros.checks import ConfigError, InputFileError, MissingDependencyError
from semantic_stereo_ros.models.onnx.session import choose_providers, tensorrt_settings
from semantic_stereo_ros.stereo.backends.onnx import Backend, Config
from semantic_stereo_ros.stereo.refine import consistent_difference
from semantic_stereo_ros.synthetic import plane, random_sequence
from semantic_stereo_ros.types import StereoFrame, StereoRig

HEIGHT, WIDTH = 64, 96
LEFT_RGB, RIGHT_RGB = (10, 100, 200), (30, 120, 250)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def started(path, **options) -> Backend:
    backend = Backend(Config(model=str(path), threads=1, **options))
    backend.load()
    return backend


def plain_frame(width=WIDTH, height=HEIGHT, left=LEFT_RGB, right=RIGHT_RGB) -> StereoFrame:
    """Two images of one colour each."""
    images = [np.broadcast_to(np.array(c, np.uint8), (height, width, 3)).copy() for c in (left, right)]
    return StereoFrame(images[0], images[1], StereoRig((width, height), 100.0, 100.0, width / 2, height / 2, 0.1))


def answer(backend: Backend, frame: StereoFrame | None = None) -> float:
    """The one value of a constant map, at the middle of the frame."""
    result = backend(frame or plain_frame())
    middle = result.disparity_px[result.rig.shape[0] // 2, result.rig.shape[1] // 2 - 4 : result.rig.shape[1] // 2 + 4]
    assert middle.std() < 1e-4
    return float(middle[0])


GREY = [round(0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]) for c in (LEFT_RGB, RIGHT_RGB)]
BOTH = {"left": [1, 3, HEIGHT, WIDTH], "right": [1, 3, HEIGHT, WIDTH]}
FULL = [1, 1, HEIGHT, WIDTH]

# By family: the graph's inputs, the name and shape of its output, and what each channel of each input should hold (from the sources that
# the family's file names, not from that file).
FED = {
    "semantic_stereo": (BOTH, "disparity", FULL, {"left": LEFT_RGB, "right": RIGHT_RGB}),
    "foundation_stereo": (BOTH, "disp", FULL, {"left": LEFT_RGB, "right": RIGHT_RGB}),
    "fast_foundation_stereo": (
        {"left_image": BOTH["left"], "right_image": BOTH["right"]},
        "disparity",
        FULL,
        {
            f"{side}_image": [(value / 255 - mean) / std for value, mean, std in zip(colour, *IMAGENET)]
            for side, colour in (("left", LEFT_RGB), ("right", RIGHT_RGB))
        },
    ),
    "hitnet": (
        {"input": [1, 6, HEIGHT, WIDTH]},
        "reference_output_disparity",
        [1, HEIGHT, WIDTH, 1],
        {"input": [value / 255 for value in LEFT_RGB + RIGHT_RGB]},
    ),
    "hitnet_grey": (
        {"input": [1, 2, HEIGHT, WIDTH]},
        "reference_output_disparity",
        [1, HEIGHT, WIDTH, 1],
        {"input": [value / 255 for value in GREY]},
    ),
    "crestereo": ({"l": BOTH["left"], "r": BOTH["right"]}, "flow", [1, 2, HEIGHT, WIDTH], {"l": LEFT_RGB, "r": RIGHT_RGB}),
    "crestereo_combined": (
        {
            "init_left": [1, 3, HEIGHT // 2, WIDTH // 2],
            "init_right": [1, 3, HEIGHT // 2, WIDTH // 2],
            "next_left": BOTH["left"],
            "next_right": BOTH["right"],
        },
        "flow",
        [1, 2, HEIGHT, WIDTH],
        {"init_left": LEFT_RGB, "init_right": RIGHT_RGB, "next_left": LEFT_RGB, "next_right": RIGHT_RGB},
    ),
    "lite_any_stereo": (BOTH, "disparity", FULL, {"left": LEFT_RGB, "right": RIGHT_RGB}),
    "raft_stereo": (BOTH, "upscaled_disparity", FULL, {"left": LEFT_RGB, "right": RIGHT_RGB}),
}
SIGN = {"raft_stereo": -1}


def cases():
    return [(family, name, channel) for family, (_, _, _, fed) in FED.items() for name in fed for channel in range(len(fed[name]))]


@pytest.mark.parametrize("family, name, channel", cases())
def test_a_family_feeds_each_channel(family, name, channel, tmp_path):
    """The graph answers the mean of one channel of one input: colour order, normalisation, size and stacking are as published."""
    inputs, output, shape, fed = FED[family]
    g = Graph(inputs)
    value = g.op("Mul", mean_of_channel(g, name, channel), g.constant(np.float32(0.125)))  # 0..255 within the image's width
    path = g.save(tmp_path / "model.onnx", {output: constant_map(g, value, shape)})
    found = answer(started(path, family=family)) / 0.125
    assert found * SIGN.get(family, 1) == pytest.approx(fed[name][channel], abs=2e-3)


@pytest.mark.parametrize("family", FED)
def test_a_family_reads_the_disparity(family, tmp_path):
    """A known map with a slant along both axes, in the family's layout and sign; other channels and outputs hold something else."""
    inputs, output, shape, _ = FED[family]
    truth = (8 + 0.05 * np.arange(WIDTH)[None] + 0.02 * np.arange(HEIGHT)[:, None]).astype(np.float32)
    full = np.full(shape, -1000, np.float32)
    if shape[-1] == 1:
        full[0, :, :, 0] = truth
    else:
        full[0, 0] = truth * SIGN.get(family, 1)
    g = Graph(inputs)
    first = next(iter(inputs))
    zero = g.op("Mul", mean_of_channel(g, first, 0), g.constant(np.float32(0)))
    path = g.save(tmp_path / "model.onnx", {output: g.op("Add", g.constant(full), zero), "unread": zero})
    result = started(path, family=family)(plain_frame())
    known = np.isfinite(result.disparity_px)
    np.testing.assert_allclose(result.disparity_px[known], truth[known], atol=1e-4)
    np.testing.assert_array_equal(known, np.arange(WIDTH)[None] - truth >= 0)  # what lies left of the right image is unknown
    assert (result.confidence[known] == np.float32(0.9)).all() and (result.confidence[~known] == 0).all()


def own_family(tmp_path, text: str) -> str:
    path = tmp_path / "family.yaml"
    path.write_text("description: a test's\ninputs: [{shows: [left]}, {shows: [right]}]\n" + text)
    return str(path)


@pytest.mark.parametrize(
    "text, shape, value, expected_px",
    [
        ("output: {unit: output_px}", [1, 1, HEIGHT // 4, WIDTH // 4], 3.0, 12.0),
        ("output: {unit: px}", [1, 1, HEIGHT // 4, WIDTH // 4], 3.0, 3.0),
        ("output: {unit: width}", [1, 1, HEIGHT, WIDTH], 0.125, 12.0),
        ("output: {unit: width, sign: -1}", [1, HEIGHT // 2, WIDTH // 2], -0.125, 12.0),
        ("output: {sign: -1}", [HEIGHT, WIDTH], -7.0, 7.0),
    ],
)
def test_units_and_signs(text, shape, value, expected_px, tmp_path):
    g = Graph(BOTH)
    path = g.save(
        tmp_path / "model.onnx", {"d": constant_map(g, g.constant(np.full([1] * len(shape), value, np.float32)), shape)}, rank=len(shape)
    )
    assert answer(started(path, family=own_family(tmp_path, text))) == pytest.approx(expected_px, abs=1e-4)


def test_channels_last_and_bgr_and_bytes(tmp_path):
    g = Graph({"left": [1, HEIGHT, WIDTH, 3], "right": [1, HEIGHT, WIDTH, 3]}, kind=2)  # uint8
    value = g.op("Mul", mean_of_channel(g, "right", 0, axis=3), g.constant(np.float32(0.125)))
    path = g.save(tmp_path / "model.onnx", {"d": constant_map(g, value, FULL)})
    family = own_family(tmp_path, "colour: bgr\nlayout: nhwc")
    assert answer(started(path, family=family)) / 0.125 == pytest.approx(RIGHT_RGB[2])
    with pytest.raises(ConfigError, match="uint8, but the family family normalises"):
        started(path, family=own_family(tmp_path, "colour: bgr\nlayout: nhwc\nscale: 0.5"))


def test_half_precision(tmp_path):
    g = Graph(BOTH, kind=10)
    value = g.op("Cast", g.op("Mul", mean_of_channel(g, "left", 1), g.constant(np.float32(0.125))), to=10)
    path = g.save(tmp_path / "model.onnx", {"disparity": constant_map(g, value, FULL)}, kind=10)
    assert answer(started(path, family="lite_any_stereo")) == pytest.approx(LEFT_RGB[1] * 0.125, abs=0.01)


def test_a_flow_to_start_from_is_zeros(tmp_path):
    g = Graph({**BOTH, "flow_init": [1, 2, HEIGHT // 4, WIDTH // 4]})
    value = g.op("Add", mean_of_channel(g, "flow_init", 1), g.constant(np.float32(5)))
    path = g.save(tmp_path / "model.onnx", {"d": constant_map(g, value, FULL)})
    family = tmp_path / "family.yaml"
    family.write_text("description: x\ninputs: [{shows: [left]}, {shows: [right]}, {shows: [zeros]}]\n")
    assert answer(started(path, family=str(family))) == pytest.approx(5)


@pytest.mark.parametrize("fit, frame_wh", [("stretch", (192, 64)), ("pad", (192, 128)), ("pad", (192, 64))])
def test_disparities_scale_with_the_width(fit, frame_wh, tmp_path):
    """A model of 96 px sees frames of 192 px at half the size: its 6 px are 12 px of the frame."""
    g = Graph(BOTH)
    path = g.save(tmp_path / "model.onnx", {"disparity": constant_map(g, g.constant(np.full([1, 1, 1, 1], 6, np.float32)), FULL)})
    backend = started(path, family="lite_any_stereo", fit=fit)
    frame = plain_frame(*frame_wh)
    assert answer(backend, frame) == pytest.approx(12, abs=1e-4)
    assert backend(frame).rig == frame.rig


# A real matcher -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return matcher(tmp_path_factory.mktemp("onnx") / "matcher.onnx")


@pytest.mark.parametrize("options", [{}, {"left_right_check": True}, {"scale": 0.7}, {"fit": "stretch"}], ids=str)
def test_a_file_with_metadata_needs_no_family(real, options):
    scene = plane(3.0, size_wh=(320, 240), doffs_px=11.5)
    result = started(real, **options)(scene.frame)
    error = np.abs(result.disparity_px - scene.disparity_px)[16:-16, 48:-32]
    assert np.isfinite(error).mean() > 0.9 and np.nanmedian(error) < 0.2 and np.nanpercentile(error, 95) < 1


def test_another_family_than_the_files_own_is_refused(real):
    with pytest.raises(ConfigError, match=r"says that it is of the family semantic_stereo, but crestereo is asked for"):
        started(real, family="crestereo")
    started(real, family="semantic_stereo")


def test_the_range_is_that_of_the_file_in_the_frames_pixels(real):
    scene = plane(3.0, size_wh=(320, 240), doffs_px=11.5)
    whole, half = started(real)(scene.frame), started(real, scale=0.5)(scene.frame)
    assert (whole.min_px, whole.max_px) == (-12.0, 52.0)
    assert half.max_px == pytest.approx(116, abs=1)


def test_a_fixed_size(tmp_path):
    scene = plane(3.0, size_wh=(320, 240))
    for size, options in (((192, 256), {}), ((256, 384), {}), ((128, 320), {"fit": "stretch"})):
        backend = started(matcher(tmp_path / "matcher.onnx", *size), **options)
        error = np.abs(backend(scene.frame).disparity_px - scene.disparity_px)[16:-16, 48:-32]
        assert np.nanmedian(error) < 0.3, size


def test_the_left_right_check_takes_out_what_the_right_image_does_not_show(real):
    scene = random_sequence(seed=5, size_wh=(320, 240))[0]
    free, checked = started(real)(scene.frame), started(real, left_right_check=True)(scene.frame)
    hidden = scene.occluded & np.isfinite(free.disparity_px)
    assert hidden.sum() > 200
    kept = np.isfinite(checked.disparity_px)
    assert kept[hidden].mean() < 0.5 * kept[~scene.occluded & np.isfinite(free.disparity_px)].mean()
    wrong = np.abs(checked.disparity_px - scene.disparity_px) > 1
    assert checked.sigma_px[kept & wrong].mean() > 1.2 * checked.sigma_px[kept & ~wrong].mean()
    assert checked.confidence[kept & wrong].mean() < checked.confidence[kept & ~wrong].mean()
    assert checked.sigma_px[kept].min() >= np.float32(0.32)


def test_left_right_difference():
    left, right = np.full((4, 32), 3, np.float32), np.full((4, 32), 3, np.float32)
    right[:, 10] = 5
    difference = consistent_difference(left, right)
    assert np.isinf(difference[:, :3]).all() and (difference[:, 13] == 2).all()
    assert (np.delete(difference[:, 3:], 10, axis=1) == 0).all()
    left[0, 20] = np.nan
    assert np.isinf(consistent_difference(left, right)[0, 20])


def test_invisible_pixels_and_infinite_values(tmp_path):
    truth = np.full(FULL, 20, np.float32)
    truth[0, 0, 5] = np.inf
    truth[0, 0, 6] = np.nan
    g = Graph(BOTH)
    path = g.save(tmp_path / "model.onnx", {"disparity": g.constant(truth)})
    result = started(path, family="lite_any_stereo")(plain_frame())
    known = np.isfinite(result.disparity_px)
    assert not known[:, :20].any() and known[:5, 20:].all() and not known[5:7].any()
    assert np.isfinite(started(path, family="lite_any_stereo", invisible=False)(plain_frame()).disparity_px[0, 0])


# What is wrong --------------------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said_before_anything_is_loaded(tmp_path, monkeypatch, real):
    with pytest.raises(ConfigError, match=r"set stereo.onnx.model to an .onnx file"):
        Backend(Config()).check()
    with pytest.raises(InputFileError, match=r"no.onnx does not exist"):
        Backend(Config(model=str(tmp_path / "no.onnx"))).check()
    with pytest.raises(ConfigError, match="unknown family"):
        Backend(Config(model=str(real), family="nothing")).check()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"semantic_stereo_ros\[onnx\]"):
        Backend(Config(model=str(real))).check()


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(InputFileError, match=r"onnxruntime cannot load .*text.onnx"):
        started(path, family="hitnet")


@pytest.mark.parametrize(
    "inputs, output, family, said",
    [
        (BOTH, "disparity", "auto", "does not say what it expects: set stereo.onnx.family to one of crestereo"),
        (BOTH, "disparity", "hitnet", r"has the inputs left \(1, 3, 64, 96\), right .* but the family hitnet has 1"),
        ({"a": BOTH["left"], "b": BOTH["left"]}, "disparity", "lite_any_stereo", "but none 'left', as the family lite_any_stereo names it"),
        (BOTH, "disparity", "foundation_stereo", "has no output 'disp', as the family foundation_stereo names it, only disparity"),
        ({"x": [1, 2, 64, 96]}, "d", "hitnet", r"x has shape \(1, 2, 64, 96\), 2 channels where the family hitnet \(rgb, nchw\) gives 6"),
        ({"x": [2, 6, 64, 96]}, "d", "hitnet", "x takes 2 images at once"),
        ({"x": [6, 64, 96]}, "d", "hitnet", "must have 4 dimensions"),
        ({"l": [1, 3, 64, 96], "r": [1, 3, 64, 64]}, "d", "crestereo", r"no one width: l \(1, 3, 64, 96\), r \(1, 3, 64, 64\)"),
    ],
)
def test_a_family_that_does_not_fit_is_refused(inputs, output, family, said, tmp_path):
    g = Graph(inputs)
    path = g.save(tmp_path / "model.onnx", {output: g.constant(np.zeros(FULL, np.float32))})
    with pytest.raises(ConfigError, match=said):
        started(path, family=family)


def test_other_dtypes_are_refused(tmp_path):
    g = Graph(BOTH)
    path = g.save(tmp_path / "model.onnx", {"disparity": g.constant(np.zeros(FULL, np.int64))}, kind=7)
    with pytest.raises(ConfigError, match="must be a disparity in floating point"):
        started(path, family="lite_any_stereo")
    path = Graph(BOTH, kind=7).save(path, {"disparity": "left"}, kind=7)
    with pytest.raises(ConfigError, match=r"tensor\(int64\), which no image is"):
        started(path, family="lite_any_stereo")


@pytest.mark.parametrize(
    "shape, said",
    [
        ([1, 1, 1, 1], "no map of the image"),
        ([1, 1, WIDTH, HEIGHT], "does not cover images of 96x64"),
        ([1, 1, HEIGHT * WIDTH], "no map of the image"),
        ([2, 1, HEIGHT, WIDTH], "but one map was expected"),
    ],
)
def test_answers_that_are_no_disparity_are_refused(shape, said, tmp_path):
    g = Graph(BOTH)
    path = g.save(tmp_path / "model.onnx", {"disparity": g.constant(np.zeros(shape, np.float32))}, rank=len(shape))
    with pytest.raises(ConfigError, match=said):
        started(path, family="lite_any_stereo")(plain_frame())


def test_a_missing_channel_is_said(tmp_path):
    g = Graph(BOTH)
    path = g.save(tmp_path / "model.onnx", {"d": g.constant(np.zeros(FULL, np.float32))})
    with pytest.raises(ConfigError, match=r"1 channels, but the family's output\.channel is 1"):
        started(path, family=own_family(tmp_path, "output: {channel: 1}"))(plain_frame())


def test_a_network_that_fails_on_a_size_says_so(tmp_path):
    """The graph's size is open, but inside it takes only one."""
    g = Graph({"left": [1, 3, "h", "w"], "right": [1, 3, "h", "w"]})
    inside = g.op("Reshape", g.op("ReduceMean", "left", axes=[1]), g.constant(np.array([1, 1, 32, 32], np.int64)))
    path = g.save(tmp_path / "model.onnx", {"disparity": inside})
    with pytest.raises(ConfigError, match=r"fails on images of 96x64: .*multiple_of"):
        started(path, family="lite_any_stereo", fit="pad")(plain_frame())


def test_providers(tmp_path):
    available = ["TensorrtExecutionProvider", "AzureExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers("auto", "a.key", available) == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers("auto", "a.key", ["CPUExecutionProvider"]) == ["CPUExecutionProvider"]
    assert choose_providers("CUDA, cpu", "a.key", available) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers("CPUExecutionProvider", "a.key", available) == ["CPUExecutionProvider"]
    for wrong in ("cuda", " ", "cpu,gpu"):
        with pytest.raises(ConfigError, match=r"a\.key must be auto or some of cpu"):
            choose_providers(wrong, "a.key", ["CPUExecutionProvider"])
    assert tensorrt_settings("", True) == {"trt_fp16_enable": True}
    cache = tmp_path / "engines"
    assert tensorrt_settings(str(cache), False)["trt_engine_cache_path"] == str(cache) and cache.is_dir()
    (cache / "file").touch()
    with pytest.raises(ConfigError, match="engine_cache must be a folder"):
        tensorrt_settings(str(cache / "file"), False)


def test_the_licence_in_the_file_is_shown(tmp_path, caplog):
    g = Graph(BOTH)
    metadata = {"semantic_stereo.family": "semantic_stereo", "semantic_stereo.licence": "research only"}
    path = g.save(tmp_path / "model.onnx", {"disparity": g.constant(np.zeros(FULL, np.float32))}, metadata)
    with caplog.at_level(logging.WARNING):
        started(path)
    assert "research only" in caplog.text
