"""What the stereo backend adds to bare OpenCV: padded StereoSGBM.compute against the backend plain and with all its checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from semantic_stereo_ros.options import build
from semantic_stereo_ros.stereo.backends.sgbm import Backend, Config
from semantic_stereo_ros.synthetic import random_sequence

SIZE_WH = (640, 480)
NUM_DISPARITIES = 128
PLAIN: dict[str, Any] = {"min_texture": 0.0, "left_right_check": False, "speckle_size": 0, "refine": False, "confidence": False}


def run(repeats: int = 30, mode: str = "3way") -> dict[str, Any]:
    """Median times in ms and their ratios to bare compute; the candidates take turns in one process, on one grey pair.

    bare: copyMakeBorder of both images and compute with the same mode, block and penalties, and no check of OpenCV's own.
    plain: the backend with its checks, smoothing and sigma switched off. full: the backend's defaults.
    """
    frame = random_sequence(seed=11, size_wh=SIZE_WH, color=False)[0].frame
    backends = {}
    for name, options in (("plain", PLAIN), ("full", {})):
        backends[name] = Backend(build(Config, {"mode": mode, "num_disparities": NUM_DISPARITIES, **options}))
        backends[name].load()
    candidates: dict[str, Callable[[], Any]] = {
        "bare": _bare(frame.left, frame.right, mode),
        "plain": lambda: backends["plain"](frame),
        "full": lambda: backends["full"](frame),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            if repeat:  # the first round allocates
                times[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "name": "sgbm",
        "mode": mode,
        "size_wh": list(SIZE_WH),
        "num_disparities": NUM_DISPARITIES,
        "repeats": repeats,
        "median_ms": medians,
        "plain_to_bare": medians["plain"] / medians["bare"],
        "full_to_bare": medians["full"] / medians["bare"],
        "bars": {"plain_to_bare": 1.1, "full_to_bare": 1.6},
    }


def _bare(left: np.ndarray, right: np.ndarray, mode: str) -> Callable[[], np.ndarray]:
    modes = {
        "sgbm": cv2.STEREO_SGBM_MODE_SGBM,
        "3way": cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        "hh": cv2.STEREO_SGBM_MODE_HH,
        "hh4": cv2.STEREO_SGBM_MODE_HH4,
    }
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=NUM_DISPARITIES,
        blockSize=3,
        P1=8 * 9,
        P2=24 * 9,
        disp12MaxDiff=-1,
        preFilterCap=31,
        uniquenessRatio=10,
        mode=modes[mode],
    )

    def compute() -> np.ndarray:
        padded = [cv2.copyMakeBorder(image, 0, 0, NUM_DISPARITIES, 0, cv2.BORDER_REPLICATE) for image in (left, right)]
        return matcher.compute(*padded)

    return compute
