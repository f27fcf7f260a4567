"""The tiny SAM 2 with deterministic weights as the backends take it: a checkpoint, and an export to ONNX. Needs torch and sam2."""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

FEW = {"points_per_side": 8, "min_stability": 0.7}
SIZE = 128


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def checkpoint() -> Path:
    """Skips without torch or sam2."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[sam2]'")
    pytest.importorskip("sam2", reason="sam2 is not installed: pip install 'semantic_stereo_ros[sam2]'")
    torch.set_num_threads(1)  # the test workers share the cores already
    sys.path.insert(0, str(Path(__file__).parent / "sam2"))
    oracle = importlib.import_module("oracle")
    from semantic_stereo_ros.models.sam2 import loading as sam2_loading

    path = Path(_folder().name) / "tiny.pt"
    torch.save({"model": oracle.fill(sam2_loading.build(oracle.MODEL, SIZE).state_dict())}, path)
    return path


def contract_options() -> dict[str, Any]:
    """Options under which the segmentation backend sam2 finds masks quickly."""
    return {**FEW, "checkpoint": str(checkpoint()), "image_size": SIZE, "device": "cpu"}


@functools.cache
def onnx_contract_options() -> dict[str, Any]:
    """The same for sam2_onnx. Skips without onnx and onnxruntime, too."""
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'semantic_stereo_ros[export]'")
    path = checkpoint()
    from semantic_stereo_ros.models.sam2.export import export_sam2

    folder = export_sam2(path, Path(_folder().name) / "exported", image_size=SIZE, compare=False).folder
    return {**FEW, "folder": str(folder), "threads": 1}
