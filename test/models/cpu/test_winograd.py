"""winograd.convolve against torch's own convolution in float64."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.models.cpu import winograd


@pytest.mark.parametrize("batch, height, width", [(1, 9, 13), (2, 16, 20), (1, 1, 1), (1, 4, 70)])
def test_equals_a_direct_convolution_of_the_concatenation(batch, height, width, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(batch, height, width, c, generator=generator) for c in (24, 40)]
    weight = torch.randn(32, 64, 3, 3, generator=generator) / 24
    bias = torch.randn(32, generator=generator)
    whole = torch.cat(parts, 3).permute(0, 3, 1, 2)
    expected = torch.nn.functional.conv2d(whole.double(), weight.double(), bias.double(), padding=1).permute(0, 2, 3, 1)
    scratch = winograd.Scratch()
    for limit in (winograd.BAND_BYTES, 1):  # all at once, and one row of tiles at a time
        monkeypatch.setattr(winograd, "BAND_BYTES", limit)
        found = winograd.convolve(parts, weight, bias, scratch)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 5e-5
    unbiased = winograd.convolve(parts, weight, None, scratch)
    assert (unbiased - (expected - bias)).abs().max() < 5e-5


def test_scratch_serves_convolutions_of_any_size_and_mode():
    scratch = winograd.Scratch()
    x = torch.randn(1, 9, 9, 8, generator=torch.Generator().manual_seed(1))
    for outputs, mode in ((4, torch.inference_mode), (16, torch.no_grad), (4, torch.inference_mode)):
        weight = torch.randn(outputs, 8, 3, 3, generator=torch.Generator().manual_seed(2)) / 8
        expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)
        with mode():
            assert (winograd.convolve([x], weight, None, scratch) - expected).abs().max() < 5e-5


def test_what_follows_sees_each_row_once_and_may_change_the_channels():
    generator = torch.Generator().manual_seed(3)
    x, other = (torch.randn(2, 21, 30, 8, generator=generator) for _ in range(2))
    weight = torch.randn(16, 8, 3, 3, generator=generator) / 8
    expected = torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)
    out = torch.full((2, 21, 30, 24), torch.nan)
    found = winograd.convolve([x], weight, None, winograd.Scratch(), lambda y, at: torch.cat([y.neg_(), other[at]], 2), out)
    assert found is out
    assert (out - torch.cat([-expected, other], 3)).abs().max() < 5e-5
