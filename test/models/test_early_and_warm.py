"""Early exit and warm start on updates of known behaviour: each one halves the distance to a true disparity. (Synthetic weights do not
converge at all, so what the exit costs in accuracy with the published ones cannot be told from them.)"""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.models.foundation_stereo.fast.prepare import prepare
from semantic_stereo_ros.models.foundation_stereo.inference import coarse, predict
from semantic_stereo_ros.models.foundation_stereo.loading import assemble
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig

MANY, STOP_PX = 24, 0.1


@pytest.fixture(params=[lambda plain: plain, prepare], ids=["plain", "inference"])
def halving(request, filled_state, monkeypatch):
    """halving(truth_px) -> a network whose updates go half the way to a plane of that disparity."""
    model = request.param(assemble(filled_state(), ModelConfig("vits", 64)))
    monkeypatch.setattr(model.update_block.encoder, "forward", lambda cost, disparity: disparity)

    def towards(truth_px):
        monkeypatch.setattr(model.update_block, "forward", lambda context, disparity: 0.5 * (truth_px / 4 - disparity))
        return model

    return towards


def run(model, images, **options):
    with torch.inference_mode():
        return predict(model, images[0], images[1], MANY, **options)


def test_ending_early_costs_no_more_than_the_last_change(halving, pair):
    images, model = pair(64, 96), halving(12.0)
    whole, early = run(model, images), run(model, images, stop_below_px=STOP_PX)
    assert whole.steps == MANY and 3 < early.steps < 12
    # What is left is what the last update changed, which is below the threshold.
    assert 0 < (whole.disparity - early.disparity).abs().mean() < STOP_PX


def test_the_last_frames_answer_saves_updates(halving, pair):
    images = pair(64, 96)
    previous = run(halving(12.0), images).disparity
    cold = run(halving(13.0), images, stop_below_px=STOP_PX)
    # Its border, where the up-sampling mixes in zeros, is not the plane that the last frame's updates ended at.
    start = torch.full_like(previous, float(previous.median()))
    warm = run(halving(13.0), images, stop_below_px=STOP_PX, initial=start)
    assert warm.steps <= cold.steps - 2
    assert (warm.disparity - cold.disparity).abs().mean() < 2 * STOP_PX
    assert coarse(start).shape == (1, 1, 16, 24)
