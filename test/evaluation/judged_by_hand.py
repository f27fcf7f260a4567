"""Judgements whose numbers are given, and the plane that the written suites show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from semantic_stereo_ros.evaluation.judge import JudgedObject, Judgement, PixelErrors
from semantic_stereo_ros.evaluation.suite import CaseFolder

HEIGHT, WIDTH = 160, 320
F_PX, BASELINE_M, DOFFS_PX = 300.0, 0.2, 4.0
PLANE_PX = 12.0


def true_depth_m(disparity_px: float) -> float:
    return F_PX * BASELINE_M / (disparity_px + DOFFS_PX)


def judgement(
    name="a_1", errors=(0.5,), sigma=1.0, cells=(), own=(), matches=(), reported=0, seconds=1.0, metric=True, complete=False
) -> Judgement:
    """errors: of pixels with a true disparity of 20 px. cells, own: (error_m, sigma_m, phantom) of objects 10 m away."""
    error = np.array(errors, np.float32)
    pixels = PixelErrors(
        20 + error, np.where(np.isnan(error), math.nan, sigma).astype(np.float32), np.full(len(error), 20, np.float32), 0.0
    )
    groups = ([JudgedObject(1, 100, 100, 10 + e, s, 10.0, 0.0, p) for e, s, p in group] for group in (cells, own))
    objects = dict(zip(("cells", "own masks"), map(tuple, groups))) | {"true masks": ()}
    folder = CaseFolder(Path(name), name.split("_")[0], metric, complete)
    return Judgement(folder, pixels, objects, tuple(matches), reported, reported - len(own), (), {"stereo": seconds})
