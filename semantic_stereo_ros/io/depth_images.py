"""Depth images in: files, and what a depth camera sends (REP-118: 32FC1 in m, 16UC1 in mm)."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError, InputFileError
from semantic_stereo_ros.io.disparity_files import read_map

MILLIMETRE = 1000.0
_HEADER = struct.Struct("<iff")


def depth_in_metres(values: np.ndarray, scale: float | None = None) -> np.ndarray:
    """(H, W) depth as stored -> float32 m, NaN where it is 0, negative, NaN or infinite (REP-117, REP-118).

    scale: stored values per metre; by default 1000 for integers (mm), 1 for floats. A new array. Raises ImageError for another shape.
    """
    if values.ndim != 2:
        raise ImageError(f"a depth image must be (H, W), got shape {values.shape}")
    if scale is None:
        scale = MILLIMETRE if np.issubdtype(values.dtype, np.integer) else 1.0
    depth_m = values.astype(np.float32)
    if scale != 1.0:
        depth_m /= np.float32(scale)
    with np.errstate(invalid="ignore"):
        depth_m[~((depth_m > 0) & (depth_m < np.inf))] = np.nan
    return depth_m


def read_depth(path: str | Path, scale: float | None = None) -> np.ndarray:
    """A depth file (.npy, .npz, .pfm, .tif in m; 16-bit .png or .tif in mm) -> (H, W) float32 m, NaN unknown.

    scale: stored values per metre, for files in other units: 5000 for TUM's, 256 for KITTI's PNGs. Raises InputFileError for a file
    that is no (H, W) map, or of 8 bits.
    """
    values = read_map(path, "depth")
    if values.ndim != 2 or not values.size:
        raise InputFileError(f"{path} must hold a depth map (H, W), got shape {values.shape}")
    if values.dtype in (np.uint8, np.bool_):
        raise InputFileError(f"{path} holds 8-bit values, too coarse for a depth: is it a picture of one? Expected 16-bit or float values")
    return depth_in_metres(values, scale)


def decode_compressed_depth(data, layout: str) -> np.ndarray:
    """What compressed_depth_image_transport sends -> (H, W) float32 m, NaN unknown.

    data: a header of 12 bytes, then a 16-bit PNG: mm of a 16UC1 image, or for 32FC1 the quantised inverse depth whose two parameters
    the header holds (depth = a / (value - b)). layout: CompressedImage.format, 'ORIGINAL; compressedDepth CODEC'; an empty text is
    taken for a 16UC1 PNG. Raises ImageError for other formats and broken data.
    """
    original, _, codec = layout.partition(";")
    if codec.split() not in ([], ["compressedDepth"], ["compressedDepth", "png"]) or original.strip() not in ("16UC1", "32FC1", ""):
        raise ImageError(f"compressed depth must be '16UC1; compressedDepth png' or '32FC1; compressedDepth png', got {layout!r}")
    if len(data) <= _HEADER.size:
        raise ImageError(
            f"a compressed depth image needs a header of {_HEADER.size} bytes and a PNG, got {len(data)} bytes: it was cut short"
        )
    _, a, b = _HEADER.unpack(bytes(data[: _HEADER.size]))
    flat = np.frombuffer(data, np.uint8)[_HEADER.size :]
    cut = b"IEND" not in flat[-64:].tobytes()
    values = None if cut else cv2.imdecode(flat, cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ImageError(f"the compressed depth ({flat.size} bytes) holds no whole 16-bit PNG: it is cut short or broken")
    if original.strip() != "32FC1":
        return depth_in_metres(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth_m = np.float32(a) / (values.astype(np.float32) - np.float32(b))
    depth_m[values == 0] = np.nan
    return depth_in_metres(depth_m)
