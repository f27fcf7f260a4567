"""Calibration files of raw pairs: OpenCV YAML/XML, ROS camera_info YAML, DepthAI JSON. See calibration.load_calibration."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from semantic_stereo_ros.checks import CalibrationError, InputFileError, SemanticStereoError
from semantic_stereo_ros.geometry.calibration import CameraModel, StereoCalibration

# What people call the same matrix in OpenCV files.
_KEYS = {
    "K1": ("M1", "K1", "cameraMatrix1", "camera_matrix_1", "camera_matrix_left", "left_camera_matrix", "K_left", "LEFT.K"),
    "D1": ("D1", "distCoeffs1", "dist_coeffs_1", "distortion_coefficients_left", "left_distortion_coefficients", "D_left", "LEFT.D"),
    "K2": ("M2", "K2", "cameraMatrix2", "camera_matrix_2", "camera_matrix_right", "right_camera_matrix", "K_right", "RIGHT.K"),
    "D2": ("D2", "distCoeffs2", "dist_coeffs_2", "distortion_coefficients_right", "right_distortion_coefficients", "D_right", "RIGHT.D"),
    "R": ("R", "rotation", "rotation_matrix"),
    "T": ("T", "translation", "translation_vector"),
    "R1": ("R1", "LEFT.R"),
    "P1": ("P1", "LEFT.P"),
    "R2": ("R2", "RIGHT.R"),
    "P2": ("P2", "RIGHT.P"),
}
_SIZES = (("image_width", "image_height"), ("width", "height"), ("imageWidth", "imageHeight"), ("LEFT.width", "LEFT.height"))
_SIZE_MATRICES = ("image_size", "imageSize", "size", "image_Width_Height")


def is_opencv(text: str) -> bool:
    """True for the output of cv2.FileStorage."""
    return "!!opencv-matrix" in text or "<opencv_storage>" in text


def opencv(files: list[Path], texts: list[str], size_wh) -> StereoCalibration:
    """One file with everything, or intrinsics and extrinsics. The size comes from the file, else from the images."""
    try:
        return _opencv(files, texts, size_wh)
    except (cv2.error, SystemError) as error:
        # OpenCV's Python binding raises SystemError for text that its parser refuses.
        reason = " ".join(str(getattr(error, "err", "") or error.__cause__ or "").split())
        names = " or ".join(str(file) for file in files)
        raise InputFileError(f"{names} is no valid OpenCV YAML or XML{f' ({reason})' if reason else ''}") from error


def _opencv(files: list[Path], texts: list[str], size_wh) -> StereoCalibration:
    if len(files) == 1 and _find(_storage(files[0], texts[0]), "R") is None and _find(_storage(files[0], texts[0]), "P2") is None:
        twin = _extrinsics_beside(files[0])
        if twin is not None:
            files, texts = [files[0], twin], [texts[0], twin.read_text(encoding="utf-8")]
    stores = [_storage(file, text) for file, text in zip(files, texts)]
    if len(stores) == 2 and all(not store.getNode("camera_matrix").empty() for store in stores):
        return _opencv_pair(files, stores, size_wh)
    found: dict[str, np.ndarray] = {}
    for store in stores:
        for key in _KEYS:
            matrix = _find(store, key)
            if matrix is not None and key not in found:
                found[key] = matrix
        size_wh = _stored_size(store) or size_wh
    names = " and ".join(str(file) for file in files)
    missing = [key for key in ("K1", "K2") if key not in found]
    if missing:
        raise CalibrationError(
            f"{names}: an OpenCV stereo calibration needs {' and '.join(missing)} ({', '.join(_KEYS[missing[0]][:3])}, ...)"
        )
    if "R" not in found and "P2" not in found:
        raise CalibrationError(
            f"{names}: R and T between the cameras (extrinsics.yml) are missing: give both files as 'intrinsics.yml,extrinsics.yml'"
        )
    if size_wh is None:
        raise CalibrationError(f"{names} does not hold the image size: give the images' size (image_size_wh)")
    fisheye = any(re.search(r"fisheye|equidistant", text, re.IGNORECASE) for text in texts)
    left = _camera("left camera", found["K1"], found.get("D1", np.zeros(5)), "equidistant" if fisheye else None)
    right = _camera("right camera", found["K2"], found.get("D2", np.zeros(5)), "equidistant" if fisheye else None)
    return StereoCalibration(
        left,
        right,
        size_wh,
        rotation=found.get("R"),
        translation_m=found["T"].reshape(-1) if "T" in found else None,
        rectification_left=found.get("R1"),
        projection_left=found.get("P1"),
        rectification_right=found.get("R2"),
        projection_right=found.get("P2"),
    )


def _opencv_pair(files: list[Path], stores: list[cv2.FileStorage], size_wh) -> StereoCalibration:
    """One file per camera with camera_matrix, distortion_coefficients, rectification_matrix, projection_matrix."""
    values = []
    for file, store in zip(files, stores):
        names = ("camera_matrix", "distortion_coefficients", "rectification_matrix", "projection_matrix")
        matrices = {name: store.getNode(name).mat() for name in names if not store.getNode(name).empty()}
        if "projection_matrix" not in matrices or "rectification_matrix" not in matrices:
            raise CalibrationError(f"{file}: rectification_matrix and projection_matrix are missing: a pair needs them in both files")
        matrices.setdefault("distortion_coefficients", np.zeros(5))
        size_wh = _stored_size(store) or size_wh
        values.append(matrices)
    if size_wh is None:
        raise CalibrationError(f"{files[0]} does not hold the image size: give the images' size (image_size_wh)")
    left, right = values
    return StereoCalibration(
        _camera("left camera", left["camera_matrix"], left["distortion_coefficients"], None),
        _camera("right camera", right["camera_matrix"], right["distortion_coefficients"], None),
        size_wh,
        rectification_left=left["rectification_matrix"],
        projection_left=left["projection_matrix"],
        rectification_right=right["rectification_matrix"],
        projection_right=right["projection_matrix"],
    )


def _extrinsics_beside(file: Path) -> Path | None:
    """The extrinsics.yml that stereo_calib writes beside its intrinsics.yml."""
    if "intrinsic" not in file.name:
        return None
    twin = file.with_name(file.name.replace("intrinsic", "extrinsic"))
    return twin if twin.is_file() else None


def _storage(file: Path, text: str) -> cv2.FileStorage:
    """From memory, since cv2 cannot open every path on Windows."""
    store = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    if not store.isOpened():
        raise InputFileError(f"{file} is no valid OpenCV YAML or XML")
    return store


def _find(store: cv2.FileStorage, key: str) -> np.ndarray | None:
    for name in _KEYS[key]:
        node = store.getNode(name)
        if not node.empty() and node.isMap():
            matrix = node.mat()
            if matrix is not None:
                if key == "R" and matrix.size == 3:
                    return cv2.Rodrigues(matrix)[0]
                return matrix.astype(np.float64)
    return None


def _stored_size(store: cv2.FileStorage) -> tuple[int, int] | None:
    for width, height in _SIZES:
        if store.getNode(width).isInt() and store.getNode(height).isInt():
            return int(store.getNode(width).real()), int(store.getNode(height).real())
    for name in _SIZE_MATRICES:
        node = store.getNode(name)
        if node.isSeq() and node.size() == 2:
            return int(node.at(0).real()), int(node.at(1).real())
    return None


def _camera(name: str, matrix: np.ndarray, distortion: np.ndarray, model: str | None) -> CameraModel:
    """The model of OpenCV's coefficient count, unless it is said."""
    distortion = np.asarray(distortion, np.float64).ravel()
    if model is None:
        model = "plumb_bob" if distortion.size <= 5 else "rational_polynomial"
    elif model == "equidistant":
        distortion = distortion[:4]
    return CameraModel(matrix, distortion, model, name)


def ros_pair(files: list[Path], texts: list[str]) -> StereoCalibration:
    """camera_calibration's left.yaml and right.yaml (or two dumps of `ros2 topic echo camera_info`)."""
    if len(files) != 2:
        raise CalibrationError(
            f"{files[0]} is one camera's info, and a stereo pair needs both: give 'left.yaml,right.yaml' or the folder that holds them"
        )
    left, right = (_ros_info(file, text) for file, text in zip(files, texts))
    if left["size_wh"] != right["size_wh"]:
        raise CalibrationError(f"both cameras must have one image size, got {_size(left)} in {files[0]} and {_size(right)} in {files[1]}")
    cameras = [CameraModel(info["K"], info["D"], info["model"], f"{side} camera") for info, side in ((left, "left"), (right, "right"))]
    return StereoCalibration(
        cameras[0],
        cameras[1],
        left["size_wh"],
        rectification_left=left["R"],
        projection_left=left["P"],
        rectification_right=right["R"],
        projection_right=right["P"],
    )


def _size(info: dict[str, Any]) -> str:
    return f"{info['size_wh'][0]}x{info['size_wh'][1]}"


def _ros_info(file: Path, text: str) -> dict[str, Any]:
    try:
        # `ros2 topic echo` separates messages by '---'; the first one is enough.
        document = next(iter(yaml.safe_load_all(text)), None)
    except yaml.YAMLError as error:
        raise InputFileError(f"{file} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise InputFileError(f"{file} must be a ROS camera_info YAML (a map with camera_matrix, ...), got {type(document).__name__}")
    names = {
        "K": ("camera_matrix", "k", "K"),
        "D": ("distortion_coefficients", "d", "D"),
        "R": ("rectification_matrix", "r", "R"),
        "P": ("projection_matrix", "p", "P"),
    }
    shapes = {"K": (3, 3), "D": (-1,), "R": (3, 3), "P": (3, 4)}
    info: dict[str, Any] = {key: _ros_matrix(file, document, keys, shapes[key]) for key, keys in names.items()}
    try:
        info["size_wh"] = (
            int(document["image_width"] if "image_width" in document else document["width"]),
            int(document["image_height"] if "image_height" in document else document["height"]),
        )
    except (KeyError, TypeError, ValueError):
        raise CalibrationError(f"{file}: image_width and image_height are missing") from None
    info["model"] = str(document.get("distortion_model", document.get("camera_model", "plumb_bob")))
    return info


def _ros_matrix(file: Path, document: dict[str, Any], keys: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    entry = next((document[key] for key in keys if key in document), None)
    if entry is None:
        raise CalibrationError(f"{file}: {keys[0]} is missing; a stereo pair's camera_info needs {keys[0]}")
    try:
        values = np.asarray(entry["data"] if isinstance(entry, dict) else entry, dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise CalibrationError(f"{file}: {keys[0]} must be a list of numbers, got {entry!r}") from None
    count = int(np.prod(shape))
    if count > 0 and values.size != count:
        raise CalibrationError(f"{file}: {keys[0]} must hold {count} numbers, got {values.size}")
    return values.reshape(shape)


def depthai(file: Path, text: str) -> StereoCalibration:
    """DepthAI's EEPROM dump, in cm; the sockets are those of stereoRectificationData, else (1, 2); coefficients in OpenCV's order.

    https://docs.luxonis.com, calibration: `extrinsics` of a camera lead from it to `toCameraSocket`.
    """
    try:
        return _depthai(file, json.loads(text))
    except SemanticStereoError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputFileError(f"{file} is JSON but no DepthAI calibration ({type(error).__name__}: {error})") from error


def _depthai(file: Path, document: dict[str, Any]) -> StereoCalibration:
    cameras = {int(number): data for number, data in document["cameraData"]}
    stereo = document.get("stereoRectificationData", {})
    left_socket, right_socket = stereo.get("leftCameraSocket", 1), stereo.get("rightCameraSocket", 2)
    if left_socket not in cameras or right_socket not in cameras:
        raise CalibrationError(f"{file}: cameras {left_socket} and {right_socket} are needed, got {sorted(cameras)}")
    models, sizes = [], []
    for side, socket in (("left", left_socket), ("right", right_socket)):
        data = cameras[socket]
        matrix = np.asarray(data["intrinsicMatrix"], np.float64)
        size = (int(data["width"]), int(data["height"]))
        models.append((f"{side} camera", matrix, np.asarray(data["distortionCoeff"], np.float64), data.get("cameraType", 0)))
        sizes.append(size)
    if sizes[0] != sizes[1]:
        raise CalibrationError(f"{file}: both cameras must have one image size, got {sizes[0]} and {sizes[1]}")
    left, right = (_camera(name, k, d, "equidistant" if kind == 1 else None) for name, k, d, kind in models)
    rotation, translation_cm = _depthai_pose(file, cameras, left_socket, right_socket)
    return StereoCalibration(left, right, sizes[0], rotation=rotation, translation_m=translation_cm / 100.0)


def _depthai_pose(file: Path, cameras: dict[int, Any], left: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    extrinsics = cameras[left]["extrinsics"]
    if int(extrinsics["toCameraSocket"]) == right:
        return np.asarray(extrinsics["rotationMatrix"], np.float64), _xyz(extrinsics["translation"])
    extrinsics = cameras[right]["extrinsics"]
    if int(extrinsics["toCameraSocket"]) == left:
        rotation = np.asarray(extrinsics["rotationMatrix"], np.float64).T
        return rotation, -rotation @ _xyz(extrinsics["translation"])
    raise CalibrationError(f"{file}: the cameras {left} and {right} are not linked by extrinsics")


def _xyz(entry: dict[str, float]) -> np.ndarray:
    return np.array([entry["x"], entry["y"], entry["z"]], dtype=np.float64)
