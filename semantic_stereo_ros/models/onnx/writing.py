"""Networks written to ONNX files: one exporter, one opset, checked by ONNX."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semantic_stereo_ros.checks import missing_dependency

OPSET = 17
"""The newest that torch's tracing exporter writes; TensorRT reads 9 to 20 (10.0)."""


def trace(
    form: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    open_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write what `form` does with `example`. open_axes: of inputs and outputs by name, the axes of any length and what they count."""
    # Since torch 2.9 its other exporter is the default: that one writes opset 18 and later, and takes four times as long for large graphs.
    options: dict[str, Any] = {"input_names": list(inputs), "output_names": list(outputs), "opset_version": OPSET}
    if open_axes:
        options["dynamic_axes"] = {name: dict(axes) for name, axes in open_axes.items()}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    with torch.no_grad(), warnings.catch_warnings():
        # Sizes and iterations are meant to be constants; and the exporter's own deprecation.
        warnings.simplefilter("ignore")
        form(*example)  # fills the tables of positions, which are constants of the trace then
        torch.onnx.export(form, example, str(path), **options)


def finish(path: Path, metadata: dict[str, str]) -> dict[str, int]:
    """Add metadata, have ONNX check the file; how often each operator occurs."""
    onnx = library("onnx", "writing ONNX files")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


def library(name: str, purpose: str) -> Any:
    """An imported module. Raises MissingDependencyError naming the extra `export`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing_dependency(name, "export", purpose) from error
