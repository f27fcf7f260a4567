"""Stereo pairs from disk, one frame after the other: one pair of files, two folders, two globs or two videos.

Disparity or depth files that a camera made may come beside the images, and then take the place of the right ones.
"""

from __future__ import annotations

import glob
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from semantic_stereo_ros.checks import CalibrationError, InputFileError
from semantic_stereo_ros.geometry.rectification import Rectifier, StereoCalibration
from semantic_stereo_ros.io.calibration_files import load_calibration
from semantic_stereo_ros.io.depth_images import read_depth
from semantic_stereo_ros.io.disparity_files import read_disparity
from semantic_stereo_ros.io.images import alike, read_bytes, read_image
from semantic_stereo_ros.types import Measured, StereoFrame, StereoRig

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pgm", ".ppm")
MAP_SUFFIXES = (".npy", ".npz", ".pfm", ".png", ".tif", ".tiff")
ROTATION_ERROR = 5e-3
"""How far R R^T of a pose may be off the identity: files with three decimals are below."""
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True, eq=False)
class RawPair:
    """One pair as stored. left, right: (H, W) or (H, W, 3) RGB uint8 or uint16, right None where there is none; stamp_ns; name: of the
    left file or frame number."""

    left: np.ndarray
    right: np.ndarray | None
    stamp_ns: int
    name: str


class PairSource(Protocol):
    """What yields raw pairs; iterating again starts again."""

    size_wh: tuple[int, int]

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[RawPair]: ...


class FilePairs:
    """Pairs of image files, or left ones alone.

    Stamps come from the file names when all are long digits (ns, us, ms or s since 1970), else from fps.
    """

    def __init__(self, left: Sequence[Path], right: Sequence[Path] | None, fps: float) -> None:
        self.left, self.right = list(left), None if right is None else list(right)
        self.stamps_ns = stamps_of_names([file.stem for file in self.left]) or [round(i * 1e9 / fps) for i in range(len(self.left))]
        first = read_image(self.left[0])
        self.size_wh = (first.shape[1], first.shape[0])

    def __len__(self) -> int:
        return len(self.left)

    def __iter__(self) -> Iterator[RawPair]:
        for number, (left, stamp_ns) in enumerate(zip(self.left, self.stamps_ns)):
            if self.right is None:
                yield RawPair(read_image(left), None, stamp_ns, left.stem)
            else:
                yield RawPair(*alike(read_image(left), read_image(self.right[number])), stamp_ns, left.stem)


class VideoPairs:
    """Two videos of the same length. Stamps: frame number / the left video's rate (`fps` wins when given)."""

    def __init__(self, left: Path, right: Path, fps: float | None) -> None:
        self.left, self.right = left, right
        captures = [open_video(left), open_video(right)]
        counts = [int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) for capture in captures]
        self.size_wh = (int(captures[0].get(cv2.CAP_PROP_FRAME_WIDTH)), int(captures[0].get(cv2.CAP_PROP_FRAME_HEIGHT)))
        rate = captures[0].get(cv2.CAP_PROP_FPS)
        self.fps = fps or (rate if rate > 0 else 30.0)
        for capture in captures:
            capture.release()
        if counts[0] != counts[1]:
            raise InputFileError(f"the two videos must have one length, got {counts[0]} frames in {left} and {counts[1]} in {right}")
        if counts[0] <= 0:
            raise InputFileError(f"the video {left} holds no frames")
        self.count = counts[0]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[RawPair]:
        left, right = open_video(self.left), open_video(self.right)
        try:
            for number in range(self.count):
                read_left, image_left = left.read()
                read_right, image_right = right.read()
                if not (read_left and read_right):
                    # The count in a container's header is an estimate; only a video that ends at once is broken.
                    if number == 0:
                        raise InputFileError(f"no frame of {self.right if read_left else self.left} could be decoded")
                    logging.getLogger(__name__).warning("the videos end after %d of %d announced frames", number, self.count)
                    return
                pair = alike(_rgb(image_left), _rgb(image_right))
                yield RawPair(*pair, round(number * 1e9 / self.fps), f"{number:06d}")
        finally:
            left.release()
            right.release()


class MeasuredFiles:
    """What a camera measured, one file per frame.

    kind: 'disparity' or 'depth'. scale: stored values per px or m, None = what the format says (see read_disparity, read_depth).
    """

    def __init__(self, path: str | Path, kind: str, scale: float | None = None) -> None:
        self.kind, self.scale = kind, scale
        self.files = named_files(path, MAP_SUFFIXES, f"{kind} file")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Measured:
        """Raises InputFileError for a file that is no such map."""
        if self.kind == "depth":
            return Measured(depth_m=read_depth(self.files[number], self.scale))
        return Measured(disparity_px=read_disparity(self.files[number], scale=self.scale, empty_ok=True))


class StereoSequence:
    """Rectified frames of a source. rig: of the frames; len(); iterating yields (frame, name) and may be repeated.

    A raw calibration is applied on the way. poses: (N, 4, 4) camera to world, or None. measured: one map per frame, or None; maps belong
    to rectified images, so beside a raw calibration they are refused.
    """

    def __init__(
        self,
        source: PairSource,
        calibration: StereoRig | StereoCalibration,
        poses: np.ndarray | None = None,
        alpha: float = 0.0,
        measured: MeasuredFiles | None = None,
    ):
        self.source, self.measured = source, measured
        if measured is not None and isinstance(calibration, StereoCalibration):
            raise CalibrationError(
                f"given {measured.kind} files belong to rectified images, but the calibration is of raw ones: say --rectified if "
                "the images are rectified, or give their own calibration"
            )
        if measured is not None and len(measured) != len(source):
            raise InputFileError(f"there must be one {measured.kind} file per image, got {len(measured)} for {len(source)} images")
        self.rectifier = Rectifier(calibration, alpha) if isinstance(calibration, StereoCalibration) else None
        self.rig: StereoRig = self.rectifier.rig if self.rectifier is not None else calibration  # pyright: ignore[reportAttributeAccessIssue]
        if poses is not None and len(poses) < len(source):
            raise InputFileError(f"the poses file must hold one pose per frame, got {len(poses)} poses for {len(source)} frames")
        self.poses = poses

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[StereoFrame, str]]:
        for number, pair in enumerate(self.source):
            left, right = pair.left, pair.right
            if self.rectifier is not None and right is not None:
                left, right = self.rectifier(left, right)
            pose = self.poses[number] if self.poses is not None else None
            measured = self.measured[number] if self.measured is not None else None
            yield StereoFrame(left, right, self.rig, pair.stamp_ns, pose, measured), pair.name


def open_pairs(
    left: str | Path,
    right: str | Path | None,
    calibration: str | Path | StereoRig | StereoCalibration,
    *,
    measured: MeasuredFiles | None = None,
    baseline_m: float | None = None,
    rectified: bool = False,
    fps: float | None = None,
    poses: str | Path | None = None,
    alpha: float = 0.0,
) -> StereoSequence:
    """Open what `left` and `right` name: two image files, two folders, two globs ('left/*.png') or two videos.

    calibration: a file of any known format (see io.calibration) or a loaded one. baseline_m: overrides the file's. rectified: the
    images are rectified although the calibration describes raw cameras. fps: the rate that stamps are made with (10 for images,
    the video's own). poses: a KITTI poses file. measured: disparity or depth files, beside which right may be None. Folders and globs
    are paired by sorted name.
    Raises InputFileError, ImageError or CalibrationError with one sentence.
    """
    if right is None and measured is None:
        raise InputFileError("the right images are missing: give them, or disparity or depth files that the camera made")
    source = open_source(left, right, fps)
    if isinstance(calibration, (str, Path)):
        calibration = load_calibration(
            calibration,
            image_size_wh=source.size_wh,
            baseline_m=baseline_m,
            rectified=rectified,
            image_paths=(str(left), str(right or left)),
        )
    return StereoSequence(source, calibration, read_poses(poses) if poses is not None else None, alpha, measured)


def open_source(left: str | Path, right: str | Path | None, fps: float | None = None) -> PairSource:
    """The raw pairs, without a calibration; without `right` the left images alone, which must be image files."""
    if fps is not None and not fps > 0:
        raise InputFileError(f"the frame rate must be above zero, got {fps:g}")
    if right is None:
        if _is_video(left):
            raise InputFileError(f"without right images the left ones must be image files, got the video {left}")
        return FilePairs(image_files(left), None, fps or 10.0)
    if _is_video(left) or _is_video(right):
        if not (_is_video(left) and _is_video(right)):
            raise InputFileError(f"both inputs must be videos or both images, got {left} and {right}")
        return VideoPairs(Path(left), Path(right), fps)
    files_left, files_right = image_files(left), image_files(right)
    if len(files_left) != len(files_right):
        raise InputFileError(
            f"left and right must have one number of images, got {len(files_left)} in {left} and {len(files_right)} in {right}"
            f"{_first_unpaired(files_left, files_right)}"
        )
    return FilePairs(files_left, files_right, fps or 10.0)


def image_files(path: str | Path) -> list[Path]:
    """The images that a file, a folder or a glob names, in natural order of name (frame2 before frame10)."""
    return named_files(path, IMAGE_SUFFIXES, "image file")


def named_files(path: str | Path, suffixes: tuple[str, ...], noun: str) -> list[Path]:
    """The files that a file, a folder (those with one of the suffixes) or a glob names, in natural order. Raises InputFileError."""
    text = str(path)
    if Path(text).is_dir():
        files = [file for file in Path(text).iterdir() if file.suffix.lower() in suffixes and not file.name.startswith(".")]
        if not files:
            raise InputFileError(f"the folder {text} holds no {noun}s ({', '.join(suffixes)})")
        return sorted(files, key=_natural)
    if glob.has_magic(text) and not Path(text).exists():
        files = [Path(name) for name in glob.glob(text, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute patterns
        files = [file for file in files if file.is_file()]
        if not files:
            raise InputFileError(f"no file matches {text}")
        return sorted(files, key=_natural)
    if not Path(text).exists():
        raise InputFileError(f"the {noun} {text} does not exist: check the path")
    return [Path(text)]


def read_poses(path: str | Path) -> np.ndarray:
    """A KITTI poses file: 12 numbers per line, the rows of the 3x4 camera-to-world pose -> (N, 4, 4) float64.

    Raises InputFileError, also where a line's first three columns are no rotation.
    """
    data = read_bytes(path, "poses")
    try:
        rows = np.loadtxt(data.decode("utf-8").splitlines(), dtype=np.float64, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path} is no poses file: expected 12 numbers per line ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != 12:
        raise InputFileError(f"{path} must hold 12 finite numbers per line (3x4 camera to world), got shape {rows.shape}")
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if wrong.size:
        raise InputFileError(f"{path} must hold 12 finite numbers per line (3x4 camera to world), got {rows[wrong[0]]} as pose {wrong[0]}")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3] = rows.reshape(-1, 3, 4)
    rotations = poses[:, :3, :3]
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero((off > ROTATION_ERROR) | (np.linalg.det(rotations) < 0))
    if bad.size:
        raise InputFileError(
            f"{path}: pose {bad[0]} is no rotation beside a translation (R R^T is off by {off[bad[0]]:.2g}): each line must hold the "
            "rows of the 3x4 matrix from the camera to the world"
        )
    return poses


def open_video(path: Path) -> cv2.VideoCapture:
    """The opened video. Raises InputFileError when it is missing or cannot be decoded."""
    if not path.is_file():
        raise InputFileError(f"the video file {path} does not exist: check the path")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputFileError(f"the video {path} could not be opened: it is broken, or OpenCV lacks its codec")
    return capture


def stamps_of_names(stems: Sequence[str]) -> list[int] | None:
    """Stamps in ns when every name is a time since 1970 (10 digits s, 13 ms, 16 us, 19 ns; 's.fraction' too), else None.

    Names that are mere frame numbers, or that do not rise, give None.
    """
    scales = {10: 10**9, 13: 10**6, 16: 10**3, 19: 1}
    stamps = []
    for stem in stems:
        whole, _, fraction = stem.partition(".")
        if not whole.isdecimal() or len(whole) not in scales or (fraction and not (fraction.isdecimal() and len(whole) == 10)):
            return None
        stamps.append(int(whole) * scales[len(whole)] + int((fraction + "0" * 9)[:9]))
    return stamps if all(a < b for a, b in itertools.pairwise(stamps)) else None


def _rgb(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if frame.ndim == 3 else frame


def _is_video(path: str | Path) -> bool:
    return Path(path).suffix.lower() in VIDEO_SUFFIXES and not Path(path).is_dir()


def _natural(file: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", file.name)]


def _first_unpaired(left: list[Path], right: list[Path]) -> str:
    """Names the first file without a partner where the two sides use the same names."""
    names_left, names_right = {file.stem for file in left}, {file.stem for file in right}
    if not names_left & names_right:
        return ""
    missing = sorted(names_left ^ names_right)
    return f"; the first without a partner is {missing[0]}" if missing else ""
