"""Frames through canvases of other sizes and back: the disparity must come back as it was, whatever was done to the images."""

import numpy as np
import pytest

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.stereo.network_canvas import enlarged, fit
from semantic_stereo_ros.synthetic import plane
from semantic_stereo_ros.types import StereoFrame, StereoRig


def rig(width: int, height: int, doffs_px: float = 0.0) -> StereoRig:
    return StereoRig((width, height), 300.0, 300.0, width / 2, height / 2, 0.1, doffs_px)


@pytest.mark.parametrize("doffs_px", [0.0, 11.5, -7.2])
@pytest.mark.parametrize(
    "fixed_wh, multiple, how, scale, content_wh, canvas_wh",
    [
        ((None, None), 1, "pad", 1.0, None, None),  # nothing to do but widen
        ((None, None), 32, "pad", 1.0, None, None),
        ((None, None), 32, "pad", 0.5, None, None),
        ((None, None), 32, "stretch", 1.0, None, None),
        ((640, 480), 32, "pad", 1.0, None, (640, 480)),  # larger: edges only
        ((160, 128), 32, "pad", 1.0, None, (160, 128)),  # smaller: reduced, proportions kept
        ((640, 128), 32, "stretch", 1.0, (640, 128), (640, 128)),
        ((None, 120), 16, "pad", 1.0, None, None),  # one axis is open
    ],
)
def test_a_disparity_comes_back(doffs_px, fixed_wh, multiple, how, scale, content_wh, canvas_wh):
    view = fit(rig(321, 203, doffs_px), fixed_wh, multiple, how, scale)
    for size, fixed in zip(view.canvas_wh, fixed_wh):
        assert size == fixed if fixed else size % multiple == 0
    assert content_wh is None or view.content_wh == content_wh
    assert canvas_wh is None or view.canvas_wh == canvas_wh
    width, height = view.canvas_wh
    # A slanted surface, as the canvas would see it: d = 5 + 0.02 x + 0.01 y of the frame.
    truth = 5 + 0.02 * np.arange(321)[None] + 0.01 * np.arange(203)[:, None]
    fx = view.content_wh[0] / (321 + abs(view.shift))
    fy = view.content_wh[1] / 203
    x = (np.arange(width)[None] - view.corner_xy[0] + 0.5) / fx - 0.5 - max(view.shift, 0)
    y = (np.arange(height)[:, None] - view.corner_xy[1] + 0.5) / fy - 0.5
    canvas = (5 + 0.02 * x + 0.01 * y + view.shift) * fx
    found = view.disparity_back(canvas.astype(np.float32))
    assert found.shape == (203, 321) and found.dtype == np.float32
    inside = (slice(4, -4), slice(4, -4))  # linear interpolation does not extrapolate
    np.testing.assert_allclose(found[inside], truth[inside], atol=1e-3)


@pytest.mark.parametrize("doffs_px", [0.0, 20.5, -20.5])
@pytest.mark.parametrize("how, fixed_wh", [("pad", (None, None)), ("stretch", (480, 160)), ("pad", (200, 200))])
def test_images_show_the_disparity_of_the_canvas(doffs_px, how, fixed_wh):
    """Both images of a plane, sampled at a point and at its match in the canvas, agree; and no disparity of it is negative."""
    scene = plane(3.0, size_wh=(320, 240), doffs_px=doffs_px)
    view = fit(scene.rig, fixed_wh, 32, how)
    left, right = (image.astype(np.float32).mean(2) for image in view.images(scene.frame))
    disparity = (float(np.nanmean(scene.disparity_px)) + view.shift) * view.factor
    assert left.shape == right.shape == view.canvas_wh[::-1]
    assert disparity > 0
    x0, y0 = view.corner_xy
    rows = slice(y0 + 8, y0 + view.content_wh[1] - 8)
    columns = np.arange(x0 + round(60 * view.factor), x0 + view.content_wh[0] - round(40 * view.factor))
    at = columns - disparity
    low = np.floor(at).astype(int)
    part = (at - low).astype(np.float32)
    matched = right[rows][:, low] * (1 - part) + right[rows][:, low + 1] * part
    shifted = right[rows][:, low + 4]
    error, wrong = np.abs(left[rows][:, columns] - matched).mean(), np.abs(left[rows][:, columns] - shifted).mean()
    assert error < 0.3 * wrong


def test_sixteen_bit_images_are_toned_by_one_mapping():
    values = np.linspace(1000, 3000, 64 * 48).reshape(48, 64).astype(np.uint16)
    left, right = fit(rig(64, 48), (None, None), 16, "pad").images(StereoFrame(values, values // 2, rig(64, 48)))
    assert left.dtype == np.uint8 and left.mean() > right.mean() + 40


def test_nothing_is_made_up_between_two_surfaces():
    step = np.where(np.arange(8) < 4, np.float32(10), np.float32(40))[None].repeat(8, 0)
    assert set(np.unique(enlarged(step, (21, 16)))) == {10.0, 40.0}
    step[:, 0] = np.nan
    large = enlarged(step, (16, 16))
    assert np.isnan(large[:, :2]).all() and not np.isnan(large[:, 2:]).any()


def test_doffs_wider_than_the_images_are_refused():
    with pytest.raises(ConfigError, match="doffs"):
        fit(rig(64, 48, 1e6), (640, 480), 32, "pad")
