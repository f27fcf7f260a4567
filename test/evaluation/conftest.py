"""Suites written to a temporary folder: a textured plane at an exact disparity, with whatever truth a test asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from judged_by_hand import BASELINE_M, DOFFS_PX, F_PX, HEIGHT, PLANE_PX, WIDTH


@pytest.fixture
def write_case(tmp_path) -> Callable[..., Path]:
    """write_case(name, truth_px=..., instances=..., calibration=...) -> the suite's folder, with that case in it."""

    def write(name: str, truth_px: np.ndarray | None = None, instances: np.ndarray | None = None, **calibration) -> Path:
        folder = tmp_path / "suite" / name
        folder.mkdir(parents=True)
        texture = np.random.default_rng(7).integers(0, 255, (HEIGHT, WIDTH + 64), np.uint8)
        texture = cv2.GaussianBlur(texture, (0, 0), 1.0)
        texture = cv2.equalizeHist(texture)
        cv2.imwrite(str(folder / "left.png"), texture[:, 20 : 20 + WIDTH])
        cv2.imwrite(str(folder / "right.png"), texture[:, 20 + int(PLANE_PX) : 20 + int(PLANE_PX) + WIDTH])
        values = {"f_px": F_PX, "baseline_m": BASELINE_M, "doffs_px": DOFFS_PX, "size_wh": [WIDTH, HEIGHT]} | calibration
        (folder / "calib.json").write_text(json.dumps(values))
        truth = np.full((HEIGHT, WIDTH), PLANE_PX, np.float32) if truth_px is None else truth_px.astype(np.float32)
        np.savez_compressed(folder / "disp_left.npz", disp=truth)
        if instances is not None:
            cv2.imwrite(str(folder / "instances.png"), instances.astype(np.uint16))
        return folder.parent

    return write


@pytest.fixture
def write_manifest(tmp_path) -> Callable[[list], None]:
    def write(records: list) -> None:
        (tmp_path / "suite" / "manifest.json").write_text(json.dumps(records))

    return write
