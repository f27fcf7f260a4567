"""A LabeledCloud as the records of a sensor_msgs/PointCloud2: one structured array, whose bytes are the message's data."""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.types import LabeledCloud

# rgb is 0x00RRGGBB in the bits of a FLOAT32, the convention of PCL and RViz
CLOUD_DTYPE = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<f4"), ("label", "<u4"), ("instance", "<u4"), ("confidence", "<f4")]
)


def pack_cloud(cloud: LabeledCloud, out: np.ndarray | None = None) -> np.ndarray:
    """(h, w) array of CLOUD_DTYPE: x y z float32 m, rgb, label = class id uint32, instance = object id uint32, confidence float32.

    out: a C-contiguous (h, w) array of CLOUD_DTYPE to fill (the message's own memory, say); by default a new one.
    Raises ImageError when it does not fit.
    """
    shape = cloud.class_id.shape
    if out is None:
        out = np.empty(shape, CLOUD_DTYPE)
    elif out.shape != shape or out.dtype != CLOUD_DTYPE or not out.flags.c_contiguous:
        raise ImageError(f"the cloud buffer must be C-contiguous {shape} of the cloud's records, got {out.shape} of {out.dtype}")
    if not shape[0] or not shape[1]:
        return out
    # field by field: a strided copy of three columns at once takes NumPy three times as long
    out["x"], out["y"], out["z"] = (cloud.xyz[..., axis] for axis in range(3))
    out["rgb"] = pack_rgb(cloud.rgb).view("<f4")
    out["label"] = cloud.class_id
    out["instance"] = cloud.instance
    out["confidence"] = cloud.confidence
    return out


def pack_rgb(rgb: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB -> (h, w) uint32 0x00RRGGBB."""
    if not rgb.size:
        return np.zeros(rgb.shape[:2], np.uint32)
    packed = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA).view("<u4")[..., 0]  # alpha 255
    packed &= np.uint32(0x00FFFFFF)
    return packed
