"""Arrays <-> image, disparity, camera and cloud messages. One copy per large array, none on the way in where bytes are pixels.

Array fields are filled by `frombytes` on the fresh message's own array: assigning an ndarray or a memoryview costs 100 times as
much in rclpy (docs/decisions/0002-own-synchroniser-and-conversions.md).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.fusion.packing import pack_cloud
from semantic_stereo_ros.geometry.calibration import CameraModel, StereoCalibration, apply_binning_roi, rig_from_projection
from semantic_stereo_ros.geometry.rectification import with_projections
from semantic_stereo_ros.io.images import decode_compressed, decode_image
from semantic_stereo_ros.tracking.track import turned
from semantic_stereo_ros.types import Disparity, LabeledCloud, StereoRig

NANOSECONDS = 1_000_000_000
SUBPIXEL_STEP_PX = 1.0 / 16.0  # OpenCV's semi-global matching answers in sixteenths before it is refined
_UNTURNED = np.array((0.0, 0.0, 0.0, 1.0))
_ENCODINGS = {
    ("uint8", 1): "mono8",
    ("uint16", 1): "mono16",
    ("float32", 1): "32FC1",
    ("uint8", 3): "rgb8",
    ("uint16", 3): "rgb16",
}
_POINT_FIELD_TYPES = {
    "int8": PointField.INT8,
    "uint8": PointField.UINT8,
    "int16": PointField.INT16,
    "uint16": PointField.UINT16,
    "int32": PointField.INT32,
    "uint32": PointField.UINT32,
    "float32": PointField.FLOAT32,
    "float64": PointField.FLOAT64,
}


def stamp_to_ns(stamp: Time) -> int:
    return stamp.sec * NANOSECONDS + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    seconds, nanoseconds = divmod(int(stamp_ns), NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def make_header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=ns_to_stamp(stamp_ns), frame_id=frame_id)


def image_to_array(message: Image | CompressedImage) -> np.ndarray:
    """A camera's image -> (H, W) grey or (H, W, 3) RGB, uint8 or uint16; a view of the message's bytes where possible.

    Raises ImageError for an unknown encoding, impossible sizes, truncated or broken data, and for 32FC1, which is no camera image.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(memoryview(message.data), "the compressed image", message.format)
    array = pixels(message)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"a camera image must hold 8- or 16-bit pixels, got encoding {message.encoding!r}: is this a depth topic?")
    return array


def pixels(message: Image) -> np.ndarray:
    """The decoded pixels of any encoding: as image_to_array, and 32FC1 as (H, W) float32. Raises ImageError."""
    return decode_image(memoryview(message.data), message.width, message.height, message.encoding, message.step, bool(message.is_bigendian))


def array_to_image(array: np.ndarray, header: Header, encoding: str | None = None) -> Image:
    """(H, W) uint8, uint16 or float32, or (H, W, 3) RGB uint8 or uint16 -> sensor_msgs/Image; `encoding` overrides the usual name."""
    channels = 1 if array.ndim == 2 else array.shape[2]
    encoding = encoding or _ENCODINGS.get((array.dtype.name, channels))
    if encoding is None:
        raise ImageError(f"no image encoding holds {array.dtype.name} with {channels} channels")
    message = Image(header=header, encoding=encoding, is_bigendian=int(sys.byteorder == "big"))
    message.height, message.width = array.shape[:2]
    message.step = array.shape[1] * channels * array.dtype.itemsize
    fill(message.data, array)
    return message


def fill(destination, array: np.ndarray) -> None:
    """Append the array's bytes to a fresh message's own array.array('B'): one copy."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size:  # an empty view has no byte format
        destination.frombytes(flat.view(np.uint8))


def depth_to_image(depth_m: np.ndarray, header: Header, encoding: str = "32FC1") -> Image:
    """(H, W) float32 m, NaN unknown -> REP-118 depth: 32FC1 in m with NaN, or 16UC1 in mm with 0 for unknown and for overflow."""
    if encoding == "32FC1":
        return array_to_image(depth_m.astype(np.float32, copy=False), header, encoding)
    if encoding != "16UC1":
        raise ImageError(f"depth is published as 32FC1 or 16UC1, got {encoding!r}")
    with np.errstate(invalid="ignore"):
        millimetres = np.rint(depth_m * np.float32(1000.0))
        known = (millimetres >= 1) & (millimetres <= np.iinfo(np.uint16).max)
    return array_to_image(np.where(known, millimetres, 0).astype(np.uint16), header, encoding)


def disparity_to_message(disparity: Disparity, header: Header) -> DisparityImage:
    """stereo_msgs/DisparityImage whose pixels hold d + doffs, so that its own formula Z = f * t / d holds; NaN unknown.

    min_disparity and max_disparity are shifted by doffs, too; valid_window is the bounding box of the known pixels.
    """
    rig = disparity.rig
    shifted = disparity.disparity_px + np.float32(rig.doffs_px) if rig.doffs_px else disparity.disparity_px
    message = DisparityImage(header=header, f=rig.fx, t=rig.baseline_m, delta_d=SUBPIXEL_STEP_PX)
    message.image = array_to_image(shifted, header, "32FC1")
    message.min_disparity = float(disparity.min_px + rig.doffs_px)
    message.max_disparity = float(disparity.max_px + rig.doffs_px)
    message.valid_window = _bounding_window(np.isfinite(shifted))
    return message


def _bounding_window(known: np.ndarray) -> RegionOfInterest:
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    if not rows.size:
        return RegionOfInterest()
    return RegionOfInterest(
        x_offset=int(columns[0]),
        y_offset=int(rows[0]),
        width=int(columns[-1] - columns[0] + 1),
        height=int(rows[-1] - rows[0] + 1),
    )


def rig_to_infos(rig: StereoRig, header: Header) -> tuple[CameraInfo, CameraInfo]:
    """The camera_info pair of a rectified rig; both carry the left frame's header (sensor_msgs/CameraInfo, REP-104)."""
    infos = []
    for cx, shift in ((rig.cx, 0.0), (rig.cx_right, -rig.bf)):
        info = CameraInfo(header=header, distortion_model="plumb_bob")
        info.width, info.height = rig.size_wh
        info.d = [0.0] * 5
        info.k = [rig.fx, 0.0, cx, 0.0, rig.fy, rig.cy, 0.0, 0.0, 1.0]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [rig.fx, 0.0, cx, shift, 0.0, rig.fy, rig.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
        infos.append(info)
    return infos[0], infos[1]


def calibration_to_infos(calibration: StereoCalibration, header: Header) -> tuple[CameraInfo, CameraInfo]:
    """The camera_info pair of raw images, with R and P to rectify them by; both carry the left frame's header."""
    complete = with_projections(calibration)
    r1, r2, p1, p2 = complete.projections()
    infos = []
    for camera, rotation, projection in ((complete.left, r1, p1), (complete.right, r2, p2)):
        info = CameraInfo(header=header, distortion_model=camera.model)
        info.width, info.height = complete.size_wh
        info.d, info.k = camera.distortion.tolist(), camera.matrix.ravel().tolist()
        info.r, info.p = np.ravel(rotation).tolist(), np.ravel(projection).tolist()
        infos.append(info)
    return infos[0], infos[1]


def info_key(info: CameraInfo) -> tuple:
    """Everything that decides the geometry: equal keys mean that nothing changed."""
    roi = info.roi
    return (
        (info.width, info.height, info.distortion_model, info.binning_x, info.binning_y),
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        *(np.asarray(getattr(info, name), np.float64).tobytes() for name in ("d", "k", "r", "p")),
    )


def infos_to_rig(left: CameraInfo, right: CameraInfo) -> StereoRig:
    """The rig of rectified images. roi and binning are honoured. Raises CalibrationError that says what is wrong with the infos."""
    left_p, left_size = _delivered(left, left.p)
    right_p, right_size = _delivered(right, right.p)
    if left_size != right_size:
        sizes = [f"{width}x{height}" for width, height in (left_size, right_size)]
        raise CalibrationError(f"the two camera_infos must be of one image size, got {sizes[0]} (left) and {sizes[1]} (right)")
    return rig_from_projection(left_p, right_p, left_size)


def info_to_rig(info: CameraInfo, baseline_m: float) -> StereoRig:
    """The rig of a single rectified camera, with a baseline from elsewhere and doffs 0. roi and binning are honoured. CalibrationError."""
    matrix, size_wh = _delivered(info, info.p)
    second = matrix.copy()
    second[0, 3] -= matrix[0, 0] * baseline_m
    return rig_from_projection(matrix, second, size_wh)


def check_same_view(left: CameraInfo, other: CameraInfo, name: str) -> None:
    """Raise CalibrationError unless both infos describe the same pixels: one size, fx, fy, cx and cy within a pixel."""
    (left_p, left_size), (other_p, other_size) = _delivered(left, left.p), _delivered(other, other.p)
    advice = "let the driver align it to the left image, or remap left/* to the image that it belongs to"
    if left_size != other_size:
        sizes = [f"{width}x{height}" for width, height in (left_size, other_size)]
        raise CalibrationError(f"the {name}'s camera_info is of {sizes[1]} pixels but the left one of {sizes[0]}: {advice}")
    for label, row, column in (("fx", 0, 0), ("fy", 1, 1), ("cx", 0, 2), ("cy", 1, 2)):
        ours, theirs = left_p[row, column], other_p[row, column]
        if not abs(ours - theirs) <= max(1.0, 2e-3 * abs(ours)):
            raise CalibrationError(f"the {name}'s camera_info has {label} = {theirs:g} px but the left one {ours:g} px: {advice}")


def infos_to_calibration(left: CameraInfo, right: CameraInfo) -> StereoCalibration:
    """The calibration of raw images (for rectification), roi and binning honoured. Raises CalibrationError."""
    cameras, projections, size_wh = [], [], (0, 0)
    for name, info in (("left camera", left), ("right camera", right)):
        if not np.any(info.k):
            raise CalibrationError(f"the {name} is not calibrated: the K of its camera_info is all zeros; calibrate the pair first")
        matrix, size_wh = _delivered(info, info.k)
        projections.append(_delivered(info, info.p)[0])
        cameras.append(CameraModel(matrix, np.asarray(info.d, np.float64), info.distortion_model, name))
    return StereoCalibration(
        left=cameras[0],
        right=cameras[1],
        size_wh=size_wh,
        rectification_left=np.reshape(left.r, (3, 3)),
        projection_left=projections[0],
        rectification_right=np.reshape(right.r, (3, 3)),
        projection_right=projections[1],
    )


def _delivered(info: CameraInfo, matrix: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """A K or P of the full sensor as that of the delivered image, and the image's size. One that was never set stays zero."""
    roi = (info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height)
    delivered, size_wh = apply_binning_roi(matrix, (info.width, info.height), (info.binning_x, info.binning_y), roi)
    return delivered if np.any(matrix) else np.zeros_like(delivered), size_wh


def pose_to_matrix(pose: Pose) -> np.ndarray:
    """geometry_msgs/Pose -> 4x4 float64. Raises CalibrationError for a quaternion without length or anything not finite."""
    p, q = pose.position, pose.orientation
    quaternion = np.array([q.x, q.y, q.z, q.w])
    length = float(np.linalg.norm(quaternion))
    matrix = np.eye(4)
    matrix[:3, 3] = (p.x, p.y, p.z)
    if not np.isfinite(matrix).all() or not math.isfinite(length) or length < 1e-6:
        raise CalibrationError(f"a pose must be finite with a unit quaternion, got position {matrix[:3, 3]} and {quaternion}")
    x, y, z, w = quaternion / length
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return matrix


def matrix_to_pose(matrix: np.ndarray) -> Pose:
    """4x4 rigid transform -> geometry_msgs/Pose."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in matrix[:3, 3])
    quaternion = turned(_UNTURNED, matrix[:3, :3])
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = (float(v) for v in quaternion)
    return pose


def structured_to_cloud(points: np.ndarray, header: Header, is_dense: bool) -> PointCloud2:
    """A structured array, (N,) or organised (h, w), -> sensor_msgs/PointCloud2 with one field per named column."""
    if points.dtype.names is None or points.dtype.fields is None:
        raise ImageError(f"a cloud needs a structured array with named fields, got {points.dtype}")
    message = PointCloud2(header=header, is_dense=is_dense, is_bigendian=sys.byteorder == "big")
    message.height, message.width = (1, points.shape[0]) if points.ndim == 1 else points.shape
    message.point_step = points.dtype.itemsize
    message.row_step = message.point_step * message.width
    columns = [(name, *points.dtype.fields[name][:2]) for name in points.dtype.names]
    message.fields = [
        PointField(name=name, offset=int(offset), datatype=_POINT_FIELD_TYPES[kind.name], count=1) for name, kind, offset in columns
    ]
    fill(message.data, points)
    return message


def xyz_to_cloud(points_m: np.ndarray, header: Header) -> PointCloud2:
    """(N, 3) finite points -> an unorganised dense cloud with x, y, z float32."""
    packed = np.ascontiguousarray(points_m, np.float32).reshape(-1, 3)
    fields = np.dtype([(axis, np.float32) for axis in "xyz"])
    return structured_to_cloud(packed.view(fields).reshape(-1), header, is_dense=True)


def cloud_to_message(cloud: LabeledCloud, header: Header) -> PointCloud2:
    """The labeled cloud, organised, NaN where unknown: x y z float32, rgb, label uint32, instance uint32, confidence."""
    return structured_to_cloud(pack_cloud(cloud), header, is_dense=False)
