"""Pairs from disk: what is named is what comes, in order, and what does not fit is said."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError, InputFileError
from semantic_stereo_ros.geometry.calibration import CameraModel, StereoCalibration
from semantic_stereo_ros.geometry.rectification import Rectifier
from semantic_stereo_ros.io.sequences import open_pairs, open_source, read_poses, stamps_of_names
from semantic_stereo_ros.types import StereoRig

RIG = StereoRig((32, 24), 40, 40, 16, 12, 0.1)


def make_folders(root, names, shape=(24, 32), right_names=None):
    """Every image holds its own number in every pixel."""
    for side, side_names in (("left", names), ("right", right_names or names)):
        (root / side).mkdir()
        for i, name in enumerate(side_names):
            cv2.imwrite(str(root / side / name), np.full(shape, i + (100 if side == "right" else 0), np.uint8))
    return root / "left", root / "right"


def numbers(sequence):
    return [(int(frame.left[0, 0]), int(frame.right[0, 0]) - 100, name) for frame, name in sequence]


def test_a_pair_of_files(tmp_path):
    left, right = make_folders(tmp_path, ["a.png"])
    sequence = open_pairs(left / "a.png", right / "a.png", RIG)
    assert len(sequence) == 1 and sequence.rig == RIG
    assert numbers(sequence) == [(0, 0, "a")]


@pytest.mark.parametrize("form", ["folder", "glob"])
def test_many_files_in_natural_order_and_again(tmp_path, form):
    left, right = make_folders(tmp_path, [f"frame{i}.png" for i in range(12)])
    (left / "notes.txt").write_text("no image")
    named = (left, right) if form == "folder" else (f"{left}/*.png", f"{right}/frame*.png")
    sequence = open_pairs(*named, RIG, fps=20)
    expected = [(i, i, f"frame{i}") for i in range(12)]
    assert numbers(sequence) == expected == numbers(sequence)
    assert [frame.stamp_ns for frame, _ in sequence] == [i * 50_000_000 for i in range(12)]


def test_two_videos(tmp_path):
    for side, offset in (("left", 0), ("right", 100)):
        writer = cv2.VideoWriter(str(tmp_path / f"{side}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 24))
        assert writer.isOpened()
        for i in range(5):
            writer.write(np.full((24, 32, 3), (0, 0, 20 * i + offset), np.uint8))
        writer.release()
    sequence = open_pairs(tmp_path / "left.avi", tmp_path / "right.avi", RIG)
    frames = [frame for frame, _ in sequence]
    assert len(sequence) == len(frames) == 5
    assert [frame.stamp_ns for frame in frames] == [i * 40_000_000 for i in range(5)]
    for i, frame in enumerate(frames):
        assert abs(int(frame.left[5, 5, 0]) - 20 * i) < 12 and frame.left[5, 5, 2] < 12, "RGB: red first"


def test_real_videos_open_and_are_rectified(real_data):
    folder = real_data("people")
    sequence = open_pairs(folder / "left.mp4", folder / "right.mp4", folder / "calib.json")
    assert len(sequence) == 627
    frame, name = next(iter(sequence))
    assert frame.shape == (800, 1280) and name == "000000"
    assert frame.rig.fx == pytest.approx(966.04, abs=0.01)


def test_real_folders_with_poses(real_data):
    folder = real_data("street")
    sequence = open_pairs(folder / "image_l", folder / "image_r", folder / "calib.txt", poses=folder / "poses.txt")
    assert len(sequence) == 51
    frames = iter(sequence)
    next(frames)
    frame, name = next(frames)
    assert (name, frame.stamp_ns) == ("000001", 100_000_000)
    assert frame.pose_world_camera is not None
    np.testing.assert_allclose(frame.pose_world_camera[:3, 3], [-0.01401751, -0.02820321, 1.198998])


def test_a_raw_calibration_is_applied(tmp_path):
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 255, (24, 32), np.uint8) for _ in range(2))
    for name, image in (("l.png", left), ("r.png", right)):
        cv2.imwrite(str(tmp_path / name), image)
    camera = CameraModel(RIG.matrix, np.array([-0.2, 0.05, 0, 0, 0]))
    raw = StereoCalibration(camera, camera, (32, 24), np.eye(3), np.array([-0.1, 0, 0]))
    frame, _ = next(iter(open_pairs(tmp_path / "l.png", tmp_path / "r.png", raw)))
    expected = Rectifier(raw)(left, right)
    np.testing.assert_array_equal(frame.left, expected[0])
    np.testing.assert_array_equal(frame.right, expected[1])
    assert frame.rig == Rectifier(raw).rig


def test_a_grey_and_a_colour_image_become_grey(tmp_path):
    cv2.imwrite(str(tmp_path / "l.png"), np.full((24, 32), 70, np.uint8))
    cv2.imwrite(str(tmp_path / "r.png"), np.full((24, 32, 3), 70, np.uint8))
    frame, _ = next(iter(open_pairs(tmp_path / "l.png", tmp_path / "r.png", RIG)))
    assert frame.left.shape == frame.right.shape == (24, 32) and frame.right[0, 0] == 70


@pytest.mark.parametrize(
    "names, stamps",
    [
        (["1403636579763555584", "1403636579813555456"], [1403636579763555584, 1403636579813555456]),
        (["1403636579.5", "1403636580.25"], [1403636579500000000, 1403636580250000000]),
        (["1403636579500", "1403636579600"], [1403636579500000000, 1403636579600000000]),
        (["000001", "000002"], None),
        (["1403636579813555456", "1403636579763555584"], None),
    ],
)
def test_stamps_from_names(names, stamps):
    assert stamps_of_names(names) == stamps


# Bad input


def test_counts_that_differ_name_the_lonely_file(tmp_path):
    left, right = make_folders(tmp_path, ["0.png", "1.png", "2.png"], right_names=["0.png", "2.png"])
    with pytest.raises(InputFileError, match=r"got 3 in .* and 2 in .*without a partner is 1"):
        open_source(left, right)


def test_missing_and_empty_sources(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputFileError, match="does not exist"):
        open_source(tmp_path / "no.png", tmp_path / "no.png")
    with pytest.raises(InputFileError, match="holds no image files"):
        open_source(tmp_path / "empty", tmp_path / "empty")
    with pytest.raises(InputFileError, match="no file matches"):
        open_source(f"{tmp_path}/*.png", f"{tmp_path}/*.png")
    with pytest.raises(InputFileError, match=r"video file .* does not exist"):
        open_source(tmp_path / "no.mp4", tmp_path / "no.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    with pytest.raises(InputFileError, match="could not be opened"):
        open_source(tmp_path / "broken.mp4", tmp_path / "broken.mp4")
    with pytest.raises(InputFileError, match="both inputs must be videos or both images"):
        open_source(tmp_path / "broken.mp4", tmp_path / "empty")


def test_sizes_and_depths_that_differ(tmp_path):
    cv2.imwrite(str(tmp_path / "l.png"), np.zeros((24, 32), np.uint8))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((20, 32), np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((24, 32), np.uint16))
    with pytest.raises(ImageError, match="one size, got 32x24 and 32x20"):
        list(open_pairs(tmp_path / "l.png", tmp_path / "small.png", RIG))
    with pytest.raises(ImageError, match="one bit depth, got uint8 and uint16"):
        list(open_pairs(tmp_path / "l.png", tmp_path / "deep.png", RIG))
    big = StereoRig((64, 48), 40, 40, 16, 12, 0.1)
    with pytest.raises(ImageError, match="32x24 but the calibration is for 64x48"):
        list(open_pairs(tmp_path / "l.png", tmp_path / "l.png", big))


def test_poses_that_do_not_fit(tmp_path):
    (tmp_path / "short.txt").write_text("1 0 0 0 0 1 0 0 0 0 1\n")
    with pytest.raises(InputFileError, match="12 finite numbers per line"):
        read_poses(tmp_path / "short.txt")
    (tmp_path / "words.txt").write_text("hello\n")
    with pytest.raises(InputFileError, match="no poses file"):
        read_poses(tmp_path / "words.txt")
    for numbers, message in [
        ("2 0 0 0 0 2 0 0 0 0 2 0", "pose 1 is no rotation"),
        ("1 0 0 0 0 1 0 0 0 0 -1 0", "pose 1 is no rotation"),
        ("1 0 0 nan 0 1 0 0 0 0 1 0", "12 finite numbers per line .* as pose 1"),
    ]:
        (tmp_path / "wrong.txt").write_text(f"1 0 0 0 0 1 0 0 0 0 1 0\n{numbers}\n")
        with pytest.raises(InputFileError, match=message):
            read_poses(tmp_path / "wrong.txt")
    with pytest.raises(InputFileError, match=r"the poses file .* does not exist: check the path$"):
        read_poses(tmp_path / "none.txt")
    rounded = [round(value, 3) for value in (math.cos(0.3), -math.sin(0.3), 0, 1.5, math.sin(0.3), math.cos(0.3), 0, 0, 0, 0, 1, 0)]
    (tmp_path / "rounded.txt").write_text(" ".join(map(str, rounded)))
    assert read_poses(tmp_path / "rounded.txt")[0, 0, 3] == 1.5
    (tmp_path / "one.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    left, right = make_folders(tmp_path, ["0.png", "1.png"])
    with pytest.raises(InputFileError, match="one pose per frame, got 1 poses for 2 frames"):
        open_pairs(left, right, RIG, poses=tmp_path / "one.txt")
