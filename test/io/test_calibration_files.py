"""Every calibration format: published numbers, files that other tools write, and every kind of bad value."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from semantic_stereo_ros.checks import CalibrationError, InputFileError
from semantic_stereo_ros.geometry.rectification import Rectifier, StereoCalibration
from semantic_stereo_ros.io.calibration_files import load_calibration
from semantic_stereo_ros.types import StereoRig

# Middlebury 2014 Motorcycle as published, full resolution.
MOTORCYCLE = """cam0=[3979.911 0 1244.772; 0 3979.911 1019.507; 0 0 1]
cam1=[3979.911 0 1369.115; 0 3979.911 1019.507; 0 0 1]
doffs=124.343
baseline=193.001
width=2964
height=1988
ndisp=280
isint=0
vmin=23
vmax=245
dyavg=0
dymax=0
"""


def kitti_row(tx: float, ty: float = 0.0, tz: float = 0.0) -> str:
    """One projection matrix as KITTI's files write it (object benchmark, calibration of 2011_09_26)."""
    matrix = [721.5377, 0, 609.5593, tx, 0, 721.5377, 172.854, ty, 0, 0, 1, tz]
    return " ".join(f"{value:.12e}" for value in matrix)


KITTI_P = {
    0: kitti_row(0.0),
    1: kitti_row(-387.5744),
    2: kitti_row(44.85728, 0.2163791, 2.745884e-03),
    3: kitti_row(-339.5242, 2.199936, 2.729905e-03),
}
KITTI_SIZE = (1242, 375)


def written(folder: Path, text: str, name: str = "calib.txt") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_middlebury_as_published(tmp_path):
    rig = load_calibration(written(tmp_path, MOTORCYCLE))
    assert rig == StereoRig((2964, 1988), 3979.911, 3979.911, 1244.772, 1019.507, 0.193001, 124.343)


@pytest.mark.parametrize(
    ("left_out", "hint_px"),
    [((), (23.0, 245.0)), (("vmin",), (0.0, 280.0)), (("vmin", "vmax", "ndisp"), None), (("vmax", "ndisp"), None)],
)
def test_the_range_that_middlebury_expects_is_a_hint(tmp_path, left_out, hint_px):
    lines = [line for line in MOTORCYCLE.splitlines() if not line.startswith(left_out)] if left_out else [MOTORCYCLE]
    rig = load_calibration(written(tmp_path, "\n".join(lines)))
    assert isinstance(rig, StereoRig) and rig.disparity_hint_px == hint_px
    half = rig.resized((1482, 994)).disparity_hint_px
    assert half == (None if hint_px is None else (hint_px[0] / 2, hint_px[1] / 2))


def test_middlebury_without_doffs_takes_it_from_the_cameras(tmp_path):
    rig = load_calibration(written(tmp_path, MOTORCYCLE.replace("doffs=124.343\n", "")))
    assert isinstance(rig, StereoRig) and rig.doffs_px == pytest.approx(1369.115 - 1244.772)


def test_middlebury_agrees_with_the_quarter_size_pair(tmp_path, real_data):
    """The published full-resolution file, resized, is the calibration of the quarter-size images.

    Those are padded from 497 to 500 rows below; their numbers are in meta.json.
    """
    meta = json.loads((real_data("motorcycle") / "meta.json").read_text())
    rig = load_calibration(written(tmp_path, MOTORCYCLE))
    assert isinstance(rig, StereoRig)
    small = rig.resized((741, 497))
    for name, value in (("fx", "f_px"), ("cx", "cx"), ("cy", "cy"), ("baseline_m", "baseline_m"), ("doffs_px", "doffs_px")):
        assert getattr(small, name) == pytest.approx(meta["calib"][value], rel=1e-6 if name == "baseline_m" else 3e-3)


@pytest.mark.parametrize("names, expected", [((0, 1), 0.537150), ((2, 3), 0.532725)])
def test_kitti_object_files(tmp_path, names, expected):
    text = "\n".join(f"P{n}: {p}" for n, p in KITTI_P.items()) + "\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
    rig = load_calibration(written(tmp_path, text), image_size_wh=KITTI_SIZE, kitti_cameras=names)
    assert isinstance(rig, StereoRig)
    assert rig.baseline_m == pytest.approx(expected, abs=2e-5)
    assert (rig.fx, rig.cx, rig.cy, rig.doffs_px, rig.size_wh) == (721.5377, 609.5593, 172.854, 0.0, KITTI_SIZE)


def test_kitti_cameras_follow_the_image_folders(tmp_path):
    path = written(tmp_path, "\n".join(f"P{n}: {p}" for n, p in KITTI_P.items()))
    grey = load_calibration(path, image_size_wh=KITTI_SIZE, image_paths=("00/image_0", "00/image_1"))
    colour = load_calibration(path, image_size_wh=KITTI_SIZE, image_paths=("00/image_2/000000.png", "00/image_3/000000.png"))
    assert grey == load_calibration(path, image_size_wh=KITTI_SIZE, kitti_cameras=(0, 1)) != colour
    assert colour == load_calibration(path, image_size_wh=KITTI_SIZE, kitti_cameras=(2, 3))


def test_kitti_raw_recordings_hold_their_size(tmp_path):
    text = "calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.950000e-02\n" + "\n".join(
        f"S_rect_0{n}: 1.242000e+03 3.750000e+02\nP_rect_0{n}: {p}" for n, p in KITTI_P.items()
    )
    rig = load_calibration(written(tmp_path, text, "calib_cam_to_cam.txt"))
    assert isinstance(rig, StereoRig) and rig.size_wh == KITTI_SIZE and rig.baseline_m == pytest.approx(0.537150, abs=1e-5)


def test_kitti_rows_without_labels(tmp_path):
    rig = load_calibration(written(tmp_path, f"{KITTI_P[0]}\n{KITTI_P[1]}"), image_size_wh=KITTI_SIZE)
    assert isinstance(rig, StereoRig) and rig.baseline_m == pytest.approx(0.537150, abs=1e-5)


def test_street(real_data):
    rig = load_calibration(real_data("street") / "calib.txt", image_size_wh=(1226, 370))
    meta = json.loads((real_data("street") / "meta.json").read_text())["calib"]
    assert isinstance(rig, StereoRig)
    assert (rig.fx, rig.cx, rig.cy) == (meta["f_px"], meta["cx"], meta["cy"])
    assert rig.baseline_m == pytest.approx(meta["baseline_m"], abs=1e-5)


@pytest.mark.parametrize("text", ["754.6 0.0 489.4 0.0 754.6 265.2 0.0 0.0 1.0\n0.063\n", "754.6 0 489.4\n0 754.6 265.2\n0 0 1\n0.063\n"])
def test_k_txt(tmp_path, text):
    rig = load_calibration(written(tmp_path, text, "K.txt"), image_size_wh=(960, 540))
    assert rig == StereoRig((960, 540), 754.6, 754.6, 489.4, 265.2, 0.063)


def opencv_files(folder: Path, scale: float = 1.0, with_projections: bool = True, size: tuple[int, int] = (640, 480)) -> Path:
    """What OpenCV's stereo_calib sample writes, by OpenCV."""
    k1, k2 = np.array([[520.0, 0, 330], [0, 522, 236], [0, 0, 1]]), np.array([[525.0, 0, 310], [0, 524, 249], [0, 0, 1]])
    d = np.array([[-0.28, 0.09, 0.001, -0.0005, -0.01]])
    r, t = cv2.Rodrigues(np.array([0.012, -0.02, 0.015]))[0], np.array([[-0.12], [0.002], [0.003]]) * scale
    intrinsics = cv2.FileStorage(str(folder / "intrinsics.yml"), cv2.FILE_STORAGE_WRITE)
    for name, matrix in (("M1", k1), ("D1", d), ("M2", k2), ("D2", d)):
        intrinsics.write(name, matrix)
    intrinsics.release()
    extrinsics = cv2.FileStorage(str(folder / "extrinsics.yml"), cv2.FILE_STORAGE_WRITE)
    r1, r2, p1, p2, q, *_ = cv2.stereoRectify(k1, d, k2, d, size, r, t, flags=cv2.CALIB_ZERO_DISPARITY, alpha=1)
    rectified = (("R1", r1), ("R2", r2), ("P1", p1), ("P2", p2), ("Q", q)) if with_projections else ()
    for name, matrix in (("R", r), ("T", t), *rectified):
        extrinsics.write(name, matrix)
    extrinsics.release()
    return folder


@pytest.mark.parametrize("form", ["folder", "pair", "comma", "intrinsics"])
def test_opencv_yaml_in_every_way_to_name_it(tmp_path, form):
    folder = opencv_files(tmp_path)
    first, second = folder / "intrinsics.yml", folder / "extrinsics.yml"
    path, right = {
        "folder": (folder, None),
        "pair": (first, second),
        "comma": (f"{first},{second}", None),
        "intrinsics": (first, None),
    }[form]
    raw = load_calibration(path, right_path=right, image_size_wh=(640, 480))
    assert isinstance(raw, StereoCalibration) and raw.has_projections
    assert raw.left.matrix[0, 0] == 520 and raw.right.matrix[1, 2] == 249 and raw.left.distortion[0] == -0.28
    assert Rectifier(raw).rig.baseline_m == pytest.approx(np.linalg.norm([0.12, 0.002, 0.003]))


def test_opencv_yaml_needs_the_image_size_and_its_extrinsics(tmp_path):
    folder = opencv_files(tmp_path)
    with pytest.raises(CalibrationError, match="does not hold the image size"):
        load_calibration(folder)
    (folder / "extrinsics.yml").unlink()
    with pytest.raises(CalibrationError, match=r"extrinsics\.yml\) are missing"):
        load_calibration(folder / "intrinsics.yml", image_size_wh=(640, 480))


def test_a_baseline_in_squares_or_mm_is_said_and_can_be_given(tmp_path):
    folder = opencv_files(tmp_path, scale=1000.0, with_projections=False)
    with pytest.raises(CalibrationError, match=r"120\.\d+ m cannot be.*mm or cm"):
        load_calibration(folder, image_size_wh=(640, 480))
    raw = load_calibration(folder, image_size_wh=(640, 480), baseline_m=0.15)
    assert isinstance(raw, StereoCalibration)
    assert Rectifier(raw).rig.baseline_m == pytest.approx(0.15)


@pytest.mark.parametrize("line", ["", "baseline=0", "baseline=nan", "baseline=-193.001"])
def test_a_given_baseline_takes_the_place_of_one_that_is_missing_or_wrong(tmp_path, line):
    text = re.sub(r"^baseline=.*$", line, MOTORCYCLE, flags=re.MULTILINE)
    with pytest.raises(CalibrationError, match="baseline"):
        load_calibration(written(tmp_path, text), image_size_wh=(2964, 1988))
    rig = load_calibration(written(tmp_path, text), image_size_wh=(2964, 1988), baseline_m=0.25)
    assert isinstance(rig, StereoRig) and rig.baseline_m == 0.25
    k_txt = written(tmp_path, "500 0 320 0 500 240 0 0 1\n" + ("" if not line else line.partition("=")[2]), "K.txt")
    assert load_calibration(k_txt, image_size_wh=(640, 480), baseline_m=0.25) == StereoRig((640, 480), 500, 500, 320, 240, 0.25)


def test_the_error_names_the_file(tmp_path):
    for text in (MOTORCYCLE.replace("3979.911", "0"), MOTORCYCLE.replace("3979.911", "inf"), "0 0 320 0 500 240 0 0 1\n0.1"):
        with pytest.raises(CalibrationError, match=r"calib\.txt: focal length fx"), warnings.catch_warnings():
            warnings.simplefilter("error")
            load_calibration(written(tmp_path, text, "calib.txt"), image_size_wh=(2964, 1988))


def test_a_baseline_that_may_be_in_squares_is_doubted(tmp_path, caplog):
    load_calibration(opencv_files(tmp_path, scale=27.7), image_size_wh=(640, 480))
    assert "is the file in metres?" in caplog.text


def ros_yaml(name: str, k, d, r, p, size=(640, 480), model="plumb_bob") -> str:
    """camera_calibration's output."""

    def matrix(values, rows, cols):
        return {"rows": rows, "cols": cols, "data": np.asarray(values, float).ravel().tolist()}

    return yaml.safe_dump(
        {
            "image_width": size[0],
            "image_height": size[1],
            "camera_name": name,
            "camera_matrix": matrix(k, 3, 3),
            "distortion_model": model,
            "distortion_coefficients": matrix(d, 1, len(d)),
            "rectification_matrix": matrix(r, 3, 3),
            "projection_matrix": matrix(p, 3, 4),
        }
    )


def ros_pair(folder: Path, distortion=(-0.28, 0.09, 0.001, -0.0005, 0.0), **changes) -> Path:
    k = [[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]
    right_p = changes.pop("right_p", [[500.0, 0, 320, -60], [0, 500, 240, 0], [0, 0, 1, 0]])
    right_size = changes.pop("right_size", (640, 480))
    left_p = [[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]]
    written(folder, ros_yaml("left", k, distortion, np.eye(3), left_p, **changes), "left.yaml")
    written(folder, ros_yaml("right", k, distortion, np.eye(3), right_p, size=right_size, **changes), "right.yaml")
    return folder


@pytest.mark.parametrize("form", ["folder", "comma", "pair"])
def test_ros_yaml_pair(tmp_path, form):
    folder = ros_pair(tmp_path)
    left, right = folder / "left.yaml", folder / "right.yaml"
    path, second = {"folder": (folder, None), "comma": (f"{left},{right}", None), "pair": (left, right)}[form]
    raw = load_calibration(path, right_path=second)
    assert isinstance(raw, StereoCalibration)
    assert raw.size_wh == (640, 480) and raw.left.model == "plumb_bob" and Rectifier(raw).rig.baseline_m == pytest.approx(0.12)


def test_ros_yaml_of_rectified_images_is_a_rig(tmp_path):
    assert load_calibration(ros_pair(tmp_path), rectified=True) == StereoRig((640, 480), 500, 500, 320, 240, 0.12)
    assert load_calibration(ros_pair(tmp_path, distortion=(0.0,) * 5)) == StereoRig((640, 480), 500, 500, 320, 240, 0.12)


def test_ros_yaml_fisheye(tmp_path):
    raw = load_calibration(ros_pair(tmp_path, distortion=(-0.02, 0.01, -0.004, 0.001), model="equidistant"))
    assert isinstance(raw, StereoCalibration) and raw.right.model == "equidistant"


def test_one_ros_yaml_is_not_a_pair(tmp_path):
    with pytest.raises(CalibrationError, match="one camera's info"):
        load_calibration(ros_pair(tmp_path) / "left.yaml")


def test_ros_topic_echo_works_too(tmp_path):
    for side, tx in (("left", 0.0), ("right", -60.0)):
        message = {
            "height": 480,
            "width": 640,
            "distortion_model": "plumb_bob",
            "d": [0.0] * 5,
            "k": [500.0, 0, 320, 0, 500, 240, 0, 0, 1],
            "r": np.eye(3).ravel().tolist(),
            "p": [500.0, 0, 320, tx, 0, 500, 240, 0, 0, 0, 1, 0],
        }
        written(tmp_path, yaml.safe_dump(message) + "---\n", f"{side}.yaml")
    assert load_calibration(tmp_path) == StereoRig((640, 480), 500, 500, 320, 240, 0.12)


def test_depthai_agrees_with_the_reference_rectification(real_data):
    meta = json.loads((real_data("people") / "meta.json").read_text())["calib"]
    raw = load_calibration(real_data("people") / "calib.json", image_size_wh=(1280, 800))
    assert isinstance(raw, StereoCalibration)
    rig = Rectifier(raw).rig
    assert (rig.fx, rig.cx, rig.cy) == pytest.approx((meta["f_px"], meta["cx"], meta["cy"]), abs=0.01)
    assert rig.baseline_m == pytest.approx(meta["baseline_m"], abs=1e-6)


# Bad input


def test_missing_empty_and_unknown_files(tmp_path):
    with pytest.raises(InputFileError, match=r"calibration file .* does not exist"):
        load_calibration(tmp_path / "none.txt")
    with pytest.raises(InputFileError, match="is empty"):
        load_calibration(written(tmp_path, " \n"))
    with pytest.raises(InputFileError, match="no known calibration format; known: Middlebury"):
        load_calibration(written(tmp_path, "hello world"))
    with pytest.raises(InputFileError, match="not a text file"):
        (tmp_path / "calib.bin").write_bytes(b"\x89PNG\xff\xfe\x00")
        load_calibration(tmp_path / "calib.bin")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputFileError, match="holds no calibration"):
        load_calibration(tmp_path / "folder")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("baseline=193.001", "baseline=0", "baseline must be above zero"),
        ("baseline=193.001", "baseline=-193.001", "swapped"),
        ("baseline=193.001", "baseline=0.193", "in mm, and 0.193 mm cannot be"),
        ("baseline=193.001", "baseline=193001", "193.001 m cannot be"),
        ("baseline=193.001", "baseline=nan", "baseline .* must be a finite number"),
        ("baseline=193.001\n", "", "needs the line baseline="),
        ("cam0=[3979.911", "cam0=[nan", "finite"),
        ("cam0=[3979.911", "cam0=[0", "above zero|one focal length"),
        ("cam0=[3979.911 0", "cam0=[3979.911", "cam0 must be 9 numbers"),
        ("doffs=124.343", "doffs=31.086", "doffs is 31.086 px but"),
        ("width=2964", "width=-5", "image size must be two positive integers"),
        ("cam1=[3979.911", "cam1=[3800", "one focal length"),
    ],
)
def test_wrong_middlebury_values(tmp_path, old, new, message):
    assert old in MOTORCYCLE
    with pytest.raises(CalibrationError, match=message):
        load_calibration(written(tmp_path, MOTORCYCLE.replace(old, new)))


def test_sizes_that_do_not_match(tmp_path):
    with pytest.raises(CalibrationError, match="is for 2964x1988 pixels but the images are 741x497"):
        load_calibration(written(tmp_path, MOTORCYCLE), image_size_wh=(741, 497))
    with pytest.raises(CalibrationError, match=r"both cameras must have one image size, got 640x480 .* and 320x240"):
        load_calibration(ros_pair(tmp_path, right_size=(320, 240)))


def test_swapped_kitti_and_ros_files(tmp_path):
    with pytest.raises(CalibrationError, match="swap left and right"):
        load_calibration(written(tmp_path, f"P0: {KITTI_P[1]}\nP1: {KITTI_P[0]}"), image_size_wh=KITTI_SIZE)
    folder = ros_pair(tmp_path)
    with pytest.raises(CalibrationError, match="swap left and right"):
        load_calibration(folder / "right.yaml", right_path=folder / "left.yaml")


def test_zero_baseline_in_every_format(tmp_path):
    with pytest.raises(CalibrationError, match="baseline must be above zero"):
        load_calibration(written(tmp_path, f"{KITTI_P[0]}\n{KITTI_P[0]}"), image_size_wh=KITTI_SIZE)
    with pytest.raises(CalibrationError, match="baseline must be above zero"):
        load_calibration(written(tmp_path, "500 0 320 0 500 240 0 0 1\n0.0"), image_size_wh=(640, 480))
    with pytest.raises(CalibrationError, match="baseline must be above zero"):
        load_calibration(ros_pair(tmp_path, right_p=[[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]]))


def test_nan_in_yaml_and_text(tmp_path):
    folder = ros_pair(tmp_path)
    text = (folder / "left.yaml").read_text().replace("500.0", ".nan")
    with pytest.raises(CalibrationError, match="finite"):
        load_calibration(written(folder, text, "left.yaml"), right_path=folder / "right.yaml")
    with pytest.raises(CalibrationError, match="finite"):
        load_calibration(written(tmp_path, "nan 0 320 0 500 240 0 0 1\n0.1"), image_size_wh=(640, 480))


def test_k_txt_needs_its_baseline_line_and_a_size(tmp_path):
    with pytest.raises(CalibrationError, match="needs the baseline in m on its second line"):
        load_calibration(written(tmp_path, "500 0 320 0 500 240 0 0 1"), image_size_wh=(640, 480))
    with pytest.raises(CalibrationError, match="does not hold the image size"):
        load_calibration(written(tmp_path, "500 0 320 0 500 240 0 0 1\n0.1"))


def test_broken_yaml_and_missing_keys(tmp_path):
    folder = ros_pair(tmp_path)
    good = (folder / "left.yaml").read_text()
    with pytest.raises(InputFileError, match="no valid YAML"):
        load_calibration(written(folder, good + "\n: [", "left.yaml"), right_path=folder / "right.yaml")
    document = yaml.safe_load(good)
    del document["projection_matrix"]
    with pytest.raises(CalibrationError, match="projection_matrix is missing"):
        load_calibration(written(folder, yaml.safe_dump(document), "left.yaml"), right_path=folder / "right.yaml")


def test_broken_opencv_and_depthai_files(tmp_path):
    folder = opencv_files(tmp_path)
    text = (folder / "intrinsics.yml").read_text()
    for broken in (
        text[: len(text) // 2],
        text.replace("rows: 3", "rows: nan"),
        text.replace("dt: d", "dt: 77"),
        text.replace("data:", "{"),
    ):
        with pytest.raises((InputFileError, CalibrationError)):
            load_calibration(written(folder, broken, "intrinsics.yml"), right_path=folder / "extrinsics.yml", image_size_wh=(640, 480))
    for broken in ('{"cameraData": 3}', '{"cameraData": [[1, {}], [2, {}]]}', "{", '{"a": 1}'):
        with pytest.raises(InputFileError, match="no DepthAI calibration"):
            load_calibration(written(tmp_path, broken, "calib.json"))


def test_a_calibration_of_another_resolution_is_noticed_where_the_file_holds_no_size(tmp_path, caplog):
    path = written(tmp_path, f"P0: {KITTI_P[0]}\nP1: {KITTI_P[1]}")
    load_calibration(path, image_size_wh=KITTI_SIZE)
    assert not caplog.records
    load_calibration(path, image_size_wh=(621, 188))
    assert "far from the centre" in caplog.text
    with pytest.raises(CalibrationError, match="outside the 310x94 image"):
        load_calibration(path, image_size_wh=(310, 94))
    with pytest.raises(CalibrationError, match=r"focal length of 0\.004 px cannot be"):
        load_calibration(written(tmp_path, "0.004 0 320 0 0.004 240 0 0 1\n0.1"), image_size_wh=(640, 480))
