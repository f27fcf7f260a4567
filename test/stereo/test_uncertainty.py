"""The evidence behind sigma and confidence against NumPy's own statistics of the same blocks, and the two models' plain consequences."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.stereo.refine import SampledPair
from semantic_stereo_ros.stereo.uncertainty import SIGMA_RANGE_PX, block_evidence, sigma_and_confidence

SHAPE = (64, 80)
AT = (16, 20)  # a sampled pixel far from the border; its blocks are 5x5 and 13x13 samples of every second pixel


@pytest.fixture(scope="module")
def textured_pair() -> SampledPair:
    """A random texture whose right image is the left one moved by 3 px, a little brighter."""
    texture = np.random.default_rng(0).integers(0, 200, (SHAPE[0], SHAPE[1] + 3), dtype=np.uint8)
    pair = SampledPair(SHAPE)
    pair.show(np.ascontiguousarray(texture[:, : SHAPE[1]]), np.ascontiguousarray(texture[:, 3:]) + np.uint8(5))
    return pair


def block(full: np.ndarray, samples: int) -> np.ndarray:
    row, column, half = AT[0], AT[1], samples // 2
    return full[::2, ::2][row - half : row + half + 1, column - half : column + half + 1]


def test_evidence_is_that_of_the_block(textured_pair):
    rng = np.random.default_rng(1)
    known = rng.random(SHAPE) > 0.3
    disparity = np.where(known, 3.0 + 20.0 + rng.normal(0, 0.5, SHAPE), 0).astype(np.float32)
    found = [float(values[AT]) for values in block_evidence(textured_pair, disparity, known)]
    inside, values = block(known, 5), block(disparity, 5)
    assert found[0] == pytest.approx(np.log(values[inside].var() + 0.002), abs=1e-2)
    slope = textured_pair.gradient[AT[0] - 2 : AT[0] + 3, AT[1] - 2 : AT[1] + 3].astype(float)
    assert found[2] == pytest.approx(np.log((slope**2).mean() + 1), abs=1e-4)
    assert found[3] == pytest.approx(1 - inside.mean(), abs=1e-5)
    assert found[4] == pytest.approx(1 - block(known, 13).mean(), abs=1e-5)


def test_a_common_brightness_is_no_residual_but_a_wrong_disparity_is(textured_pair):
    known = np.ones(SHAPE, bool)
    right, wrong = (list(block_evidence(textured_pair, np.full(SHAPE, d, np.float32), known))[1][AT] for d in (3.0, 9.0))
    assert right == pytest.approx(np.log(0.5), abs=1e-3)
    assert wrong > np.log(1000)


def answers(pair: SampledPair, disparity: np.ndarray, known: np.ndarray, refined: bool = True) -> tuple[float, float]:
    """(sigma, confidence) of the pixel AT."""
    sigma, confidence = sigma_and_confidence(pair, disparity, known, np.full(SHAPE, refined))
    assert sigma.min() >= np.float32(SIGMA_RANGE_PX[0]) and sigma.max() <= SIGMA_RANGE_PX[1]
    assert confidence.min() >= 0 and confidence.max() <= 1
    return float(sigma[2 * AT[0], 2 * AT[1]]), float(confidence[2 * AT[0], 2 * AT[1]])


@pytest.mark.parametrize("doubt", ["noise", "wrong", "holes around", "not refined"])
def test_each_doubt_widens_sigma_and_lowers_confidence(textured_pair, doubt):
    disparity, known = np.full(SHAPE, 3, np.float32), np.ones(SHAPE, bool)
    sure = answers(textured_pair, disparity, known)
    if doubt == "noise":
        disparity = disparity + np.random.default_rng(2).normal(0, 1, SHAPE).astype(np.float32)
    elif doubt == "wrong":
        disparity = disparity + 6
    elif doubt == "holes around":
        known[:, : 2 * AT[1] - 6] = False
        disparity[~known] = 0
    doubtful = answers(textured_pair, disparity, known, refined=doubt != "not refined")
    assert doubtful[0] > 1.05 * sure[0] and doubtful[1] < sure[1]
