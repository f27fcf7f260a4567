"""What a left-right check makes of truth and error, and what sigma and confidence make of doubt."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.models import stereo_trust


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
