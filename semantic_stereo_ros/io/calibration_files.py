"""Calibration files in: the format is told by the content, never by the name.

| format | what it gives |
|---|---|
| Middlebury calib.txt (cam0, cam1, doffs, baseline in mm, width, height) | StereoRig |
| KITTI calib.txt (P0..P3; or label-less rows; or P_rect_00.. of the raw recordings) | StereoRig |
| K.txt: nine numbers, then the baseline in m (FoundationStereo) | StereoRig |
| OpenCV YAML or XML (intrinsics.yml + extrinsics.yml of stereo_calib, or one file) | StereoCalibration |
| two ROS camera_info YAMLs (camera_calibration's left.yaml, right.yaml) | StereoCalibration; StereoRig if rectified already |
| DepthAI calib.json | StereoCalibration |

A StereoRig describes images that are rectified already; a StereoCalibration raw ones (see geometry.rectification.Rectifier).
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from semantic_stereo_ros.checks import CalibrationError, InputFileError, check_finite, check_positive
from semantic_stereo_ros.geometry.calibration import StereoCalibration, apply_binning_roi, rig_from_projection
from semantic_stereo_ros.io import calibration_raw
from semantic_stereo_ros.io.calibration_checks import SHORTEST_BASELINE_M, baseline_of, check_baseline, check_camera, check_size
from semantic_stereo_ros.io.images import read_bytes
from semantic_stereo_ros.types import StereoRig

__all__ = ["StereoCalibration", "apply_binning_roi", "load_calibration", "rig_from_projection"]

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)", re.IGNORECASE)


def load_calibration(
    path: str | Path,
    *,
    image_size_wh: tuple[int, int] | None = None,
    right_path: str | Path | None = None,
    baseline_m: float | None = None,
    kitti_cameras: tuple[int, int] | None = None,
    image_paths: tuple[str, str] | None = None,
    rectified: bool = False,
) -> StereoRig | StereoCalibration:
    """Read a calibration of any known format.

    path: a file; a folder with left.yaml and right.yaml (or intrinsics.yml and extrinsics.yml); or 'left.yaml,right.yaml'.
    right_path: the second file of a pair. image_size_wh: of the images to be used: needed by formats that do not hold the size
    (K.txt, KITTI, OpenCV), checked against the others. baseline_m: overrides the file's, for calibrations in an unknown unit; those of
    Middlebury and K.txt may then have none.
    kitti_cameras: (0, 1) grey or (2, 3) colour; by default the pair that image_paths (left, right) speak of (image_2 and image_3), else
    the first that the file holds. rectified: the images are rectified
    already, so of a raw calibration only the projection matrices count.
    Raises InputFileError (missing, unreadable, unknown format) or CalibrationError (a value that cannot be).
    """
    if baseline_m is not None:
        check_positive("the given stereo baseline (m)", baseline_m)
    files = _files(path, right_path)
    wanted = [kitti_cameras] if kitti_cameras is not None else [(0, 1), (2, 3)]
    if kitti_cameras is None and image_paths is not None and _are_colour(image_paths):
        wanted.reverse()
    texts = [_text(file) for file in files]
    try:
        result = _parse(files, texts, image_size_wh, wanted, baseline_m)
    except CalibrationError as error:
        raise error if str(files[0]) in str(error) else CalibrationError(f"{files[0]}: {error}") from error
    if isinstance(result, StereoCalibration) and (rectified or _nothing_to_rectify(result)):
        result = result.rectified_rig()
    if baseline_m is not None:
        result = _with_baseline(result, baseline_m)
    else:
        check_baseline(files[0], result)
    check_size(files[0], result, image_size_wh)
    check_camera(files[0], result)
    return result


def _parse(
    files: list[Path], texts: list[str], size_wh, kitti: list[tuple[int, int]], baseline_m: float | None
) -> StereoRig | StereoCalibration:
    """Sniff by content; texts[0] is the first (left) file. baseline_m: counts where the file has none."""
    text, file = texts[0], files[0]
    if len(files) == 1:
        if re.search(r"^\s*cam0\s*=", text, re.MULTILINE):
            return _middlebury(file, text, size_wh, baseline_m)
        if re.search(r"^\s*P(_rect_)?0?\d\s*:", text, re.MULTILINE):
            return _kitti(file, text, size_wh, kitti)
        if text.lstrip().startswith("{"):
            return calibration_raw.depthai(file, text)
    if calibration_raw.is_opencv(text):
        return calibration_raw.opencv(files, texts, size_wh)
    if "camera_matrix" in text or "projection_matrix" in text or re.search(r"^\s*[Pp]\s*:", text, re.MULTILINE):
        return calibration_raw.ros_pair(files, texts)
    rows = _number_rows(text)
    if len(files) == 1 and rows and all(len(row) == 12 for row in rows) and len(rows) >= 2:
        return _projection_rows(file, rows, size_wh, kitti)
    if len(files) == 1 and len(rows) >= 1 and sum(map(len, rows)) in (9, 10):
        return _k_txt(file, [n for row in rows for n in row], size_wh, baseline_m)
    raise InputFileError(
        f"{file} is in no known calibration format; known: Middlebury calib.txt, KITTI calib.txt, K.txt with a baseline line, "
        "OpenCV YAML, a pair of ROS camera_info YAMLs, DepthAI calib.json"
    )


def _files(path: str | Path, right_path: str | Path | None) -> list[Path]:
    if right_path is not None:
        return [Path(path), Path(right_path)]
    if isinstance(path, str) and "," in path and not Path(path).exists():
        parts = [Path(part.strip()) for part in path.split(",")]
        if len(parts) != 2:
            raise InputFileError(f"a calibration pair is 'left.yaml,right.yaml', got {len(parts)} names in {path!r}")
        return parts
    path = Path(path)
    if not path.is_dir():
        return [path]
    for stems in (("left", "right"), ("intrinsics", "extrinsics"), ("intrinsic", "extrinsic")):
        for suffix in (".yaml", ".yml", ".xml"):
            pair = [path / f"{stem}{suffix}" for stem in stems]
            if all(file.is_file() for file in pair):
                return pair
    for name in ("calib.txt", "calib_cam_to_cam.txt", "K.txt", "calib.json"):
        if (path / name).is_file():
            return [path / name]
    raise InputFileError(
        f"the folder {path} holds no calibration: expected left.yaml and right.yaml, intrinsics.yml and extrinsics.yml, or calib.txt"
    )


def _text(file: Path) -> str:
    data = read_bytes(file, "calibration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputFileError(f"{file} is not a text file, so it is no calibration in a known format") from None
    if not text.strip():
        raise InputFileError(f"the calibration file {file} is empty")
    return text


def _number_rows(text: str) -> list[list[float]]:
    """Lines that consist of numbers only; [] when there is any other line."""
    rows = []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        tokens = [t for t in re.split(r"[\s,;]+", line.strip("[]")) if t]
        if not all(_NUMBER.fullmatch(t) for t in tokens):
            return []
        rows.append([float(t) for t in tokens])
    return rows


def _numbers(file: Path, key: str, text: str, count: int) -> list[float]:
    tokens = [t for t in re.split(r"[\s,;\[\]]+", text) if t]
    if len(tokens) != count or not all(_NUMBER.fullmatch(t) for t in tokens):
        raise CalibrationError(f"{file}: {key} must be {count} number{'s' if count > 1 else ''}, got {text.strip()!r}")
    return [float(t) for t in tokens]


def _middlebury(file: Path, text: str, size_wh, given_baseline_m: float | None) -> StereoRig:
    """vision.middlebury.edu/stereo/data/scenes2014: baseline in mm, doffs = cx1 - cx0."""
    entries = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", text, re.MULTILINE))
    for key in ("cam0", "cam1", "baseline"):
        if key not in entries and (key != "baseline" or given_baseline_m is None):
            raise CalibrationError(f"{file}: a Middlebury calibration needs the line {key}=..., which is missing")
    left, right = (np.reshape(_numbers(file, key, entries[key], 9), (3, 3)) for key in ("cam0", "cam1"))
    doffs = right[0, 2] - left[0, 2]
    if "doffs" in entries:
        said = _numbers(file, "doffs", entries["doffs"], 1)[0]
        if abs(said - doffs) > 1.0:
            raise CalibrationError(
                f"{file}: doffs is {said:g} px but cam1's cx - cam0's cx is {doffs:g} px, and they must agree: "
                "scale all of cam0, cam1 and doffs when the images are resized"
            )
        doffs = said
    check_finite("focal length fx (px)", left[0, 0])
    if abs(left[0, 0] - right[0, 0]) > 1e-3 * left[0, 0]:
        raise CalibrationError(
            f"{file}: a rectified pair has one focal length, got {left[0, 0]:g} px in cam0 and {right[0, 0]:g} px in cam1"
        )
    if "width" in entries and "height" in entries:
        size_wh = tuple(int(_numbers(file, key, entries[key], 1)[0]) for key in ("width", "height"))
    given = given_baseline_m is not None
    baseline_mm = 1000 * given_baseline_m if given else _numbers(file, "baseline", entries["baseline"], 1)[0]
    if not given and 0 < baseline_mm < 1000 * SHORTEST_BASELINE_M:
        raise CalibrationError(
            f"{file}: a Middlebury calibration gives the baseline in mm, and {baseline_mm:g} mm cannot be: was it written in m? "
            "Mend the file or give the baseline in m"
        )
    return StereoRig(
        size_wh=_need_size(file, size_wh),
        fx=left[0, 0],
        fy=left[1, 1],
        cx=left[0, 2],
        cy=left[1, 2],
        baseline_m=baseline_mm / 1000.0,
        doffs_px=doffs,
        disparity_hint_px=_middlebury_hint(entries),
    )


def _middlebury_hint(entries: dict[str, str]) -> tuple[float, float] | None:
    """vmin and vmax, which are tight, else 0 and ndisp; None where neither is given or they are no range."""
    for keys in (("vmin", "vmax"), ("ndisp",)):
        texts = [entries.get(key, "") for key in keys]
        if all(_NUMBER.fullmatch(text) for text in texts):
            least, most = (0.0, *map(float, texts))[-2:]
            if 0 <= least < most < float("inf"):
                return least, most
    return None


def _kitti(file: Path, text: str, size_wh, wanted: list[tuple[int, int]]) -> StereoRig:
    """KITTI odometry and object (P0..P3) and raw recordings (P_rect_00..03 with S_rect_00..03)."""
    found: dict[int, list[float]] = {}
    for rect, number, values in re.findall(r"^\s*P(_rect_)?0?(\d)\s*:\s*(.+?)\s*$", text, re.MULTILINE):
        found[int(number)] = _numbers(file, f"P{rect}{number}", values, 12)
    left, right = _kitti_pair(file, sorted(found), wanted)
    size = re.search(rf"^\s*S_rect_0?{left}\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    if size:
        size_wh = tuple(int(n) for n in _numbers(file, "S_rect", size.group(1), 2))
    return rig_from_projection(found[left], found[right], _need_size(file, size_wh))


def _projection_rows(file: Path, rows: list[list[float]], size_wh, wanted: list[tuple[int, int]]) -> StereoRig:
    left, right = _kitti_pair(file, list(range(len(rows))), wanted)
    return rig_from_projection(rows[left], rows[right], _need_size(file, size_wh))


def _kitti_pair(file: Path, have: list[int], wanted: list[tuple[int, int]]) -> tuple[int, int]:
    for left, right in wanted:
        if left in have and right in have:
            return left, right
    text = " or ".join(f"P{a} and P{b}" for a, b in wanted)
    raise CalibrationError(f"{file}: a KITTI calibration needs {text}, got {', '.join(f'P{n}' for n in have)}")


def _are_colour(image_paths: tuple[str, str]) -> bool:
    """KITTI's colour folders (image_2 and image_3, image_02 and image_03) belong to P2 and P3, the others to P0 and P1."""
    left, right = (re.findall(r"image_0?(\d)(?=\D|$)", text)[-1:] for text in image_paths)
    return left == ["2"] and right == ["3"]


def _k_txt(file: Path, numbers: list[float], size_wh, given_baseline_m: float | None) -> StereoRig:
    if len(numbers) == 9 and given_baseline_m is None:
        raise CalibrationError(f"{file}: K.txt needs the baseline in m on its second line, which is missing")
    matrix = np.reshape(numbers[:9], (3, 3))
    if np.isfinite(matrix).all() and not np.allclose(matrix[2], (0, 0, 1)):
        raise CalibrationError(f"{file}: the nine numbers must be a camera matrix with the last row 0 0 1, got {matrix[2].tolist()}")
    baseline_m = numbers[9] if given_baseline_m is None else given_baseline_m
    return StereoRig(_need_size(file, size_wh), matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], baseline_m)


def _need_size(file: Path, size_wh) -> tuple[int, int]:
    if size_wh is None:
        raise CalibrationError(f"{file} does not hold the image size: give the images' size (image_size_wh)")
    return int(size_wh[0]), int(size_wh[1])


def _nothing_to_rectify(calibration: StereoCalibration) -> bool:
    """Zero distortion, R = I and K = P: the infos of images that are rectified already (as drivers and simulators publish)."""
    if not calibration.has_projections:
        return False
    cameras = (
        (calibration.left, calibration.rectification_left, calibration.projection_left),
        (calibration.right, calibration.rectification_right, calibration.projection_right),
    )
    return all(
        not camera.distortion.any() and np.allclose(rotation, np.eye(3), atol=1e-9) and np.allclose(camera.matrix, projection[:, :3])
        for camera, rotation, projection in cameras
        if rotation is not None and projection is not None
    )


def _with_baseline(calibration: StereoRig | StereoCalibration, baseline_m: float) -> StereoRig | StereoCalibration:
    """The same geometry, scaled to a known baseline."""
    if isinstance(calibration, StereoRig):
        return dataclasses.replace(calibration, baseline_m=baseline_m)
    scale = baseline_m / baseline_of(calibration)
    changes = {}
    for name in ("projection_left", "projection_right"):
        matrix = getattr(calibration, name)
        if matrix is not None:
            changes[name] = np.hstack([matrix[:, :3], matrix[:, 3:] * scale])
    if calibration.translation_m is not None:
        changes["translation_m"] = calibration.translation_m * scale
    return dataclasses.replace(calibration, **changes)
