"""Disparity files of every kind, and those that are none."""

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.io.disparity_files import read_disparity

MAP_PX = np.array([[1.5, 2.25, 0.0], [np.nan, 30.0, 4.0]], np.float32)


def test_numbers_come_back_from_each_kind_of_file(tmp_path):
    np.save(tmp_path / "map.npy", MAP_PX.astype(np.float64))
    np.savez(tmp_path / "map.npz", MAP_PX)
    cv2.imwrite(str(tmp_path / "map.tif"), MAP_PX)
    cv2.imwrite(str(tmp_path / "map.pfm"), MAP_PX)
    for name in ("map.npy", "map.npz", "map.tif", "map.pfm"):
        read = read_disparity(tmp_path / name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, MAP_PX, err_msg=name)


def test_kitti_pngs_hold_256_values_per_px_and_0_for_unknown(tmp_path):
    cv2.imwrite(str(tmp_path / "map.png"), np.array([[384, 0]], np.uint16))
    np.testing.assert_array_equal(read_disparity(tmp_path / "map.png"), np.array([[1.5, np.nan]], np.float32))
    np.testing.assert_array_equal(read_disparity(tmp_path / "map.png", scale=128), np.array([[3.0, np.nan]], np.float32))


def test_infinity_and_the_given_value_are_unknown(tmp_path):
    np.save(tmp_path / "map.npy", np.array([[np.inf, 0.0, 5.0]], np.float32))
    np.testing.assert_array_equal(read_disparity(tmp_path / "map.npy"), np.array([[np.nan, 0.0, 5.0]], np.float32))
    np.testing.assert_array_equal(read_disparity(tmp_path / "map.npy", invalid=0), np.array([[np.nan, np.nan, 5.0]], np.float32))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("complex.npy", np.zeros((2, 3), np.complex64), "must hold numbers, got an array of complex64"),
        ("words.npy", np.array([["a", "b"]]), "must hold numbers"),
        ("objects.npy", np.array([{1: 2}], dtype=object), "not a plain NumPy file"),
        ("stack.npy", np.zeros((2, 3, 3), np.float32), r"\(H, W\), got shape \(2, 3, 3\)"),
        ("nan.npy", np.full((2, 3), np.nan, np.float32), "no pixel with a known disparity$"),
        ("cut.npy", b"\x93NUMPY\x01\x00", "not a plain NumPy file"),
        ("cut.npz", b"PK\x03\x04 and no more", "not a plain NumPy file"),
        ("text.pfm", b"hello", "no disparity file in a known format"),
        ("folder.npy", None, "is a folder, but the disparity file was expected"),
        ("folder.png", None, "is a folder, but the disparity file was expected"),
    ],
)
def test_what_is_no_map_is_said(tmp_path, name, content, message):
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(InputFileError, match=message):
        read_disparity(path)


def test_two_arrays_in_one_file_are_one_too_many(tmp_path):
    np.savez(tmp_path / "two.npz", a=MAP_PX, b=MAP_PX)
    np.savez(tmp_path / "objects.npz", np.array([{1: 2}], dtype=object))
    with pytest.raises(InputFileError, match="must hold one array, got a, b"):
        read_disparity(tmp_path / "two.npz")
    with pytest.raises(InputFileError, match="not a plain NumPy file"):
        read_disparity(tmp_path / "objects.npz")
    with pytest.raises(InputFileError, match=r"the disparity file .* does not exist"):
        read_disparity(tmp_path / "none.npy")
