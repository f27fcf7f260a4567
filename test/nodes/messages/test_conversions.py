"""Messages against the arrays they were made of, and against cv_bridge and sensor_msgs_py where those are installed."""

import array
import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the messages cannot be tested")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.nodes.messages import conversions
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, image_to_array
from semantic_stereo_ros.types import Disparity, StereoRig

HEADER = conversions.make_header(1_234_567_890_123_456_789, "left_optical")
RIG = StereoRig((64, 48), fx=100.0, fy=101.0, cx=31.0, cy=23.5, baseline_m=0.2, doffs_px=7.25)


def make_disparity(rig=RIG, seed=0):
    rng = np.random.default_rng(seed)
    disparity = rng.uniform(1, 40, rig.shape).astype(np.float32)
    disparity[:, :5] = np.nan
    disparity[:3] = np.nan
    sigma = np.where(np.isfinite(disparity), np.float32(0.3), np.float32(np.nan))
    confidence = np.where(np.isfinite(disparity), np.float32(0.9), np.float32(0.0))
    return Disparity(disparity, sigma, confidence, rig, min_px=0.0, max_px=48.0)


def pixels(message, dtype):
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width, -1).squeeze()


def test_stamps_survive_in_nanoseconds():
    assert conversions.stamp_to_ns(HEADER.stamp) == 1_234_567_890_123_456_789
    assert conversions.stamp_to_ns(conversions.ns_to_stamp(-1)) == -1


@pytest.mark.parametrize(
    ("dtype", "channels", "encoding"),
    [(np.uint8, 1, "mono8"), (np.uint16, 1, "mono16"), (np.uint8, 3, "rgb8"), (np.uint16, 3, "rgb16"), (np.float32, 1, "32FC1")],
)
def test_image_there_and_back(dtype, channels, encoding):
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    image = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    message = array_to_image(image, HEADER)
    assert message.encoding == encoding and (message.width, message.height) == (7, 5) and message.header == HEADER
    assert message.step == 7 * channels * np.dtype(dtype).itemsize and isinstance(message.data, array.array)
    if dtype != np.float32:
        assert np.array_equal(image_to_array(message), image)
    else:
        with pytest.raises(ImageError, match="depth"):
            image_to_array(message)


def test_strided_arrays_are_published_as_what_they_show():
    image = np.arange(60, dtype=np.uint8).reshape(6, 10)
    assert np.array_equal(image_to_array(array_to_image(image[::2, ::3], HEADER)), image[::2, ::3])


def test_incoming_image_is_not_copied():
    message = array_to_image(np.zeros((4, 4), np.uint8), HEADER)
    view = image_to_array(message)
    message.data[5] = 77
    assert view[1, 1] == 77


def test_padded_rows_and_big_endian_pixels():
    image = np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000
    padded = np.zeros((3, 12), np.uint8)
    padded[:, :8] = image.astype(">u2").view(np.uint8).reshape(3, 8)
    message = Image(height=3, width=4, encoding="mono16", step=12, is_bigendian=1)
    message.data.frombytes(padded.tobytes())
    assert np.array_equal(image_to_array(message), image)


def test_unknown_encoding_and_truncated_data_are_named():
    message = array_to_image(np.zeros((4, 4), np.uint8), HEADER)
    message.encoding = "h264"
    with pytest.raises(ImageError, match="h264"):
        image_to_array(message)
    message = array_to_image(np.zeros((4, 4), np.uint8), HEADER)
    message.height = 5
    with pytest.raises(ImageError, match="cut short"):
        image_to_array(message)


def test_disparity_image_obeys_its_own_formula_with_doffs():
    """stereo_msgs/DisparityImage: Z = f * t / d, and max_disparity belongs to the nearest depth."""
    disparity = make_disparity()
    message = conversions.disparity_to_message(disparity, HEADER)
    shown = pixels(message.image, np.float32)
    assert message.f > 0 and message.t > 0 and message.delta_d > 0 and message.image.header == HEADER
    np.testing.assert_allclose(message.f * message.t / shown, disparity_to_depth(disparity.disparity_px, RIG), rtol=1e-6)
    assert message.min_disparity == pytest.approx(7.25) and message.max_disparity == pytest.approx(55.25)
    assert np.array_equal(np.isnan(shown), np.isnan(disparity.disparity_px))
    window = message.valid_window
    assert (window.x_offset, window.y_offset, window.width, window.height) == (5, 3, 59, 45)


def test_disparity_image_without_any_known_pixel_has_an_empty_window():
    nothing = np.full(RIG.shape, np.nan, np.float32)
    message = conversions.disparity_to_message(Disparity(nothing, nothing, np.zeros(RIG.shape, np.float32), RIG), HEADER)
    assert message.valid_window.width == message.valid_window.height == 0


def test_depth_in_metres_and_millimetres():
    depth = np.array([[1.2344, np.nan, 65.535, 65.6, 0.0003, -1.0]], np.float32)
    metres = conversions.depth_to_image(depth, HEADER)
    assert metres.encoding == "32FC1" and np.array_equal(pixels(metres, np.float32), depth[0], equal_nan=True)
    millimetres = conversions.depth_to_image(depth, HEADER, "16UC1")
    assert millimetres.encoding == "16UC1" and pixels(millimetres, np.uint16).tolist() == [1234, 0, 65535, 0, 0, 0]
    with pytest.raises(ImageError, match="64FC1"):
        conversions.depth_to_image(depth, HEADER, "64FC1")


def test_camera_infos_there_and_back():
    left, right = conversions.rig_to_infos(RIG, HEADER)
    assert dataclasses.astuple(conversions.infos_to_rig(left, right)) == (RIG.size_wh, *map(pytest.approx, dataclasses.astuple(RIG)[1:]))
    assert right.p[3] == pytest.approx(-100.0 * 0.2)


def test_region_of_interest_and_binning_are_honoured():
    infos = conversions.rig_to_infos(RIG, HEADER)
    for info in infos:
        info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 10, 4, 40, 30
        info.binning_x = info.binning_y = 2
    rig = conversions.infos_to_rig(*infos)
    assert rig.size_wh == (20, 15) and rig.fx == pytest.approx(50.0) and rig.cx == pytest.approx(10.5)
    assert rig.cy == pytest.approx(9.75) and rig.baseline_m == pytest.approx(0.2) and rig.doffs_px == pytest.approx(7.25 / 2)


def test_impossible_camera_infos_are_named():
    left, right = conversions.rig_to_infos(RIG, HEADER)
    with pytest.raises(CalibrationError, match="all zeros"):
        conversions.infos_to_rig(CameraInfo(width=64, height=48), right)
    with pytest.raises(CalibrationError, match="swap"):
        conversions.infos_to_rig(right, left)
    with pytest.raises(CalibrationError, match="above zero, got 0"):
        conversions.infos_to_rig(left, left)
    right.width = 32
    with pytest.raises(CalibrationError, match="32x48"):
        conversions.infos_to_rig(left, right)


def test_info_key_changes_with_everything_that_decides_the_geometry():
    def changed(**fields):
        info = conversions.rig_to_infos(RIG, HEADER)[0]
        for name, value in fields.items():
            setattr(info, name, value)
        return conversions.info_key(info)

    keys = [changed(), changed(width=65), changed(binning_x=2), changed(d=[0.1] * 5), changed(distortion_model="equidistant")]
    keys += [changed(**{name: np.full(n, 3.0)}) for name, n in (("k", 9), ("r", 9), ("p", 12))]
    assert len(set(keys)) == len(keys)
    assert changed() == changed(header=Header(frame_id="other"))


def test_pose_there_and_back():
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (0.3, -1.2, 2.0)).as_matrix()
    matrix[:3, 3] = (1.0, -2.0, 3.5)
    pose = conversions.matrix_to_pose(matrix)
    np.testing.assert_allclose(conversions.pose_to_matrix(pose), matrix, atol=1e-12)
    pose.orientation.x = pose.orientation.y = pose.orientation.z = pose.orientation.w = 0.0
    with pytest.raises(CalibrationError, match="quaternion"):
        conversions.pose_to_matrix(pose)


def test_cloud_fields_and_points():
    points = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    message = conversions.xyz_to_cloud(points, HEADER)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1)]
    assert (message.height, message.width, message.point_step, message.row_step, message.is_dense) == (1, 2, 12, 24, True)
    assert np.array_equal(np.frombuffer(message.data, np.float32).reshape(-1, 3), points)
    empty = conversions.xyz_to_cloud(np.zeros((0, 3), np.float32), HEADER)
    assert empty.width == 0 and len(empty.data) == 0


@pytest.mark.parametrize("encoding", ["mono8", "rgb8", "mono16", "32FC1"])
def test_images_equal_cv_bridges(encoding):
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed: nothing to compare with")
    dtype = {"mono8": np.uint8, "rgb8": np.uint8, "mono16": np.uint16, "32FC1": np.float32}[encoding]
    image = np.random.default_rng(2).integers(0, 255, (9, 11, 3) if encoding == "rgb8" else (9, 11)).astype(dtype)
    theirs = cv_bridge.CvBridge().cv2_to_imgmsg(image, encoding)
    theirs.header = HEADER
    assert array_to_image(image, HEADER) == theirs


def test_cloud_equals_sensor_msgs_pys():
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed: nothing to compare with")
    points = np.random.default_rng(3).normal(size=(100, 3)).astype(np.float32)
    theirs = point_cloud2.create_cloud_xyz32(HEADER, points)
    ours = conversions.xyz_to_cloud(points, HEADER)
    assert ours.fields == theirs.fields and bytes(ours.data) == bytes(theirs.data) and ours.point_step == theirs.point_step
