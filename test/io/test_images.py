"""Image files and ROS encodings against OpenCV's own conversions, and every kind of bad input."""

from __future__ import annotations

import array
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_stereo_ros.checks import ImageError, InputFileError
from semantic_stereo_ros.io.images import ENCODINGS, decode_compressed, decode_image, read_image, read_labels

RNG = np.random.default_rng(3)
H, W = 12, 16


def pixels(channels: int = 1, dtype: type = np.uint8, height: int = H, width: int = W) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def padded(rows: np.ndarray, padding: int) -> tuple[bytes, int]:
    """Rows with garbage after each, as drivers with aligned rows deliver them."""
    raw = rows.reshape(rows.shape[0], -1).view(np.uint8)
    out = np.hstack([raw, np.full((len(raw), padding), 0xAA, np.uint8)])
    return out.tobytes(), out.shape[1]


@pytest.mark.parametrize("padding", [0, 8])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding, dtype, channels", [("mono8", np.uint8, 1), ("mono16", np.uint16, 1), ("16UC1", np.uint16, 1)])
def test_grey(encoding, dtype, channels, big_endian, padding):
    image = pixels(channels, dtype)
    stored = image.byteswap() if big_endian and dtype == np.uint16 else image
    data, step = padded(stored, padding)
    decoded = decode_image(data, W, H, encoding, step, big_endian)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, image)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16", "8UC3", "16UC3", "8UC4"])
def test_colour(encoding, big_endian, padding):
    dtype = np.uint16 if "16" in encoding else np.uint8
    channels = 4 if "a" in encoding or "C4" in encoding else 3
    image = pixels(channels, dtype)
    stored = image.byteswap() if big_endian and dtype == np.uint16 else image
    data, step = padded(stored, padding)
    rgb = image[..., :3] if encoding.startswith("rgb") else image[..., 2::-1]
    np.testing.assert_array_equal(decode_image(data, W, H, encoding, step, big_endian), rgb)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern, first_row", [("rggb", "RG"), ("bggr", "BG"), ("gbrg", "GB"), ("grbg", "GR")])
def test_bayer_of_a_plain_colour(pattern, first_row, bits):
    """A mosaic made by the encoding's own definition (its first two rows' letters) must come back as the colour it was made of."""
    scale = 257 if bits == 16 else 1
    colour = {"R": 200 * scale, "G": 120 * scale, "B": 30 * scale}
    assert pattern[:2].upper() == first_row
    mosaic = np.empty((H, W), np.uint16 if bits == 16 else np.uint8)
    for place, letter in enumerate(pattern.upper()):
        mosaic[place // 2 :: 2, place % 2 :: 2] = colour[letter]
    decoded = decode_image(mosaic.tobytes(), W, H, f"bayer_{pattern}{bits}")
    assert decoded.dtype == mosaic.dtype
    np.testing.assert_array_equal(decoded[3:-3, 3:-3], np.broadcast_to([colour[c] for c in "RGB"], (H - 6, W - 6, 3)))


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(
    "encoding, code",
    [
        ("yuv422", cv2.COLOR_YUV2RGB_UYVY),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
        ("yuv422_yuy2", cv2.COLOR_YUV2RGB_YUY2),
        ("yuyv", cv2.COLOR_YUV2RGB_YUY2),
    ],
)
def test_yuv422(encoding, code, padding):
    image = pixels(2)
    data, step = padded(image, padding)
    np.testing.assert_array_equal(decode_image(data, W, H, encoding, step), cv2.cvtColor(image, code))


@pytest.mark.parametrize("padding", [0, 16])
@pytest.mark.parametrize("encoding, code", [("nv12", cv2.COLOR_YUV2RGB_NV12), ("nv21", cv2.COLOR_YUV2RGB_NV21)])
def test_nv12_and_nv21(encoding, code, padding):
    planes = pixels(height=H * 3 // 2)
    data, step = padded(planes, padding)
    np.testing.assert_array_equal(decode_image(data, W, H, encoding, step), cv2.cvtColor(planes, code))


def test_nv24_equals_nv12_of_constant_chroma():
    luma = pixels()
    u, v = 90, 170
    planes = np.concatenate([luma.ravel(), np.tile([u, v], H * W // 4)]).astype(np.uint8).reshape(H * 3 // 2, W)
    full = np.concatenate([luma.ravel(), np.tile([u, v], H * W)]).astype(np.uint8)
    decoded = decode_image(full.tobytes(), W, H, "nv24").astype(int)
    assert np.abs(decoded - cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_NV12)).max() <= 1


def test_float_images():
    depth = RNG.normal(5, 1, (H, W)).astype(np.float32)
    np.testing.assert_array_equal(decode_image(depth.tobytes(), W, H, "32FC1"), depth)
    np.testing.assert_array_equal(decode_image(depth.byteswap().tobytes(), W, H, "32FC1", None, True), depth)


def test_any_buffer_and_no_copy_where_none_is_needed():
    image = pixels(3)
    flat = np.frombuffer(image.tobytes(), np.uint8)
    for data in (image.tobytes(), bytearray(image.tobytes()), memoryview(image.tobytes()), array.array("B", image.tobytes()), flat):
        np.testing.assert_array_equal(decode_image(data, W, H, "rgb8"), image)
    assert np.shares_memory(decode_image(flat, W, H, "rgb8"), flat)
    assert np.shares_memory(decode_image(flat[: W * H], W, H, "mono8"), flat)


def test_16_bit_pixels_at_an_odd_address_and_odd_rows():
    image = pixels(dtype=np.uint16)
    shifted = np.concatenate([np.zeros(1, np.uint8), image.view(np.uint8).ravel()])[1:]
    np.testing.assert_array_equal(decode_image(shifted, W, H, "mono16"), image)
    data, step = padded(image, 3)
    np.testing.assert_array_equal(decode_image(data, W, H, "mono16", step), image)


def test_the_last_rows_padding_may_be_missing():
    image = pixels()
    data, step = padded(image, 8)
    np.testing.assert_array_equal(decode_image(data[:-8], W, H, "mono8", step), image)


def test_unknown_encoding_names_the_known_ones():
    with pytest.raises(ImageError, match=r"unknown image encoding 'jpeg8'; known: mono8.*bayer_rggb8.*nv12"):
        decode_image(b"", 4, 4, "jpeg8")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_truncated_data_of_every_encoding(encoding):
    with pytest.raises(ImageError, match="cut short"):
        decode_image(bytes(W * H // 2), W, H, encoding)


def test_impossible_sizes():
    with pytest.raises(ImageError, match="at least one pixel"):
        decode_image(b"", 0, 0, "mono8")
    with pytest.raises(ImageError, match="step must be at least 48 bytes"):
        decode_image(bytes(W * H * 3), W, H, "rgb8", W)
    with pytest.raises(ImageError, match="even width"):
        decode_image(bytes(1000), 15, H, "yuv422")
    with pytest.raises(ImageError, match="even height"):
        decode_image(bytes(1000), W, 11, "nv12")


# Files


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_files(tmp_path, suffix, channels):
    image = pixels(channels)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), image[..., ::-1] if channels == 3 else image)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), image)


def test_16_bit_and_alpha_files(tmp_path):
    grey, colour = pixels(1, np.uint16), pixels(4)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "rgba.png"), colour[..., [2, 1, 0, 3]])
    assert read_image(tmp_path / "grey.png").dtype == np.uint16
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), colour[..., :3])


def test_jpeg_and_names_beyond_ascii(tmp_path):
    flat = np.full((H, W, 3), (200, 40, 90), np.uint8)
    path = tmp_path / "straße 左.jpg"
    path.write_bytes(cv2.imencode(".jpg", flat[..., ::-1])[1].tobytes())
    assert np.abs(read_image(path).astype(int) - flat).max() <= 3


def test_missing_file(tmp_path):
    with pytest.raises(InputFileError, match=r"nothing\.png does not exist"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(InputFileError, match="is a folder"):
        read_image(tmp_path)
    if Path("/dev/null").exists():
        with pytest.raises(InputFileError, match="is no regular file"):
            read_image("/dev/null")


def test_empty_file(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.png is empty"):
        read_image(tmp_path / "empty.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_file_that_was_cut_short(tmp_path, suffix):
    data = cv2.imencode(suffix, pixels(3, height=200, width=200))[1].tobytes()
    (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="could not be decoded"):
        read_image(tmp_path / f"cut{suffix}")


def test_text_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(ImageError, match="could not be decoded"):
        read_image(tmp_path / "a.png")


def test_float_files_are_no_camera_images(tmp_path):
    cv2.imwrite(str(tmp_path / "disparity.tif"), np.zeros((H, W), np.float32))
    with pytest.raises(ImageError, match="uint8 or uint16 pixels, got float32"):
        read_image(tmp_path / "disparity.tif")


def test_compressed_messages():
    image = pixels()
    np.testing.assert_array_equal(decode_compressed(cv2.imencode(".png", image)[1].tobytes()), image)
    with pytest.raises(ImageError, match="is empty"):
        decode_compressed(b"")


def test_label_files(tmp_path):
    labels = pixels(1, np.uint16)
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), labels)
    cv2.imwrite(str(tmp_path / "colour.png"), pixels(3))
    with pytest.raises(ImageError, match="single-channel"):
        read_labels(tmp_path / "colour.png")


@pytest.mark.parametrize("layout", ["", "jpeg", "mono8; png compressed ", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8"])
def test_compressed_messages_in_each_layout_give_rgb(layout):
    image = np.full((H, W, 3), (200, 40, 90), np.uint8)
    codec = ".png" if "png" in layout else ".jpg"
    decoded = decode_compressed(cv2.imencode(codec, image[..., ::-1])[1].tobytes(), layout=layout)
    assert np.abs(decoded.astype(int) - image).max() <= (0 if codec == ".png" else 3)


def test_a_layout_that_says_rgb_means_exchanged_channels():
    """sensor_msgs/CompressedImage: the last word is the order in which the codec, which expects BGR, was given the pixels."""
    image = pixels(3)
    data = cv2.imencode(".png", image)[1].tobytes()  # given RGB in OpenCV's BGR place
    np.testing.assert_array_equal(decode_compressed(data, layout="rgb8; png compressed rgb8"), image)


def test_a_compressed_mosaic_is_demosaiced():
    mosaic = pixels()
    decoded = decode_compressed(cv2.imencode(".png", mosaic)[1].tobytes(), layout="bayer_rggb8; png compressed ")
    np.testing.assert_array_equal(decoded, decode_image(mosaic.tobytes(), W, H, "bayer_rggb8"))


def test_a_compressed_depth_image_is_no_camera_image():
    with pytest.raises(ImageError, match="depth image's"):
        decode_compressed(cv2.imencode(".png", pixels(1, np.uint16))[1].tobytes(), layout="16UC1; compressedDepth png")


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e not in ("nv12", "nv21", "yuv422", "uyvy", "yuv422_yuy2", "yuyv")])
@pytest.mark.parametrize("size_wh", [(7, 5), (3, 3), (1, 4), (2, 1), (1, 1)])
def test_odd_and_tiny_sizes_decode_or_are_refused(encoding, size_wh):
    """Whatever is no mosaic decodes at any size; a mosaic needs neighbours."""
    width, height = size_wh
    data = RNG.integers(0, 255, 8 * width * height, np.uint8)
    if encoding.startswith("bayer") and min(size_wh) < 3:
        with pytest.raises(ImageError, match="at least 3x3"):
            decode_image(data, width, height, encoding)
    else:
        assert decode_image(data, width, height, encoding).shape[:2] == (height, width)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([*ENCODINGS, "", "RGB8", "32FC3", "h264", "bayer_rggb12", "8UC5"]),
    st.integers(-1, 20) | st.just(2**31),
    st.integers(-1, 20) | st.just(2**31),
    st.none() | st.integers(-1, 100) | st.just(2**32 - 1),
    st.booleans(),
    st.integers(0, 4000),
)
def test_whatever_comes_an_image_or_one_kind_of_error(encoding, width, height, step, big_endian, size):
    try:
        image = decode_image(bytes(size), width, height, encoding, step, big_endian)
    except ImageError as error:
        assert len(str(error)) > 20
    else:
        assert image.shape[:2] == (height, width) and image.dtype in (np.uint8, np.uint16, np.float32)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([".jpg", ".png"]), st.integers(0, 2**32), st.floats(0, 1), st.integers(0, 20))
def test_broken_compressed_data_give_an_image_or_one_kind_of_error(codec, seed, kept, flips):
    rng = np.random.default_rng(seed)
    data = bytearray(cv2.imencode(codec, rng.integers(0, 255, (H, W, 3), np.uint8))[1].tobytes())
    for place in rng.integers(0, len(data), flips):
        data[place] ^= 1 << int(rng.integers(0, 8))
    try:
        image = decode_compressed(bytes(data[: round(kept * len(data))]))
    except ImageError:
        return
    assert image.dtype in (np.uint8, np.uint16) and image.ndim in (2, 3)
