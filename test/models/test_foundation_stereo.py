"""Our FoundationStereo against the plain oracle, stage by stage, and against the published reference tensors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from filling import fill
from plain_foundation_stereo import Plain
from stage_recorder import NOT_IN_INFERENCE_FORM, StageRecorder

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.models.cpu import winograd
from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import FAST_FORMS, prepare
from semantic_stereo_ros.models.foundation_stereo.inference import predict, predict_hierarchical
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.padding import Padding
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig

PACK = Path(os.environ.get("SEMANTIC_STEREO_FOUNDATION", Path(__file__).resolve().parents[3] / "shared" / "foundation_stereo"))
CASES = ("vits_batch2_tokens", "vits_wide_tokens")
LONG_CASES = (
    "vits_pad_heads",
    "vits_pad_tokens",
    "vits_d416_heads",
    "vits_d416_tokens",
    "vits_hier_tokens",
    "vits_hierdirect_tokens",
    "vitl_pad_tokens",
    "vitl_pad_heads",
)


def make(state, max_disp=64, attention="tokens", variant="vits"):
    return assemble(state, ModelConfig(variant, max_disp, attention))


def traced_oracle(state, left, right, iterations, **options):
    oracle = Plain(state, "vits", options.pop("max_disp", 64), options.pop("attention", "tokens"))
    found = {}
    oracle.trace = lambda name, value: found.__setitem__(name, value.clone())
    oracle.forward(left, right, iterations, **options)
    return found


@pytest.mark.parametrize(
    "variant, entries, parameters", [("vits", 1192, 62_335_403), ("vitb", 1192, 135_478_283), ("vitl", 1360, 374_517_067)]
)
def test_sizes_are_those_of_the_official_checkpoints(variant, entries, parameters):
    with torch.device("meta"):
        model = FoundationStereo(ModelConfig(variant))
    assert len(model.state_dict()) == entries
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("variant", ["vits", "vitb", "vitl"])
def test_names_and_shapes_are_those_of_the_official_checkpoints(variant):
    table = PACK / f"state_dict_{variant}.tsv"
    if not table.is_file():
        pytest.skip(f"{table} is missing: the tables of the checkpoints' names are not part of this repository")
    lines = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    expected = {name: (tuple(int(n) for n in shape.split(",") if n), dtype) for name, shape, dtype in lines}
    with torch.device("meta"):
        own = FoundationStereo(ModelConfig(variant)).state_dict()
    assert {name: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for name, v in own.items()} == expected


def recorded(model, *args, **options):
    """What a pass returns, and its intermediates by name."""
    with StageRecorder(model) as recorder, torch.inference_mode():
        found = model(*args, **options)
    return found, recorder.passes[0]


@pytest.mark.parametrize("attention, batch", [("tokens", 1), ("heads", 1), ("tokens", 2)])
def test_each_stage_equals_the_oracle(filled_state, pair, attention, batch):
    state = filled_state()
    left, right = pair(96, 128, batch)
    expected = traced_oracle(state, left, right, 2, attention=attention)
    found, tensors = recorded(make(state, attention=attention), left, right, 2)
    assert set(tensors) == set(expected) and len(expected) > 60
    check_stages(found, tensors, expected)


@pytest.mark.parametrize("attention, rows, batch", [("tokens", None, 1), ("heads", 4, 1), ("tokens", 12, 2)])
def test_each_stage_of_the_inference_form_equals_the_oracle_however_the_volume_is_cut(filled_state, pair, attention, rows, batch):
    state = filled_state()
    left, right = pair(96, 128, batch)
    expected = traced_oracle(state, left, right, 2, attention=attention)
    found, tensors = recorded(prepare(make(state, attention=attention)), left, right, 2, rows=rows)
    assert set(tensors) == set(expected) - NOT_IN_INFERENCE_FORM
    check_stages(found, tensors, expected)


def check_stages(found, tensors, expected):
    for name in tensors:
        value = expected[name]
        error = (tensors[name] - value).abs().max().item()
        assert error < 3e-4 * max(1.0, value.abs().max().item() / 10), f"{name} differs by {error}"
    assert torch.allclose(found.disparity, expected["disparity"], atol=1e-3) and found.steps == 2
    assert expected["disparity"].std() > 0.5, "the weights make a disparity image that could hide a fault"


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_the_inference_form_equals_the_plain_one(filled_state, pair, fast, start, monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_PIXELS", 0)
    left, right = pair(64, 96)
    initial = torch.full((1, 1, 16, 24), 2.0) if start else None
    state = filled_state()
    with torch.inference_mode():
        plain = make(state)(left, right, 3, initial=initial, every_step=True)
        form = prepare(make(state), fast)
        found = form(left, right, 3, initial=initial, every_step=True, rows=8)
    assert isinstance(form, InferenceForm) and found.steps == plain.steps == 3
    assert torch.allclose(plain.disparity, found.disparity, atol=1e-3)
    assert (plain.disparity - found.disparity).abs().mean() < 1e-4
    assert torch.allclose(plain.initial, found.initial, atol=1e-3)
    assert torch.allclose(plain.probability, found.probability, atol=1e-4)
    assert len(found.sequence) == 3
    assert torch.allclose(torch.cat(plain.sequence), torch.cat(found.sequence), atol=1e-3)


def test_preparing_keeps_the_names_of_weights_and_makes_every_part_fast(filled_state):
    plain = make(filled_state())
    names = set(dict(plain.named_parameters()))
    folded = {name for name, module in plain.named_modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)}
    form = prepare(plain, fast_convolutions=True)
    kept = set(dict(form.named_parameters()))
    assert {name for name in names if name.rpartition(".")[0] not in folded} <= kept
    assert not {type(module) for module in form.modules()} & set(FAST_FORMS)


def test_each_image_of_a_batch_stands_alone(filled_state, pair):
    left, right = pair(64, 96, 2)
    model = make(filled_state())
    with torch.inference_mode():
        both = model(left, right, 1).disparity
        alone = [model(left[i : i + 1], right[i : i + 1], 1).disparity for i in range(2)]
    assert torch.allclose(both, torch.cat(alone), atol=1e-3)


@pytest.mark.parametrize("form", [lambda plain: plain, prepare], ids=["plain", "inference"])
def test_updates_end_early_when_they_change_little(filled_state, pair, form):
    left, right = pair(64, 96)
    model = form(make(filled_state()))
    with torch.inference_mode():
        whole = model(left, right, 3)
        early = model(left, right, 3, stop_below_px=1e6)
        one = model(left, right, 1)
    assert (whole.steps, early.steps) == (3, 1)
    assert torch.equal(early.disparity, one.disparity)


def test_training_gets_every_step_and_a_gradient(filled_state, pair):
    left, right = pair(64, 96)
    model = make(filled_state()).requires_grad_(True)
    found = model(left, right, 2, every_step=True)
    assert len(found.sequence) == 2 and found.initial.shape == (1, 1, 16, 24)
    (found.sequence[0].mean() + found.sequence[1].mean() + found.initial.mean()).backward()
    unused = ("stem_4.", "context_zqr_convs.", "cnet.down.", "cnet.norm.", "mask_token", "refinenet4.resConfUnit1", "output_conv2")
    for name, parameter in model.named_parameters():
        if not any(word in name for word in unused):
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    with torch.inference_mode():
        expected = model(left, right, 2).disparity
    assert torch.allclose(found.disparity, expected, atol=1e-3)


def test_any_size_is_padded_and_cut_back(filled_state, pair):
    left, right = pair(75, 101)
    state = filled_state()
    with torch.inference_mode():
        found = predict(make(state), left, right, 1)
    expected = Plain(state, "vits", 64).run(left, right, 1)
    assert found.disparity.shape == expected.shape == (1, 1, 75, 101)
    assert torch.allclose(found.disparity, expected, atol=1e-3)
    assert found.spread.shape == found.mass.shape == (1, 1, 75, 101)
    assert (found.mass >= 0).all() and (found.mass <= 1 + 1e-6).all() and (found.spread >= 0).all()


def test_coarse_to_fine_equals_the_plain_form(filled_state, pair):
    left, right = pair(90, 150)
    state = filled_state()
    with torch.inference_mode():
        found = predict_hierarchical(make(state), left, right, 1)
    assert torch.allclose(found.disparity, Plain(state, "vits", 64).run_hierarchical(left, right, 1), atol=1e-3)


@pytest.mark.parametrize(
    "values, words", [({"variant": "vitx"}, "vits, vitb, vitl"), ({"max_disp": 100}, "multiple of 32"), ({"attention": "all"}, "tokens")]
)
def test_a_configuration_that_cannot_be_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        ModelConfig(**values)


def reference(case):
    path = PACK / "ref" / f"{case}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is missing: the reference tensors are not part of this repository")
    archive = np.load(path, allow_pickle=False)
    return json.loads(str(archive["meta"])), archive


def image(archive, side):
    x = torch.from_numpy(archive[side]).float()
    return (x if x.ndim == 4 else x[None]).permute(0, 3, 1, 2).contiguous()


def sampled(value, count=2048):
    flat = value.reshape(-1)
    k = min(flat.size, count)
    return flat[(np.arange(k, dtype=np.int64) * flat.size) // k]


def check_reference(case, form):
    """form: 'plain' or 'inference'. The passes of the coarse-to-fine routine are p0/ and p1/ in the names."""
    meta, archive = reference(case)
    hierarchical = "hier" in case
    model = FoundationStereo(ModelConfig(meta["vit_size"], meta["max_disp"], meta["attention"]))
    model.load_state_dict(fill(model.state_dict()))
    model.eval()
    options = {}
    if form == "inference":
        model, options = prepare(model, fast_convolutions=True), {"rows": 16}
    left, right = image(archive, "left"), image(archive, "right")
    padding = Padding.of(*left.shape[-2:])
    with StageRecorder(model) as recorder, torch.inference_mode():
        if hierarchical and "direct" not in case:  # the demo pads first
            answer = predict_hierarchical(model, padding.add(left), padding.add(right), meta["valid_iters"], **options)
            disparity = padding.crop(answer.disparity)
        else:
            run = predict_hierarchical if hierarchical else predict
            disparity = run(model, left, right, meta["valid_iters"], **options).disparity
    found = {f"p{i}/{name}" if hierarchical else name: x for i, tensors in enumerate(recorder.passes) for name, x in tensors.items()}
    found["disparity"] = disparity
    left_out = NOT_IN_INFERENCE_FORM if form == "inference" else ()
    for name in (name for name in meta["order"] if name.rpartition("/")[2] not in left_out):
        value = found[name].numpy().astype(np.float64)
        assert value.shape == tuple(archive[f"shape.{name}"]), name
        full = f"full.{name}" in archive
        expected = archive[f"full.{name}"].reshape(-1) if full else archive[f"sample.{name}"]
        error = np.abs((value.reshape(-1) if full else sampled(value)) - expected).max()
        assert error < 20 * float(archive[f"f64err.{name}"]) + 1e-6, f"{case}: {name} differs by {error:.2e}"
    errors = np.abs(disparity.numpy().reshape(-1) - archive["full.disparity"].reshape(-1))
    assert errors.max() < 1e-3 and errors.mean() < 1e-4


@pytest.mark.parametrize("form", ["plain", "inference"])
@pytest.mark.parametrize("case", CASES)
def test_the_published_references_are_met_stage_by_stage(case, form, monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_PIXELS", 0)
    check_reference(case, form)


@pytest.mark.long
@pytest.mark.parametrize("form", ["plain", "inference"])
@pytest.mark.parametrize("case", LONG_CASES)
def test_every_published_reference_is_met_stage_by_stage(case, form, monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_PIXELS", 0)
    check_reference(case, form)
