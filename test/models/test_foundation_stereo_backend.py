"""The backend foundation_stereo with synthetic weights: what it makes of frames, options and memory. They do not tell its accuracy."""

import dataclasses
import functools
import importlib.util
import logging
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from contract import check_disparity

from semantic_stereo_ros import config
from semantic_stereo_ros.checks import ConfigError, ImageError, InputFileError, MissingDependencyError
from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.foundation_stereo import inference
from semantic_stereo_ros.models.foundation_stereo import runtime as foundation_stereo_runtime
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig
from semantic_stereo_ros.options import build
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.stereo.backends import foundation_stereo
from semantic_stereo_ros.stereo.memory_fallback import Effort
from semantic_stereo_ros.synthetic import plane
from semantic_stereo_ros.types import StereoFrame
from semantic_stereo_ros.weights import cache, catalogue

SIZE_WH = (96, 64)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(filled_state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save({"model": filled_state()}, folder / "model.pth")
    (folder / "cfg.yaml").write_text("max_disp: 64\nvit_size: vits\n", encoding="utf-8")
    return folder / "model.pth"


@pytest.fixture
def make(checkpoint):
    """make(**options) -> a loaded backend, closed at the end: one update, and nothing made unknown, unless said otherwise."""
    made = []

    def load(**options):
        values = dict(checkpoint=str(checkpoint), iterations=1, device="cpu", left_right_check=False, invisible=False) | options
        backend = foundation_stereo.Backend(build(foundation_stereo.Config, values))
        made.append(backend)
        backend.load()
        return backend

    yield load
    for backend in made:
        backend.close()


def scene(**options):
    return plane(2.0, **{"size_wh": SIZE_WH, **options})


def grey(frame):
    return StereoFrame(np.ascontiguousarray(frame.left[..., 1]), np.ascontiguousarray(frame.right[..., 1]), frame.rig)


def wide(frame):
    return StereoFrame(frame.left.astype(np.uint16) * 200, frame.right.astype(np.uint16) * 200, frame.rig)


@pytest.mark.parametrize("as_input", [None, grey, wide], ids=["rgb8", "grey8", "rgb16"])
def test_any_image_gives_a_disparity_that_keeps_the_contract(make, as_input):
    backend = make(left_right_check=True, invisible=True)
    shown = scene(doffs_px=3.5).frame
    before = shown.left.copy()
    result = backend(as_input(shown) if as_input else shown)
    check_disparity(result, shown.rig)
    assert (result.min_px, result.max_px) == (-4, 60)
    np.testing.assert_array_equal(shown.left, before)
    assert backend.notes() == ()


def test_it_is_the_networks_own_answer(make, checkpoint):
    frame = scene().frame
    result = make(iterations=2, max_disp=96, attention="heads")(frame)
    model = foundation_stereo_runtime.load_ready(checkpoint, "vits", 96, "heads", torch.device("cpu"), torch.float32)
    left, right = (torch.from_numpy(x).permute(2, 0, 1)[None].float() for x in (frame.left, frame.right))
    with torch.inference_mode():
        expected = inference.predict(model, left, right, 2)
    known = ~np.isnan(result.disparity_px)
    assert known.mean() > 0.5 and result.max_px == 96
    np.testing.assert_allclose(result.disparity_px[known], expected.disparity[0, 0].numpy()[known], atol=1e-3)


def test_a_smaller_scale_keeps_size_rig_and_the_range_in_full_pixels(make):
    frame = scene(size_wh=(200, 150)).frame
    result = make(scale=0.5)(frame)
    check_disparity(result, frame.rig)
    assert result.max_px == 128
    assert np.nanmax(result.disparity_px) > 0


def test_coarse_to_fine_differs_from_one_pass(make):
    frame = scene().frame
    one, two = make(hierarchical="off")(frame), make(hierarchical="on")(frame)
    check_disparity(two, frame.rig)
    assert np.nanmean(np.abs(one.disparity_px - two.disparity_px)) > 0.01


def test_half_size_images_search_twice_as_far(make, monkeypatch):
    """What coarse to fine finds beyond max_disp, as half-size images do, stays; only what they cannot have found does not."""
    ramp = torch.linspace(0, 80, SIZE_WH[1])[None, None, :, None].repeat(1, 1, 1, SIZE_WH[0])
    answer = inference.Answer(ramp, torch.ones_like(ramp), torch.ones_like(ramp), 1)
    monkeypatch.setattr(inference, "predict_hierarchical", lambda *arguments, **options: answer)
    monkeypatch.setattr(inference, "predict", lambda *arguments, **options: answer)
    for hierarchical, reach_px in (("on", 64), ("off", 32)):
        result = make(hierarchical=hierarchical, max_disp=32)(scene().frame)
        assert result.max_px == reach_px
        np.testing.assert_array_equal(np.isfinite(result.disparity_px), ramp[0, 0].numpy() <= reach_px + 1)


def test_what_the_right_image_does_not_show_becomes_unknown(make):
    frame = scene().frame
    everything = make()(frame)
    match = np.arange(SIZE_WH[0]) - everything.disparity_px
    seen = make(invisible=True)(frame)
    outside = (match < 0) | (match > SIZE_WH[0] - 1)
    assert outside.any() and not outside.all()
    np.testing.assert_array_equal(np.isnan(seen.disparity_px), outside | np.isnan(everything.disparity_px))


def test_the_check_of_the_exchanged_images_raises_sigma_and_lowers_confidence(make):
    """Synthetic weights contradict themselves, so the check finds much."""
    frame = scene().frame
    alone, checked = make()(frame), make(left_right_check=True, max_difference_px=0.0)(frame)
    known = ~np.isnan(alone.disparity_px)
    assert (checked.sigma_px[known] >= alone.sigma_px[known] - 1e-5).all() and (checked.sigma_px[known] > alone.sigma_px[known] + 0.1).any()
    assert (checked.confidence[known] <= alone.confidence[known] + 1e-6).all()
    strict = make(left_right_check=True, max_difference_px=0.5)(frame)
    assert np.isnan(strict.disparity_px).mean() > np.isnan(checked.disparity_px).mean()


def test_sigma_scale_is_a_factor(make):
    frame = scene().frame
    one, three = make()(frame), make(sigma_scale=3.0)(frame)
    np.testing.assert_allclose(three.sigma_px, 3 * one.sigma_px, rtol=1e-5)


def test_a_warm_start_goes_on_from_the_last_frame_until_reset(make, monkeypatch):
    starts = []
    predict = inference.predict

    def noted(run, left, right, iterations, **options):
        starts.append((iterations, options.get("initial")))
        return predict(run, left, right, iterations, **options)

    monkeypatch.setattr(inference, "predict", noted)
    backend = make(iterations=3, warm_start=True, warm_iterations=1)
    assert backend.stateful and not make().stateful
    frame = scene().frame
    backend(frame)
    backend(frame)
    backend.reset("a jump")
    backend(frame)
    backend(scene(size_wh=(128, 64)).frame)
    assert [count for count, _ in starts] == [3, 1, 3, 3]
    assert [start is None for _, start in starts] == [True, False, True, True]


class Fails:
    """A network that runs out of memory a number of times, and notes what was asked of it."""

    def __init__(self, model, times, text="CUDA out of memory. Tried to allocate 2.00 GiB."):
        self.model, self.times, self.text, self.asked = model, times, text, []

    def __call__(self, left, right, iterations, **options):
        self.asked.append((options["rows"], left.shape[-1], iterations))
        if len(self.asked) <= self.times:
            raise torch.cuda.OutOfMemoryError(self.text)
        return self.model(left, right, iterations, **options)


def test_out_of_memory_takes_smaller_slabs_then_scale_then_iterations(make, caplog):
    frame = scene(size_wh=(192, 128)).frame
    backend = make(iterations=8)
    backend._run = network = Fails(backend._model, 5)
    with caplog.at_level(logging.WARNING):
        result = backend(frame)
    check_disparity(result, frame.rig)
    assert network.asked == [(32, 192, 8), (16, 192, 8), (8, 192, 8), (4, 192, 8), (4, 160, 8), (4, 160, 4)]  # 144 columns padded
    (note,) = backend.notes()
    assert note.startswith("out of memory with images of 192x128: works at scale 0.75 instead of 1, with 4 iterations instead of 8")
    assert "2.00 GiB" in note and note in caplog.text
    backend(frame)  # stays so: no failed attempt again
    assert len(network.asked) == 7 and network.asked[-1] == (4, 160, 4)
    backend(scene().frame)  # another size begins anew
    assert network.asked[-1] == (16, 96, 8) and backend.notes() == ()


def test_the_pipeline_runs_it_and_passes_its_notes_on(checkpoint):
    options = {"checkpoint": str(checkpoint), "iterations": 1, "device": "cpu", "left_right_check": False}
    flat = {"stereo.backend": "foundation_stereo", **{f"stereo.foundation_stereo.{key}": value for key, value in options.items()}}
    pipeline = Pipeline(config.from_flat(flat))
    assert pipeline.notes() == ()
    pipeline.load()
    backend: Any = pipeline.stereo._backend
    backend._run = Fails(backend._model, 1)
    frame = scene().frame
    assert pipeline(frame).disparity.rig == frame.rig
    assert "in slabs of 8 rows" in pipeline.notes()[0]
    pipeline.close()


def test_no_memory_at_all_is_an_error_of_one_sentence(make):
    backend = make(iterations=8)
    backend._run = Fails(backend._model, 1000)
    with pytest.raises(ImageError, match=r"images of 96x64 do not fit into memory even with 4 iterations instead of 8, in slabs of 4 rows"):
        backend(scene().frame)


def test_other_errors_are_not_taken_for_missing_memory(make):
    backend = make()

    def broken(*_, **__):
        raise RuntimeError("shapes do not fit")

    backend._run = broken
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        backend(scene().frame)


def test_the_effort_ends_on_the_cpu_with_what_was_asked():
    asked = effort = Effort(0, 1.0, 16, "cuda:0")
    seen = []
    while (smaller := effort.less((200, 300), asked)) is not None:
        effort = smaller
        seen.append((effort.rows, round(effort.scale, 3), effort.iterations, effort.device))
    assert seen == [
        *((rows, 1.0, 16, "cuda:0") for rows in (32, 16, 8, 4)),
        *((4, scale, 16, "cuda:0") for scale in (0.75, 0.562)),
        *((4, 0.562, count, "cuda:0") for count in (8, 4)),
        *((4, scale, 16, "cpu") for scale in (1.0, 0.75, 0.562)),
        *((4, 0.562, count, "cpu") for count in (8, 4)),
    ]
    assert Effort(4, 0.75, 8, "cpu").instead_of(asked) == (
        "on the CPU instead of cuda:0, at scale 0.75 instead of 1, with 8 iterations instead of 16, in slabs of 4 rows"
    )
    assert asked.instead_of(asked) == ""


@pytest.fixture
def pretended_gpu(monkeypatch):
    """'cuda:0' is a device of this machine, by name: a network can be put on it, but no frame fits."""

    class Pretended:
        type = "cpu"

        def __str__(self):
            return "cuda:0"

    choose, match = hardware.choose_device, foundation_stereo.Backend._match

    def matched(backend, frame):
        if backend._effort.device != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return match(backend, frame)

    monkeypatch.setattr(hardware, "choose_device", lambda name: Pretended() if name == "cuda:0" else choose(name))
    monkeypatch.setattr(foundation_stereo.Backend, "_match", matched)


def test_a_full_card_ends_on_the_cpu(make, pretended_gpu, monkeypatch):
    loaded = []
    real = foundation_stereo_runtime.load_ready

    def noted(path, variant, max_disp, attention, device, dtype):
        loaded.append(str(device))
        return real(path, variant, max_disp, attention, torch.device("cpu"), dtype)

    monkeypatch.setattr(foundation_stereo_runtime, "load_ready", noted)
    backend = make(device="cuda:0", iterations=4)
    frame = scene().frame
    check_disparity(backend(frame), frame.rig)
    assert loaded == ["cuda:0", "cpu"]
    assert "on the CPU instead of cuda:0" in backend.notes()[0]


def test_weights_that_do_not_fit_on_the_card_go_to_the_cpu(make, pretended_gpu, monkeypatch):
    real = foundation_stereo_runtime.load_ready

    def full(path, variant, max_disp, attention, device, dtype):
        if str(device) != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(path, variant, max_disp, attention, device, dtype)

    monkeypatch.setattr(foundation_stereo_runtime, "load_ready", full)
    backend = make(device="cuda:0")
    frame = scene().frame
    check_disparity(backend(frame), frame.rig)
    assert "weights do not fit on cuda:0" in backend.notes()[0]


@pytest.mark.parametrize(
    ("free", "extra_mb", "slabs"),
    [(None, 200, [(20, 16), (9, 8), (5, 4)]), (2**40, 0, [(150, 0), (70, 64), (33, 32), (9, 8), (5, 4)])],
    ids=["cpu", "gpu"],
)
def test_the_memory_budget_chooses_the_slabs(make, monkeypatch, free, extra_mb, slabs):
    monkeypatch.setattr(hardware, "free_bytes", lambda device: free)
    monkeypatch.setattr(foundation_stereo_runtime, "peak_bytes", lambda model, shape, rows: (rows or 100) * 2**20)
    backend = make()
    weights_mb = extra_mb + int(foundation_stereo_runtime.weight_bytes(backend._model) / 2**20)
    for spare_mb, rows in slabs:
        backend.config = dataclasses.replace(backend.config, memory_budget_mb=weights_mb + spare_mb)
        backend._begin(scene().frame)
        assert backend._effort.rows == rows and backend.notes() == ()
    backend.config = dataclasses.replace(backend.config, memory_budget_mb=weights_mb + 3)
    backend._begin(scene().frame)
    assert backend._effort.rows == 4
    (note,) = backend.notes()
    assert "images of 96x64 need about" in note and "set scale to 0." in note


def test_memory_is_estimated_without_computing(checkpoint):
    load = functools.partial(foundation_stereo_runtime.load_ready, checkpoint, "auto", device=torch.device("cpu"), dtype=torch.float32)
    image = torch.zeros(1, 3, 64, 96)
    prepared = prepare(assemble(FoundationStereo(ModelConfig("vits", 64)).state_dict(), ModelConfig("vits", 64)))
    real = hardware.peak_bytes(lambda: inference.predict(prepared, image, image.clone(), 1))
    estimated = foundation_stereo_runtime.peak_bytes(load(max_disp=64, attention="tokens"), (64, 96), 0)
    assert estimated == pytest.approx(real, rel=0.01)
    deep = load(max_disp=256, attention="tokens")
    whole, slabs = (foundation_stereo_runtime.peak_bytes(deep, (256, 384), rows) for rows in (0, 8))
    assert slabs < 0.7 * whole  # what a prepared network needs at most is not in the volume alone


def test_a_network_that_cannot_be_compiled_runs_as_it_is(make):
    backend = make()
    from torch._dynamo.exc import InternalTorchDynamoError

    def broken(*_, **__):
        raise InternalTorchDynamoError("no compiler")

    backend._run = broken
    check_disparity(backend(scene().frame), scene().rig)
    assert "cannot be compiled" in backend.notes()[0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"checkpoint": "none.pth"}, InputFileError, r"none\.pth does not exist; names of official ones: foundation_stereo_23-51-11"),
        ({"checkpoint": "sam2_hiera_tiny"}, ConfigError, "is not a FoundationStereo checkpoint"),
        ({"checkpoint": "", "variant": "vitb"}, ConfigError, "no weights of variant vitb were published"),
        ({"checkpoint": "", "variant": "vits"}, InputFileError, r"foundation_stereo_11-33-40 are not on this machine.*put it at"),
        ({"variant": "vitl"}, InputFileError, "is of variant vits, but vitl is asked for"),
        ({"max_disp": 100}, ConfigError, "multiple of 32"),
        ({"device": "gpu"}, ConfigError, "auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_is_said(make, options, error, words, monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    with pytest.raises(error, match=words):
        make(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_said(make):
    with pytest.raises(ConfigError, match="device cuda:1 is asked for, but"):
        make(device="cuda:1")


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"semantic_stereo_ros\[torch\]"):
        foundation_stereo.Backend(foundation_stereo.Config()).check()


def test_official_weights_are_found_checked_and_their_licence_shown(make, checkpoint, monkeypatch, tmp_path, caplog):
    name = "foundation_stereo_11-33-40"
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    real = catalogue.CATALOGUE[name]
    path = tmp_path / real.path
    path.parent.mkdir(parents=True)
    path.hardlink_to(checkpoint)
    with pytest.raises(InputFileError, match=f"but {name} has {real.size_bytes}"):
        make(checkpoint=name)
    monkeypatch.setitem(catalogue.CATALOGUE, name, dataclasses.replace(real, size_bytes=checkpoint.stat().st_size))
    with caplog.at_level(logging.WARNING):
        backend = make(checkpoint="", max_disp=64)
    assert "for research only" in caplog.text
    assert backend._model.config.variant == "vits"
