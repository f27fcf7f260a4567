"""Depth images: units, what is unknown, and what compressed_depth_image_transport sends."""

import struct

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError, InputFileError
from semantic_stereo_ros.io.depth_images import decode_compressed_depth, depth_in_metres, read_depth

DEPTH_M = np.random.default_rng(5).uniform(0.5, 8.0, (12, 16)).astype(np.float32)
DEPTH_M[0, :3] = np.nan


def compressed(depth_m: np.ndarray, layout: str, farthest_m: float = 10.0, quantisation: float = 100.0) -> bytes:
    """As compressed_depth_image_transport encodes: mm as they are, metres as quantised inverse depth a / Z + b, 0 = unknown."""
    if layout.startswith("16UC1"):
        values, a, b = np.nan_to_num(np.rint(depth_m * 1000)).astype(np.uint16), 0.0, 0.0
    else:
        a = quantisation * (quantisation + 1.0)
        b = 1.0 - a / farthest_m
        values = np.nan_to_num(a / depth_m.astype(np.float64) + b).astype(np.uint16)
    return struct.pack("<iff", 0, a, b) + cv2.imencode(".png", values)[1].tobytes()


def test_metres_and_millimetres_with_every_kind_of_unknown():
    stored = np.array([[1.5, 0.0, -1.0, np.nan, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(depth_in_metres(stored), np.array([[1.5] + [np.nan] * 5], np.float32))
    np.testing.assert_array_equal(depth_in_metres(np.array([[0, 1, 65535]], np.uint16)), np.array([[np.nan, 0.001, 65.535]], np.float32))
    np.testing.assert_allclose(depth_in_metres(np.array([[5000]], np.uint16), 5000), [[1.0]])
    with pytest.raises(ImageError, match=r"\(H, W\), got shape \(2, 2, 3\)"):
        depth_in_metres(np.zeros((2, 2, 3), np.float32))


@pytest.mark.parametrize("name", ["a.npy", "a.pfm", "a.tif", "a.png"])
def test_files(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, DEPTH_M)
    else:
        cv2.imwrite(str(path), np.nan_to_num(np.rint(DEPTH_M * 1000)).astype(np.uint16) if name.endswith(".png") else DEPTH_M)
    read_m = read_depth(path)
    assert read_m.dtype == np.float32
    np.testing.assert_allclose(read_m, DEPTH_M, atol=0.0006)


def test_files_that_are_no_depth(tmp_path):
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((4, 4), np.uint8))
    np.save(tmp_path / "stack.npy", np.zeros((2, 3, 4), np.float32))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, message in [("picture.png", "8-bit"), ("stack.npy", r"\(2, 3, 4\)"), ("empty.npy", "NumPy"), ("empty.png", "no depth file")]:
        with pytest.raises(InputFileError, match=message):
            read_depth(tmp_path / name)
    with pytest.raises(InputFileError, match=r"depth file .* does not exist"):
        read_depth(tmp_path / "none.tif")


@pytest.mark.parametrize("layout", ["16UC1; compressedDepth png", "16UC1; compressedDepth", "32FC1; compressedDepth png"])
def test_compressed_depth(layout):
    decoded_m = decode_compressed_depth(compressed(DEPTH_M, layout), layout)
    step_m = 0.0006 if layout.startswith("16") else DEPTH_M**2 / (100.0 * 101.0)  # one step of the quantised inverse depth
    assert decoded_m.dtype == np.float32 and (np.isnan(decoded_m) == np.isnan(DEPTH_M)).all()
    assert np.nanmax(np.abs(decoded_m - DEPTH_M) / step_m) <= 1.01


def test_compressed_depth_that_is_broken():
    data = compressed(DEPTH_M, "16UC1; compressedDepth png")
    with pytest.raises(ImageError, match="cut short"):
        decode_compressed_depth(data[:8], "16UC1; compressedDepth png")
    with pytest.raises(ImageError, match="cut short or broken"):
        decode_compressed_depth(data[: len(data) // 2], "16UC1; compressedDepth png")
    with pytest.raises(ImageError, match="rvl"):
        decode_compressed_depth(data, "16UC1; compressedDepth rvl")
    with pytest.raises(ImageError, match="jpeg compressed bgr8"):
        decode_compressed_depth(data, "rgb8; jpeg compressed bgr8")
