"""What the stages tell each other, from messages back into types: the opposite of conversions.py and object_messages.py.

Only stereo_node sees the cameras. It announces the frames that it takes with their left image and rig; everything later carries that stamp.
"""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.io.images import decode_image
from semantic_stereo_ros.msg import InstanceMasks, InstanceRecord
from semantic_stereo_ros.types import Disparity, GroundPlane, Instance, LabelLayer, Measured, Segmentation, StereoFrame, StereoRig

_SAME_RIG = 1e-5
"""f and t of a DisparityImage are float32; farther apart they are of another calibration."""

LEFT_OUT = Segmentation((), ())
"""What segmentation_node says of a frame of which it makes no masks (segmentation.every_n, max_rate_hz)."""


def message_to_disparity(message: DisparityImage, sigma: Image, confidence: Image | None, rig: StereoRig) -> Disparity:
    """The Disparity that disparity_to_message, and array_to_image for sigma_px and the unstrided confidence, were given.

    rig: of the same frame; its doffs_px are taken off again. Exact where doffs_px is 0, else within one float32 step of d + doffs.
    Without a confidence, which only clouds and some segmentation backends read, it is NaN. Raises ImageError for other encodings, sizes
    or cut data, CalibrationError when f and t are not the rig's.
    """
    if abs(message.f / rig.fx - 1.0) > _SAME_RIG or abs(message.t / rig.baseline_m - 1.0) > _SAME_RIG:
        raise CalibrationError(
            f"the disparity was made with f = {message.f:g} px and a baseline of {message.t:g} m, but the camera_infos of its stamp say "
            f"{rig.fx:g} px and {rig.baseline_m:g} m: two sources publish under one name"
        )
    shifted = _floats(message.image, "disparity", rig)
    return Disparity(
        disparity_px=shifted - np.float32(rig.doffs_px) if rig.doffs_px else shifted,
        sigma_px=_floats(sigma, "disparity_sigma", rig),
        confidence=_floats(confidence, "confidence", rig) if confidence is not None else np.broadcast_to(np.float32(np.nan), rig.shape),
        rig=rig,
        min_px=message.min_disparity - rig.doffs_px,
        max_px=message.max_disparity - rig.doffs_px,
    )


def _floats(message: Image, name: str, rig: StereoRig) -> np.ndarray:
    """(H, W) float32, a view of the message's bytes where possible."""
    if message.encoding != "32FC1":
        raise ImageError(f"{name} must have the encoding 32FC1, got {message.encoding!r}")
    if (message.width, message.height) != rig.size_wh:
        raise ImageError(f"{name} must have the rig's size {rig.size_wh}, got {(message.width, message.height)} (width, height)")
    data = memoryview(message.data)
    return decode_image(data, message.width, message.height, message.encoding, message.step, bool(message.is_bigendian))


def message_to_segmentation(message: InstanceMasks) -> Segmentation | None:
    """The Segmentation that masks_message was given, scores as float32; None for LEFT_OUT.

    Raises ImageError when it does not hold together.
    """
    layers = tuple(LabelLayer(_labels(layer.labels, layer.level), layer.level) for layer in message.layers)
    if not layers and not message.instances:
        return None
    plane = np.asarray(message.ground_plane, np.float64)
    ground = None if np.isnan(plane).any() else GroundPlane(plane[:3], float(plane[3]), message.ground_sigma_m)
    return Segmentation(layers, tuple(_instance(record, len(layers)) for record in message.instances), ground)


def _labels(message: Image, level: str) -> np.ndarray:
    if message.encoding != "mono16":
        raise ImageError(f"the label image of the layer {level!r} must have the encoding mono16, got {message.encoding!r}")
    data = memoryview(message.data)
    return decode_image(data, message.width, message.height, message.encoding, message.step, bool(message.is_bigendian))


def _instance(record: InstanceRecord, layers: int) -> Instance:
    if record.layer >= layers:
        raise ImageError(f"the instance {record.label} is of layer {record.layer}, but the masks have {layers}")
    return Instance(
        label=record.label,
        layer=record.layer,
        parent=record.parent or None,
        source_key=record.source_key or None,
        class_id=record.class_id,
        class_name=record.class_name,
        score=record.score,
    )


def frame_of(
    rig: StereoRig,
    stamp_ns: int,
    *,
    left: np.ndarray | None = None,
    disparity: Disparity | None = None,
    pose_world_camera: np.ndarray | None = None,
) -> StereoFrame:
    """A frame as the stages after stereo see it: no right image, its disparity as what was measured (unknown where there is none).

    Without a left image, which only pictures and clouds read, it is black; no memory is spent on it.
    """
    black = np.broadcast_to(np.uint8(0), rig.shape)
    measured = disparity.disparity_px if disparity is not None else np.broadcast_to(np.float32(np.nan), rig.shape)
    return StereoFrame(black if left is None else left, None, rig, stamp_ns, pose_world_camera, Measured(disparity_px=measured))
