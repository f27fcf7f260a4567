"""Half precision against float32, on the CPU; and a network that is compiled as one graph."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from stage_recorder import StageRecorder

from semantic_stereo_ros.models.foundation_stereo import runtime as foundation_stereo_runtime
from semantic_stereo_ros.models.foundation_stereo.fast.precision import lower
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.inference import predict
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig

ALLOWED_PX = 0.02


def make(state, dtype, max_disp=64):
    return lower(prepare(assemble(state, ModelConfig("vits", max_disp))), dtype)


def run(model, images, iterations):
    with StageRecorder(model) as recorder, torch.inference_mode():
        answer = predict(model, images[0], images[1], iterations)
    return answer, recorder.passes[0]


def errors(state, images, iterations, dtype, max_disp=64):
    """Mean difference of the disparity, px, to the same network in float32; and the lowered network's intermediates."""
    expected, _ = run(make(state, torch.float32, max_disp), images, iterations)
    found, tensors = run(make(state, dtype, max_disp), images, iterations)
    assert found.disparity.dtype == torch.float32
    return (found.disparity - expected.disparity).abs().mean().item(), tensors


def test_fp16_keeps_the_disparity(filled_state, pair):
    error, tensors = errors(filled_state(), pair(64, 96), 2, torch.float16)
    assert 0 < error < ALLOWED_PX
    assert {tensors[name].dtype for name in ("feat4", "agg_dt", "disp_in_0", "init_disp", "disparity")} == {torch.float32}
    assert {tensors[name].dtype for name in ("dpt_path_1", "cost_agg", "motion_0", "net04_1", "spx_logits")} == {torch.float16}


@pytest.mark.long
def test_fp16_keeps_the_disparity_over_many_updates(filled_state, pair):
    error, _ = errors(filled_state(), pair(96, 160), 8, torch.float16, 192)
    assert 0 < error < ALLOWED_PX


def test_bf16_is_rougher_and_its_islands_help(filled_state, pair):
    state, images = filled_state(), pair(64, 96)
    error, _ = errors(state, images, 2, torch.bfloat16)
    expected, _ = run(make(state, torch.float32), images, 2)
    flat, _ = run(prepare(assemble(state, ModelConfig("vits", 64))).apply(_all_bfloat16), images, 2)
    assert error < 0.5 * (flat.disparity - expected.disparity).abs().mean()
    assert error < 8 * ALLOWED_PX


def _all_bfloat16(module):
    """Every weight; inputs where a module is called."""
    module.to(torch.bfloat16)
    module.register_forward_pre_hook(
        lambda _, inputs: tuple(x.bfloat16() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)
    )


def test_memory_of_a_lowered_network_is_told(filled_state):
    state, dtypes = filled_state(), (torch.float32, torch.float16)
    whole, half = (foundation_stereo_runtime.peak_bytes(make(state, dtype, 192), (128, 192), 0) for dtype in dtypes)
    assert half < 0.7 * whole
