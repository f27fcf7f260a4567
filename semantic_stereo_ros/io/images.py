"""Images in: files of any usual kind, and the bytes of a sensor_msgs/Image without ROS."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError, InputFileError

_BAYER = {"rggb": "BayerBG2RGB", "bggr": "BayerRG2RGB", "gbrg": "BayerGR2RGB", "grbg": "BayerGB2RGB"}
# BT.601 limited range, as cv2's YUV2RGB_NV12 uses; rows R, G, B of (Y, U, V, 1).
_YUV_TO_RGB = np.array(
    [
        [1.164, 0.0, 1.596, -1.164 * 16 - 1.596 * 128],
        [1.164, -0.391, -0.813, -1.164 * 16 + (0.391 + 0.813) * 128],
        [1.164, 2.018, 0.0, -1.164 * 16 - 2.018 * 128],
    ]
)


@dataclass(frozen=True)
class _Encoding:
    """How the bytes lie and what to do: conversion is a cv2 colour code, 'rgb' (as is), 'drop_alpha' or a planar name."""

    dtype: type
    channels: int
    conversion: int | str = "as_is"


def _encodings() -> dict[str, _Encoding]:
    u8, u16 = np.uint8, np.uint16
    table = {
        "mono8": _Encoding(u8, 1),
        "8UC1": _Encoding(u8, 1),
        "mono16": _Encoding(u16, 1),
        "16UC1": _Encoding(u16, 1),
        "32FC1": _Encoding(np.float32, 1),
        "rgb8": _Encoding(u8, 3),
        "rgb16": _Encoding(u16, 3),
        "bgr8": _Encoding(u8, 3, cv2.COLOR_BGR2RGB),
        "bgr16": _Encoding(u16, 3, cv2.COLOR_BGR2RGB),
        "8UC3": _Encoding(u8, 3, cv2.COLOR_BGR2RGB),
        "16UC3": _Encoding(u16, 3, cv2.COLOR_BGR2RGB),
        "rgba8": _Encoding(u8, 4, cv2.COLOR_RGBA2RGB),
        "rgba16": _Encoding(u16, 4, cv2.COLOR_RGBA2RGB),
        "bgra8": _Encoding(u8, 4, cv2.COLOR_BGRA2RGB),
        "bgra16": _Encoding(u16, 4, cv2.COLOR_BGRA2RGB),
        "8UC4": _Encoding(u8, 4, cv2.COLOR_BGRA2RGB),
    }
    for pattern, code in _BAYER.items():
        table[f"bayer_{pattern}8"] = _Encoding(u8, 1, getattr(cv2, f"COLOR_{code}"))
        table[f"bayer_{pattern}16"] = _Encoding(u16, 1, getattr(cv2, f"COLOR_{code}"))
    for name in ("yuv422", "uyvy"):
        table[name] = _Encoding(u8, 2, cv2.COLOR_YUV2RGB_UYVY)
    for name in ("yuv422_yuy2", "yuyv"):
        table[name] = _Encoding(u8, 2, cv2.COLOR_YUV2RGB_YUY2)
    for name in ("nv12", "nv21", "nv24"):
        table[name] = _Encoding(u8, 1, name)
    return table


_TABLE = _encodings()
ENCODINGS = tuple(_TABLE)
_SUBSAMPLED = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21")


def decode_image(data, width: int, height: int, encoding: str, step: int | None = None, is_bigendian: bool = False) -> np.ndarray:
    """The bytes of a sensor_msgs/Image -> (H, W) grey or (H, W, 3) RGB, in the encoding's own depth (uint8, uint16; 32FC1 float32).

    data: bytes, bytearray, memoryview, array.array or a uint8 array. step: bytes per row, padding included; None = packed rows.
    Alpha is dropped, Bayer is demosaiced, YUV is BT.601; 8UC3 and 16UC3 are taken as BGR, as OpenCV writes them. Grey and RGB
    images are views of `data` (strided when rows are padded), everything else a copy.
    Raises ImageError for an unknown encoding, impossible sizes and truncated data.
    """
    entry = _TABLE.get(encoding) or _TABLE.get(encoding.lower())
    if entry is None:
        raise ImageError(f"unknown image encoding {encoding!r}; known: {', '.join(ENCODINGS)}")
    if width <= 0 or height <= 0:
        raise ImageError(f"an image must have at least one pixel, got width {width} and height {height}")
    if encoding.lower() in _SUBSAMPLED and width % 2:
        raise ImageError(f"a {encoding} image must have an even width, got {width}")
    if encoding.lower().startswith("bayer") and min(width, height) < 3:
        raise ImageError(f"a {encoding} image must have at least 3x3 pixels, got {width}x{height}")
    if entry.conversion in ("nv12", "nv21", "nv24"):
        return _decode_planar(data, width, height, str(entry.conversion), step)
    pixels = _rows(data, width, height, np.dtype(entry.dtype), entry.channels, step, encoding)
    big_endian_here = sys.byteorder == "big"
    if pixels.dtype.itemsize > 1 and bool(is_bigendian) != big_endian_here:
        pixels = pixels.byteswap()
    if isinstance(entry.conversion, str):
        return pixels
    return cv2.cvtColor(pixels, entry.conversion)


def _rows(data, width: int, height: int, dtype: np.dtype, channels: int, step: int | None, encoding: str) -> np.ndarray:
    """(H, W) or (H, W, C) view of the bytes. The last row's padding may be missing."""
    row_bytes = width * channels * dtype.itemsize
    step = row_bytes if step is None else int(step)
    if step < row_bytes:
        raise ImageError(f"step must be at least {row_bytes} bytes for {width} pixels of {encoding}, got {step}")
    flat = np.frombuffer(data, np.uint8)
    needed = step * (height - 1) + row_bytes
    if flat.size < needed:
        raise ImageError(f"a {width}x{height} {encoding} image with step {step} needs {needed} bytes, got {flat.size}: it was cut short")
    shape = (height, width) if channels == 1 else (height, width, channels)
    strides = (step, dtype.itemsize) if channels == 1 else (step, channels * dtype.itemsize, dtype.itemsize)
    if dtype.itemsize > 1 and (step % dtype.itemsize or flat.ctypes.data % dtype.itemsize):
        flat = np.lib.stride_tricks.as_strided(flat, (height, row_bytes), (step, 1)).copy().ravel()
        strides = (row_bytes, *strides[1:])
    usable = flat.size - flat.size % dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat[:usable].view(dtype), shape, strides)


def _decode_planar(data, width: int, height: int, encoding: str, step: int | None) -> np.ndarray:
    """nv12, nv21: Y plane, then interleaved UV (VU) at half resolution; nv24: UV at full resolution. All with BT.601."""
    if encoding != "nv24" and height % 2:
        raise ImageError(f"a {encoding} image must have an even height, got {height}")
    step = width if step is None else int(step)
    if encoding != "nv24":
        planes = _rows(data, width, height * 3 // 2, np.dtype(np.uint8), 1, step, encoding)
        code = cv2.COLOR_YUV2RGB_NV12 if encoding == "nv12" else cv2.COLOR_YUV2RGB_NV21
        return cv2.cvtColor(np.ascontiguousarray(planes), code)
    luma = _rows(data, width, height, np.dtype(np.uint8), 1, step, encoding)
    flat = np.frombuffer(data, np.uint8)
    if flat.size < step * height + 2 * width * height:
        raise ImageError(
            f"a {width}x{height} nv24 image needs {step * height + 2 * width * height} bytes, got {flat.size}: it was cut short"
        )
    chroma = _rows(flat[step * height :], width, height, np.dtype(np.uint8), 2, 2 * step, encoding)
    return cv2.transform(np.dstack([np.maximum(luma, 16), chroma]), _YUV_TO_RGB)


def decode_compressed(data, name: str = "the compressed image", layout: str = "") -> np.ndarray:
    """The bytes of a PNG, JPEG, TIFF, ... file -> (H, W) grey or (H, W, 3) RGB, uint8 or uint16; alpha is dropped.

    layout: CompressedImage.format, 'ORIGINAL; CODEC compressed CHANNELS'. The data tell their codec themselves; but CHANNELS rgb8 or
    rgb16 mean that red and blue lie exchanged in the file, and a grey file of a Bayer original is demosaiced.
    Raises ImageError for empty or broken data, another dtype, and the formats of depth images.
    """
    if "compressedDepth" in layout:
        raise ImageError(f"{name} has the format {layout!r}, which is a depth image's: subscribe to a camera image")
    flat = np.frombuffer(data, np.uint8)
    if flat.size == 0:
        raise ImageError(f"{name} is empty (0 bytes)")
    head, tail = flat[:8].tobytes(), flat[-(1 << 16) :].tobytes()
    cut = (head.startswith(b"\x89PNG") and b"IEND" not in tail) or (head.startswith(b"\xff\xd8") and b"\xff\xd9" not in tail)
    image = None if cut else _imdecode(flat)
    if image is None or image.size == 0:
        raise ImageError(f"{name} could not be decoded as an image ({flat.size} bytes): it is cut short, broken, or no image")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} must hold uint8 or uint16 pixels, got {image.dtype}: a disparity or depth file is no camera image")
    if image.ndim == 3 and image.shape[2] in (1, 2):
        image = np.ascontiguousarray(image[:, :, 0])
    original, _, compressed = layout.partition(";")
    if image.ndim == 2:
        mosaic = original.strip().lower() if original.strip().lower().startswith("bayer_") else ""
        return cv2.cvtColor(image, int(_TABLE[mosaic].conversion)) if mosaic in _TABLE else image
    if compressed.split()[-1:] in (["rgb8"], ["rgb16"]):
        return np.ascontiguousarray(image[:, :, :3])
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _imdecode(flat: np.ndarray) -> np.ndarray | None:
    try:
        return cv2.imdecode(flat, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def alike(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair in one colour form: a grey and a colour image become both grey.

    Raises ImageError when size or bit depth differ.
    """
    if left.shape[:2] != right.shape[:2]:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (left, right)]
        raise ImageError(f"left and right images must have one size, got {sizes[0]} and {sizes[1]}")
    if left.dtype != right.dtype:
        raise ImageError(f"left and right images must have one bit depth, got {left.dtype} and {right.dtype}")
    if left.ndim != right.ndim:
        left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image for image in (left, right))
    return left, right


def read_image(path: str | Path) -> np.ndarray:
    """An image file -> (H, W) grey or (H, W, 3) RGB, uint8 or uint16 as stored; alpha is dropped.

    Raises InputFileError when the file is missing or is no file, ImageError when it is empty, broken or of another dtype.
    """
    return decode_compressed(read_bytes(path, "image"), str(path))


def read_labels(path: str | Path) -> np.ndarray:
    """An 8- or 16-bit single-channel PNG or TIFF of instance ids -> (H, W) uint16. Raises ImageError for a colour picture."""
    labels = read_image(path)
    if labels.ndim != 2:
        raise ImageError(f"{path} must be a single-channel image of instance ids, got a colour image of shape {labels.shape}")
    return labels.astype(np.uint16)


def read_bytes(path: str | Path, kind: str) -> bytes:
    """The bytes of a file; InputFileError saying which `kind` of file is missing or unreadable."""
    path = Path(path)
    if not path.exists():
        raise InputFileError(f"the {kind} file {path} does not exist: check the path")
    if not path.is_file():
        raise InputFileError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, but the {kind} file was expected")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputFileError(f"the {kind} file {path} cannot be read ({error.strerror}): check its permissions") from error
