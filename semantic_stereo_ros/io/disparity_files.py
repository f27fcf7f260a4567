"""Disparity files, ground truth or a camera's own: .npy, .npz, .pfm, float .tif, 16-bit .png of KITTI."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.io.images import read_bytes

KITTI_SCALE = 256.0


def read_disparity(path: str | Path, *, scale: float | None = None, invalid: float | None = None, empty_ok: bool = False) -> np.ndarray:
    """(H, W) float32 disparity in px, NaN where the file has no truth.

    scale: file values per px; by default 256 for 16-bit PNG (KITTI), 1 otherwise. invalid: the value that means 'no truth'
    beside NaN and infinity; by default 0 for PNG, none otherwise. Raises InputFileError for a file that is no (H, W) map, or, unless
    empty_ok, without any truth.
    """
    path = Path(path)
    values = read_map(path, "disparity")
    if values.ndim != 2 or not values.size:
        raise InputFileError(f"{path} must hold a disparity map (H, W), got shape {values.shape}")
    integer_png = path.suffix.lower() == ".png"
    if invalid is None and integer_png:
        invalid = 0.0
    if scale is None:
        scale = KITTI_SCALE if integer_png and values.dtype == np.uint16 else 1.0
    disparity = values.astype(np.float32)
    unknown = ~np.isfinite(disparity)
    if invalid is not None:
        unknown |= disparity == np.float32(invalid)
    disparity /= np.float32(scale)
    disparity[unknown] = np.nan
    if unknown.all() and not empty_ok:
        doubt = f": is {invalid:g} right for unknown pixels?" if invalid else ""
        raise InputFileError(f"{path} holds no pixel with a known disparity{doubt}")
    return disparity


def read_map(path: str | Path, kind: str) -> np.ndarray:
    """The array of a .npy, .npz, .pfm, .tif or .png file as stored. kind: 'disparity' or 'depth', for the errors. Raises InputFileError."""
    path = Path(path)
    if path.suffix.lower() in (".npy", ".npz"):
        return _read_numpy(path, kind)
    data = np.frombuffer(read_bytes(path, kind), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if values is None:
        raise InputFileError(f"{path} is no {kind} file in a known format (.npy, .npz, .pfm, .tif, .png)")
    return values


def _read_numpy(path: Path, kind: str) -> np.ndarray:
    """The one array of numbers in a NumPy file; other objects are never unpickled."""
    data = io.BytesIO(read_bytes(path, kind))
    try:
        content = np.load(data, allow_pickle=False)
        arrays = {name: content[name] for name in content.files} if isinstance(content, np.lib.npyio.NpzFile) else {"": content}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputFileError(f"{path} is not a plain NumPy file: {error}") from error
    if len(arrays) != 1:
        raise InputFileError(f"{path} must hold one array, got {', '.join(arrays) or 'none'}")
    (array,) = arrays.values()
    if array.dtype.kind not in "biuf":
        raise InputFileError(f"{path} must hold numbers, got an array of {array.dtype}")
    return array
