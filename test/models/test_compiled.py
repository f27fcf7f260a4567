"""The network is one graph for torch.compile: nothing in it needs Python, or a tensor's value, half-way. Needs no compiler."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.models.foundation_stereo.fast.precision import lower
from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig
from semantic_stereo_ros.options import build
from semantic_stereo_ros.stereo.backends import foundation_stereo


@pytest.mark.long
@pytest.mark.parametrize(
    "dtype, fast, rows, start",
    [(torch.float32, True, None, False), (torch.bfloat16, False, None, True), (torch.float32, False, 8, False)],
    ids=["float32", "bf16 from a start", "in slabs"],
)
def test_the_network_is_one_graph_with_the_same_result(filled_state, pair, dtype, fast, rows, start):
    model = lower(prepare(assemble(filled_state(), ModelConfig("vits", 64)), fast), dtype)
    left, right = pair(64, 96)
    initial = torch.full((1, 1, 16, 24), 2.0) if start else None
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)  # fullgraph: a break is an error
    with torch.inference_mode():
        expected = model(left, right, 2, rows=rows, initial=initial).disparity
        found = compiled(left, right, 2, rows=rows, initial=initial).disparity
    assert torch.allclose(found, expected, atol=1e-3 if dtype == torch.float32 else 0.1)
    torch._dynamo.reset()


def test_a_compiled_network_cannot_end_early(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"")
    options = {"checkpoint": str(tmp_path / "model.pth"), "compile": True, "stop_below_px": 0.05}
    with pytest.raises(ConfigError, match="stop_below_px"):
        foundation_stereo.Backend(build(foundation_stereo.Config, options)).check()
