"""Between frames and networks, against exact planes: sizes, ranges, offsets; and what a left-right check makes of truth and error."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.models import stereo_trust
from semantic_stereo_ros.models.stereo_view import View
from semantic_stereo_ros.synthetic import plane
from semantic_stereo_ros.types import StereoFrame

CPU = torch.device("cpu")


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("doffs_px", [0.0, 11.5, -7.25])
def test_the_networks_disparity_is_never_negative_and_comes_back_exactly(scale, doffs_px):
    scene = plane(3.0, size_wh=(160, 120), doffs_px=doffs_px)
    view = View.of(scene.rig, scale)
    left, right = view.images(scene.frame, CPU)
    assert left.shape == right.shape == (1, 3, *view.shape)
    at_infinity = -view.rig.doffs_px + view.shift
    assert 0 <= at_infinity < 1
    expected = view.rig.bf / 3.0 + at_infinity  # what a network must find in these very images
    x = torch.arange(view.shape[1], dtype=torch.float32) - expected
    y = torch.arange(view.shape[0], dtype=torch.float32)
    grid = torch.stack(torch.meshgrid((2 * x + 1) / view.shape[1] - 1, (2 * y + 1) / view.shape[0] - 1, indexing="xy"), -1)
    warped = torch.nn.functional.grid_sample(right, grid[None], align_corners=False)
    first, last = view.right_columns
    inside = (x >= first) & (x <= last)
    cut = view.cut(inside.expand(1, 1, *view.shape))[0, 0]
    residual = (view.cut(left) - view.cut(warped)).abs().mean(1)[0][cut]
    assert residual.median() < 3 and inside.any()
    back = view.disparity_back(torch.full((1, 1, *view.shape), expected))
    truth = torch.from_numpy(scene.disparity_px.astype(np.float32))
    assert back.shape == scene.rig.shape
    assert torch.allclose(back, truth, atol=2e-3)
    low, high = view.range_px(64)
    assert low <= -doffs_px and high == pytest.approx(low + 64 * view.factor)


def test_sixteen_bits_are_mapped_alike_in_both_images():
    left = np.tile(np.arange(0, 6400, 100).astype(np.uint16), (48, 1))
    right = left + np.uint16(20000)
    rig = plane(3.0, size_wh=(64, 48)).rig
    a, b = View.of(rig, 1.0).images(StereoFrame(left, right, rig), CPU)
    assert a.max() < b.min()  # each alone would fill the whole range
    assert a.min() < 5 and b.max() > 250


def test_enlarging_keeps_edges():
    rig = plane(3.0, size_wh=(64, 48)).rig
    view = View.of(rig, 0.5)
    step = torch.full((1, 1, 24, 32), 4.0)
    step[..., 16:] = 20.0
    assert set(view.disparity_back(step).unique().tolist()) == {8.0, 40.0}


def test_the_check_accepts_the_truth_and_finds_errors():
    disparity = torch.full((1, 1, 24, 96), 12.0)
    disparity[..., 40:60] = 20.0
    right = torch.full_like(disparity, 12.0)
    right[..., 20:40] = 20.0  # the near strip as the right camera sees it
    unseen = stereo_trust.leaves_image(disparity, (0, 95))
    assert unseen[..., :12].all() and not unseen[..., 12:].any()
    excess = stereo_trust.excess_px(disparity, right, unseen, 1.0)
    agrees = excess[0, 0, 0] == 0
    assert agrees[12:32].all() and agrees[41:59].all() and agrees[60:].all()
    assert not agrees[33:39].any()  # hidden behind the strip in the right image
    wrong = disparity.clone()
    wrong[..., 70:80] += 5
    found = stereo_trust.excess_px(wrong, right, unseen, 1.0)
    assert torch.allclose(found[..., 70:80], torch.tensor(5 - stereo_trust.CHECK_ERROR_PX), atol=1e-4)


def test_the_mirrored_pair_is_a_stereo_pair_again():
    left, right = torch.rand(1, 3, 8, 12), torch.rand(1, 3, 8, 12)
    a, b = stereo_trust.mirrored(left, right, 1.0)
    assert torch.allclose(a, right.flip(-1)) and torch.allclose(b, left.flip(-1))
    small, _ = stereo_trust.mirrored(left, right, 0.5)
    assert small.shape == (1, 3, 4, 6)
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    back = stereo_trust.right_view(ramp, (8, 12))
    assert back.shape == (1, 1, 8, 12) and back[0, 0, 0, 0] == 10 and back[0, 0, 0, -1] == 0  # flipped, in px of the larger size


def test_each_sign_of_doubt_raises_sigma_and_lowers_confidence():
    value = torch.tensor
    seen, hidden = value([[[[False]]]]), value([[[[True]]]])
    one = torch.ones(1, 1, 1, 1)
    sigma, confidence = stereo_trust.sigma_and_confidence(one, 0.9 * one, 0 * one, seen, 1.0)
    assert stereo_trust.FLOOR_PX < sigma < 1 and confidence == pytest.approx(0.9)
    wider, less = stereo_trust.sigma_and_confidence(5 * one, 0.4 * one, 0 * one, seen, 1.0)
    assert wider > sigma and less < confidence
    doubted, weak = stereo_trust.sigma_and_confidence(one, 0.9 * one, 3 * one, seen, 1.0)
    assert doubted > 2 and weak < 0.1
    same, half = stereo_trust.sigma_and_confidence(one, 0.9 * one, 0 * one, hidden, 2.0)
    assert same == pytest.approx(2 * sigma.item()) and half == pytest.approx(0.45)
