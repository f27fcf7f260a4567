"""Pictures of one judged case: objects with their distances, disparity, truth and error."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from semantic_stereo_ros.evaluation.suite import Case
from semantic_stereo_ros.io.overlay import draw_disparity, draw_scene
from semantic_stereo_ros.io.paths import atomic, inside
from semantic_stereo_ros.types import Scene

ERROR_STEPS_PX = (0.25, 0.5, 1.0, 2.0, 3.0)
# RGB of the classes between the steps, small errors first (ColorBrewer RdYlBu, reversed); then of what has no answer, and no truth
ERROR_COLORS = ((69, 117, 180), (145, 191, 219), (224, 243, 248), (254, 224, 144), (252, 141, 89), (215, 48, 39))
NO_ANSWER, NO_TRUTH = (110, 110, 110), (0, 0, 0)
SPARSE = 0.5
NAMES = ("overlay", "disparity", "truth", "error")


def write_pictures(directory: Path, case: Case, scene: Scene) -> dict[str, str]:
    """NAMES -> paths relative to `directory` of the JPEG files written below it."""
    known = case.truth_px[np.isfinite(case.truth_px)]
    low, high = np.percentile(known, (1, 99)).tolist()
    drawn = (
        draw_scene(scene),
        draw_disparity(scene.disparity.disparity_px, low, high),
        draw_disparity(_thicker(case.truth_px), low, high),
        draw_error(scene.disparity.disparity_px, case.truth_px),
    )
    paths = {}
    for name, image in zip(NAMES, drawn):
        path = inside(directory, "pictures", case.name, f"{name}.jpg")
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
        with atomic(path) as file:
            file.write(data.tobytes())
        paths[name] = path.relative_to(directory.resolve()).as_posix()
    return paths


def draw_error(disparity_px: np.ndarray, truth_px: np.ndarray) -> np.ndarray:
    """(H, W) disparity and truth in px, NaN unknown -> (H, W, 3) uint8 RGB in steps of ERROR_STEPS_PX, blue to red.

    Grey: no answer where truth is known; black: no truth. Sparse truth is drawn 3 px wide, the larger error in front.
    """
    kind = np.zeros(truth_px.shape, np.uint8)
    known = np.isfinite(truth_px)
    error = np.abs(disparity_px - truth_px)
    kind[known] = 1
    answered = known & np.isfinite(disparity_px)
    kind[answered] = 2 + np.digitize(error[answered], ERROR_STEPS_PX)
    if known.mean() < SPARSE:
        kind = np.asarray(cv2.dilate(kind, np.ones((3, 3), np.uint8)), np.uint8)
    return np.array([NO_TRUTH, NO_ANSWER, *ERROR_COLORS], np.uint8)[kind]


def _thicker(truth_px: np.ndarray) -> np.ndarray:
    """Sparse truth 3 px wide, the nearer in front."""
    known = np.isfinite(truth_px)
    if known.mean() >= SPARSE:
        return truth_px
    wide = cv2.dilate(np.where(known, truth_px, np.float32(-1e9)), np.ones((3, 3), np.uint8))
    return np.where(wide > -1e8, wide, np.float32(np.nan))
