"""A suite: a folder of cases with truth, found and read.

A case is a folder that holds

    left.png, right.png   a rectified pair of one size
    calib.json            f_px, baseline_m, and where they are not the image's centre, 0, and the image's size: cx, cy, doffs_px, size_wh
    disp_left.npz         `disp`, (H, W) float32: true disparity of the left image in px, NaN unknown; Z = f_px * baseline_m /
                          (disp + doffs_px)
    instances.png         optional, (H, W) 16 bit: ids of true objects. 0 means "not labelled", which is background only where the labels
                          are complete

Beside the cases may lie manifest.json, a list of records with `name` and any of: `source` (what is pooled together; by default the folder's
name up to its first '_'), `metric` (false: f, baseline or doffs are nominal, so disparities are true but metres are not) and
`instances_complete` (true: everything that counts as an object is labelled, so that precision can be judged).
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semantic_stereo_ros.checks import ImageError, InputFileError, SemanticStereoError
from semantic_stereo_ros.io.disparity_files import read_disparity
from semantic_stereo_ros.io.images import read_bytes, read_image, read_labels
from semantic_stereo_ros.types import StereoFrame, StereoRig

LEFT, RIGHT, CALIBRATION, TRUTH, INSTANCES, MANIFEST = (
    "left.png",
    "right.png",
    "calib.json",
    "disp_left.npz",
    "instances.png",
    "manifest.json",
)
COARSEST_FRACTIONS = range(1, 9)
FRACTION_TOLERANCE = 2e-3


@dataclass(frozen=True)
class CaseFolder:
    """Where a case lies and what the manifest says of it."""

    path: Path
    source: str
    metric: bool = True
    instances_complete: bool = False

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Skipped:
    """A folder of the suite that is no case, or one that cannot be read, and why (one sentence)."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Case:
    """One frame with its truth.

    truth_px: (H, W) float32 disparity, NaN unknown. instance_ids: (H, W) uint16, 0 not labelled, or None. truth_step_px: the step that the
    truth is stored in where it is coarse (1/8 px or more), else 0.
    """

    folder: CaseFolder
    frame: StereoFrame
    truth_px: np.ndarray
    instance_ids: np.ndarray | None
    truth_step_px: float

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def truth_sigma_px(self) -> float:
        """What the truth itself may be off by: the root mean square of an error anywhere within one step.

        8-bit truth is rounded or truncated, which is not said, so the error may reach a whole step: step / sqrt(3), 0.29 px for half px.
        """
        return self.truth_step_px / 3**0.5


def find_cases(suite: str | Path, only: Sequence[str] = ()) -> tuple[list[CaseFolder], list[Skipped]]:
    """The cases of a suite in order of name, and the folders that are none.

    only: names or patterns (kitti15_*); none means all. Raises InputFileError when the folder or every case is missing, the manifest
    cannot be read, or a pattern meets no case.
    """
    suite = Path(suite)
    if not suite.is_dir():
        raise InputFileError(f"the suite {suite} {'is no folder' if suite.exists() else 'does not exist'}: give a folder of cases")
    records = _manifest(suite / MANIFEST)
    cases: list[CaseFolder] = []
    skipped: list[Skipped] = []
    for path in sorted(p for p in suite.iterdir() if p.is_dir() and not p.name.startswith(".")):
        missing = [name for name in (LEFT, RIGHT, CALIBRATION, TRUTH) if not (path / name).is_file()]
        if missing:
            skipped.append(Skipped(path.name, f"it lacks {', '.join(missing)}"))
        else:
            cases.append(_case_folder(path, records.get(path.name, {})))
    if not cases:
        detail = f": {skipped[0].name} is skipped because {skipped[0].reason}" if skipped else ""
        raise InputFileError(f"the suite {suite} holds no case, a folder with {LEFT}, {RIGHT}, {CALIBRATION} and {TRUTH}{detail}")
    for pattern in only:
        if not any(fnmatch.fnmatch(case.name, pattern) for case in cases):
            raise InputFileError(f"no case of {suite} is named {pattern!r}; there are {', '.join(case.name for case in cases)}")
    if only:
        cases = [case for case in cases if any(fnmatch.fnmatch(case.name, pattern) for pattern in only)]
        skipped = []
    return cases, skipped


def read_case(folder: CaseFolder) -> Case:
    """Read the files of a case. Raises InputFileError, ImageError or CalibrationError, each naming the file or what does not fit."""
    left, right = read_image(folder.path / LEFT), read_image(folder.path / RIGHT)
    rig = _rig(folder.path / CALIBRATION, left.shape[:2])
    try:
        frame = StereoFrame(left, right, rig)
    except ImageError as error:
        raise ImageError(f"{folder.name}: {error}") from error
    truth_px = read_disparity(folder.path / TRUTH)
    instances = folder.path / INSTANCES
    instance_ids = read_labels(instances) if instances.is_file() else None
    for name, array in ((TRUTH, truth_px), (INSTANCES, instance_ids)):
        if array is not None and array.shape != frame.shape:
            raise ImageError(f"{folder.path / name} must have the images' shape {frame.shape} (rows, columns), got {array.shape}")
    return Case(folder, frame, truth_px, instance_ids, truth_step(truth_px))


def truth_step(truth_px: np.ndarray) -> float:
    """Coarsest step of 1, 1/2, ... 1/8 px of which every known value is a multiple; 0 when there is none (float or 1/256 px truth)."""
    known = truth_px[np.isfinite(truth_px)].astype(np.float64)
    for n in COARSEST_FRACTIONS:
        if (np.abs(known * n - np.rint(known * n)) < FRACTION_TOLERANCE).all():
            return 1.0 / n
    return 0.0


def _case_folder(path: Path, record: dict[str, Any]) -> CaseFolder:
    source = str(record.get("source") or path.name.split("_", 1)[0])
    return CaseFolder(path, source, bool(record.get("metric", True)), record.get("instances_complete") is True)


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    """name -> record; nothing where there is no manifest."""
    if not path.exists():
        return {}
    records = _json(path)
    if not isinstance(records, list) or not all(isinstance(r, dict) and "name" in r for r in records):
        raise InputFileError(f"{path} must hold a list of records with a name each, see semantic_stereo_ros/evaluation/suite.py")
    return {str(record["name"]): record for record in records}


def _rig(path: Path, shape: tuple[int, int]) -> StereoRig:
    values = _json(path)
    if not isinstance(values, dict) or not {"f_px", "baseline_m"} <= values.keys():
        raise InputFileError(f"{path} must hold f_px and baseline_m (cx, cy, doffs_px, size_wh if known)")
    height, width = shape
    try:
        f_px = float(values["f_px"])
        size_wh = [int(n) for n in values.get("size_wh", (width, height))]
        return StereoRig(
            size_wh=(size_wh[0], size_wh[1]),
            fx=f_px,
            fy=f_px,
            cx=float(values.get("cx", (width - 1) / 2)),
            cy=float(values.get("cy", (height - 1) / 2)),
            baseline_m=float(values["baseline_m"]),
            doffs_px=float(values.get("doffs_px", 0.0)),
        )
    except SemanticStereoError as error:
        raise type(error)(f"{path}: {error}") from error
    except (TypeError, ValueError, IndexError) as error:
        raise InputFileError(f"{path} holds a value that is not what it should be ({error})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path, "JSON"))
    except ValueError as error:
        if isinstance(error, SemanticStereoError):
            raise
        raise InputFileError(f"{path} is no valid JSON ({error})") from error
