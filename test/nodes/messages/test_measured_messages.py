"""Depth, disparity and confidence as cameras send them, and camera_infos that belong to them or do not."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="rclpy is not installed: the messages cannot be tested")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from sensor_msgs.msg import CompressedImage, Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.nodes.inputs.camera_infos import CameraInfoCache
from semantic_stereo_ros.nodes.messages import conversions
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, check_same_view, image_to_array, info_to_rig, rig_to_infos
from semantic_stereo_ros.nodes.messages.measured_messages import confidence_to_array, depth_to_array, disparity_to_array
from semantic_stereo_ros.types import Disparity, StereoRig

HEADER = conversions.make_header(1_000_000_000, "left_optical")
RIG = StereoRig((64, 48), fx=100.0, fy=101.0, cx=31.0, cy=23.5, baseline_m=0.2, doffs_px=7.25)
NAN = float("nan")


def disparity_message(values, least=0.0, most=0.0):
    return DisparityImage(
        header=HEADER, image=array_to_image(np.asarray(values, np.float32), HEADER), f=100.0, t=0.2, min_disparity=least, max_disparity=most
    )


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_depth_comes_back_as_it_was_published(encoding):
    depth_m = np.array([[1.25, NAN, 0.5], [3.0, 60.0, NAN]], np.float32)
    np.testing.assert_array_equal(depth_to_array(conversions.depth_to_image(depth_m, HEADER, encoding)), depth_m)


def test_depth_of_every_driver():
    """REP-117 and REP-118: NaN, +-infinity and 0 are no measurement. Big-endian pixels and padded rows are read as what they are."""
    metres = array_to_image(np.array([[2.0, 0.0, np.inf, -np.inf, NAN, -1.0]], np.float32), HEADER)
    np.testing.assert_array_equal(depth_to_array(metres), np.array([[2.0] + [NAN] * 5], np.float32))
    stored = np.zeros((2, 8), np.uint8)
    stored[:, :6] = np.array([[1500, 0, 3], [7, 8, 65535]], ">u2").view(np.uint8)
    millimetres = array_to_image(np.zeros((2, 3), np.uint16), HEADER, "mono16")
    millimetres.step, millimetres.is_bigendian = 8, 1
    millimetres.data = stored.ravel()
    np.testing.assert_allclose(depth_to_array(millimetres), [[1.5, NAN, 0.003], [0.007, 0.008, 65.535]])
    with pytest.raises(ImageError, match="rgb8"):
        depth_to_array(array_to_image(np.zeros((2, 2, 3), np.uint8), HEADER))


def test_compressed_depth_and_images():
    data = bytes(12) + cv2.imencode(".png", np.array([[1500, 0]], np.uint16))[1].tobytes()
    message = CompressedImage(header=HEADER, format="16UC1; compressedDepth png", data=data)
    np.testing.assert_array_equal(depth_to_array(message), np.array([[1.5, NAN]], np.float32))
    with pytest.raises(ImageError, match="depth image's"):
        image_to_array(message)
    colour = np.full((8, 8, 3), (200, 40, 90), np.uint8)
    jpeg = cv2.imencode(".jpg", colour[..., ::-1])[1].tobytes()
    shown = image_to_array(CompressedImage(header=HEADER, format="rgb8; jpeg compressed bgr8", data=jpeg))
    assert np.abs(shown.astype(int) - colour).max() <= 3
    with pytest.raises(ImageError, match="cut short"):
        image_to_array(CompressedImage(header=HEADER, format="rgb8; jpeg compressed bgr8", data=jpeg[: len(jpeg) // 2]))


def test_our_own_disparity_comes_back():
    values = np.random.default_rng(0).uniform(1, 40, RIG.shape).astype(np.float32)
    values[:4] = NAN
    disparity = Disparity(values, np.where(np.isnan(values), np.float32(NAN), np.float32(0.3)), np.zeros_like(values), RIG, -7.25, 48.0)
    back = disparity_to_array(conversions.disparity_to_message(disparity, HEADER))
    np.testing.assert_allclose(back, values + 7.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "limits", "expected"),
    [
        ([[-1.0, 5.0, NAN, np.inf]], (0.0, 64.0), [[NAN, 5.0, NAN, NAN]]),  # stereo_image_proc: least - 1 is unknown
        ([[9.0, 10.0, 20.0]], (10.0, 74.0), [[NAN, 10.0, 20.0]]),
        ([[0.0, 5.0]], (0.0, 10000.0), [[NAN, 5.0]]),  # Isaac: 0 is unknown
        ([[5.0, NAN]], (190.0, 3.0), [[5.0, NAN]]),  # ZED: the limits in the other order
        ([[5.0, 0.0]], (0.0, 0.0), [[5.0, NAN]]),  # no limits given
    ],
)
def test_unknown_disparities_of_every_driver(values, limits, expected):
    np.testing.assert_array_equal(disparity_to_array(disparity_message(values, *limits)), np.array(expected, np.float32))


def test_disparities_that_cannot_be_are_said():
    with pytest.raises(ImageError, match="its negative"):
        disparity_to_array(disparity_message([[-20.0, -3.0, NAN]]))
    message = disparity_message([[1.0]])
    message.image = array_to_image(np.ones((1, 1), np.uint16), HEADER)
    with pytest.raises(ImageError, match="32FC1, got 'mono16'"):
        disparity_to_array(message)


def test_confidences_of_every_meaning():
    def given(values, dtype, meaning):
        return confidence_to_array(array_to_image(np.array([values], dtype), HEADER), meaning)[0].tolist()

    assert given([0.0, 0.25, 1.0, NAN], np.float32, "fraction") == [0.0, 0.25, 1.0, 0.0]
    assert given([0, 50, 100], np.uint8, "percent") == pytest.approx([0.0, 0.5, 1.0])
    assert given([0.0, 1.0, 100.0], np.float32, "percent_inverted") == pytest.approx([1.0, 0.99, 0.0])
    assert given([0, 51, 255], np.uint8, "byte") == pytest.approx([0.0, 0.2, 1.0])
    with pytest.raises(ImageError, match=r"fraction lie in \[0, 1\], got 0 to 80"):
        given([0.0, 80.0], np.float32, "fraction")
    with pytest.raises(ImageError, match="one channel"):
        confidence_to_array(array_to_image(np.zeros((2, 2, 3), np.uint8), HEADER), "byte")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["32FC1", "16UC1", "mono8", "mono16", "rgb8", "", "64FC1", "nv12"]),
    st.tuples(st.integers(0, 2**32 - 1) | st.integers(0, 8), st.integers(0, 2**32 - 1) | st.integers(0, 8)),
    st.integers(0, 2**32 - 1) | st.integers(0, 64),
    st.binary(max_size=300),
    st.tuples(st.floats(width=32), st.floats(width=32)),
)
def test_whatever_comes_a_map_or_one_kind_of_error(encoding, size_wh, step, data, limits):
    message = Image(header=HEADER, encoding=encoding, width=size_wh[0], height=size_wh[1], step=step, data=data)
    disparity = DisparityImage(header=HEADER, image=message, min_disparity=limits[0], max_disparity=limits[1])
    layout = f"{encoding}; compressedDepth png"
    decoders = (
        lambda: depth_to_array(message),
        lambda: disparity_to_array(disparity),
        lambda: confidence_to_array(message, "fraction"),
        lambda: depth_to_array(CompressedImage(header=HEADER, format=layout, data=data)),
        lambda: image_to_array(CompressedImage(header=HEADER, format=encoding, data=data)),
    )
    for decode in decoders:
        try:
            array = decode()
        except ImageError:
            continue
        assert array.shape == (size_wh[1], size_wh[0]) and array.dtype == np.float32
        assert not np.isinf(array).any() and not (array < 0).any()


# camera_infos


def test_a_single_info_makes_the_rig_with_a_given_baseline():
    left, _ = rig_to_infos(RIG, HEADER)
    rig = info_to_rig(left, 0.05)
    assert (rig.size_wh, rig.fx, rig.fy, rig.cx, rig.cy) == (RIG.size_wh, 100.0, 101.0, 31.0, 23.5)
    assert rig.baseline_m == pytest.approx(0.05) and rig.doffs_px == 0.0
    left.roi.x_offset, left.roi.y_offset, left.roi.width, left.roi.height = 10, 4, 40, 30
    left.binning_x = left.binning_y = 2
    rig = info_to_rig(left, 0.05)
    assert (
        rig.size_wh == (20, 15) and (rig.fx, rig.cx, rig.cy) == pytest.approx((50.0, 10.5, 9.75)) and rig.baseline_m == pytest.approx(0.05)
    )
    left.p = np.zeros(12)
    with pytest.raises(CalibrationError, match="all zeros"):
        info_to_rig(left, 0.05)


def test_infos_of_other_pixels_are_named():
    cache = CameraInfoCache(False, ("left",))
    assert cache.missing() == ("left",)
    with pytest.raises(CalibrationError, match="no camera_info has come for the left camera"):
        cache.rig_of_left(0.1)
    left, depth = rig_to_infos(RIG, HEADER)[0], rig_to_infos(RIG, HEADER)[0]
    cache.update("left", left)
    assert cache.missing() == () and cache.rig_of_left(0.1).fx == 100.0
    depth.width, depth.height = 32, 24
    cache.update("depth", depth)
    with pytest.raises(CalibrationError, match="the depth's camera_info is of 32x24 pixels but the left one of 64x48"):
        cache.rig_of_left(0.1)
    depth = rig_to_infos(RIG, HEADER)[0]
    depth.p[0] = 130.0
    assert cache.update("depth", depth)
    with pytest.raises(CalibrationError, match="fx = 130 px but the left one 100 px"):
        cache.rig_of_left(0.1)
    cache.update("depth", rig_to_infos(RIG, HEADER)[0])
    assert cache.rig_of_left(0.1).fx == 100.0


def test_a_binned_info_is_compared_with_a_cropped_one_as_delivered():
    """Two ways to say the same pixels."""
    left, other = rig_to_infos(RIG, HEADER)[0], rig_to_infos(StereoRig((32, 24), 50.0, 50.5, 15.5, 11.75, 0.2), HEADER)[0]
    left.binning_x = left.binning_y = 2
    check_same_view(left, other, "depth")


@pytest.mark.parametrize("binning", [1, 2])
def test_a_raw_region_is_rectified_as_that_region_of_the_full_image(binning):
    """8 rational coefficients; infos of the full sensor with a roi, and binned pixels (every second, as u / 2 says)."""
    y, x = np.mgrid[:240, :320].astype(np.float32)
    full = np.clip(128 + 60 * np.sin(x / 17 + y / 40) + 60 * np.cos(y / 13 - x / 50), 0, 255).astype(np.uint8)
    rig = StereoRig((320, 240), 300.0, 300.0, 158.0, 121.0, 0.1)
    whole, region = rig_to_infos(rig, HEADER), rig_to_infos(rig, HEADER)
    for info in (*whole, *region):
        info.distortion_model, info.d = "rational_polynomial", [0.8, 0.3, 0.0005, -0.0003, 0.05, 1.1, 0.5, 0.1]
    for info in region:
        info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 40, 30, 200, 160
        info.binning_x = info.binning_y = binning
    rectified = {}
    for name, pair, shown in (("whole", whole, full), ("region", region, full[30:190:binning, 40:240:binning])):
        cache = CameraInfoCache(rectify=True)
        cache.update("left", pair[0])
        cache.update("right", pair[1])
        rectified[name], _, rectified_rig = cache.rectified(np.ascontiguousarray(shown), np.ascontiguousarray(shown))
    expected = rectified["whole"][30:190:binning, 40:240:binning].astype(int)
    inner = (slice(20, -20), slice(20, -20))
    assert rectified["region"].shape == expected.shape and rectified_rig.fx == pytest.approx(300.0 / binning)
    assert rectified_rig.baseline_m == pytest.approx(0.1)
    assert np.abs(rectified["region"].astype(int) - expected)[inner].max() <= (1 if binning == 1 else 4)
    assert np.abs(full[30:190:binning, 40:240:binning].astype(int) - expected)[inner].max() > 10  # it was distorted
