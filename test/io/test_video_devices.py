"""StereoCapture over video files, which OpenCV treats as it does cameras."""

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.io.video_devices import CameraError, Config, StereoCapture, VideoEndedError

WIDTH, HEIGHT, FRAMES = 64, 48, 3


def write_video(path, width, height=HEIGHT, colours=((0, 0, 200),), frames=FRAMES):
    """Frames of vertical stripes of equal width, one per colour (BGR); every next frame is 20 levels brighter in green."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (width, height))
    assert writer.isOpened()
    for number in range(frames):
        frame = np.zeros((height, width, 3), np.uint8)
        for stripe, colour in enumerate(colours):
            frame[:, stripe * width // len(colours) : (stripe + 1) * width // len(colours)] = colour
        frame[..., 1] += 20 * number
        writer.write(frame)
    writer.release()
    return str(path)


def colour(image):
    return np.median(image.reshape(-1, 3), axis=0)


def test_one_device_is_split_into_left_and_right(tmp_path):
    capture = StereoCapture(Config(device=write_video(tmp_path / "both.avi", 2 * WIDTH, colours=((200, 0, 0), (0, 0, 200)))))
    assert capture.size_wh == (WIDTH, HEIGHT) and capture.is_file and capture.rate_hz == 25.0
    for number in range(FRAMES):
        assert capture.grab() == 0.0
        left, right = capture.retrieve()
        assert left.shape == right.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(colour(left) - (200, 20 * number, 0)).max() < 12 and np.abs(colour(right) - (0, 20 * number, 200)).max() < 12
    with pytest.raises(VideoEndedError, match="has ended"):
        capture.grab()
    capture.close()


def test_two_devices_are_grabbed_together_and_swapped(tmp_path):
    names = [write_video(tmp_path / f"{name}.avi", WIDTH, colours=(c,)) for name, c in (("a", (200, 0, 0)), ("b", (0, 0, 200)))]
    capture = StereoCapture(Config(device=names[0], right_device=names[1], swap=True))
    assert capture.grab() > 0.0
    left, right = capture.retrieve()
    assert left.shape == (HEIGHT, WIDTH, 3)
    assert colour(left)[2] > 180 > 20 > colour(left)[0] and colour(right)[0] > 180 > 20 > colour(right)[2]


def test_grey(tmp_path):
    capture = StereoCapture(Config(device=write_video(tmp_path / "both.avi", 2 * WIDTH, colours=((90, 90, 90), (10, 10, 10))), grey=True))
    capture.grab()
    left, right = capture.retrieve()
    assert left.shape == right.shape == (HEIGHT, WIDTH)
    assert abs(np.median(left) - 90) < 4 and abs(np.median(right) - 10) < 4


def test_what_cannot_be_is_said(tmp_path):
    good = write_video(tmp_path / "good.avi", WIDTH)
    other = write_video(tmp_path / "other.avi", WIDTH, 2 * HEIGHT)
    for config, text in (
        (Config(device=str(tmp_path / "none.avi")), "does the file exist"),
        (Config(device=""), "cannot be opened"),
        (Config(device="/dev/video_none"), "plugged in"),
        (Config(device=good, right_device=other), "one size, got 64x48 and 64x96"),
        (Config(device=good, right_device=good, width=32), "width 64 px instead of the wanted 32"),
        (Config(device=good, height=24), "height 48 px instead of the wanted 24"),
    ):
        with pytest.raises(CameraError, match=text):
            StereoCapture(config)


def test_a_frame_of_odd_width_is_no_pair(tmp_path):
    frame_path = tmp_path / "odd_%d.png"
    cv2.imwrite(str(tmp_path / "odd_0.png"), np.zeros((4, 7, 3), np.uint8))
    with pytest.raises(CameraError, match="7 px wide"):
        StereoCapture(Config(device=str(frame_path)))
