"""`semantic-stereo export`: a network as an ONNX file of one image size."""

from __future__ import annotations

import importlib.util
import re
from enum import Enum
from pathlib import Path
from typing import Optional

import typer
from rich.console import Console
from rich.markup import escape

from semantic_stereo_ros.checks import ConfigError, missing_dependency


class Model(str, Enum):
    foundation_stereo = "foundation_stereo"


class Precision(str, Enum):
    float32 = "float32"
    float16 = "float16"


class Attention(str, Enum):
    tokens = "tokens"
    heads = "heads"


def export(
    model: Model = typer.Argument(help="The network."),
    size: str = typer.Option(..., "--size", metavar="HxW", help="Image size, height first, in multiples of 32: 480x640."),
    checkpoint: Path = typer.Option(..., "--checkpoint", help="The weights, e.g. what 'semantic-stereo weights' downloaded."),
    output: Path = typer.Option(..., "--output", "-o", help="The file to write."),
    iterations: int = typer.Option(16, "--iterations", min=1, max=64, help="Updates: each one makes the file's graph longer."),
    max_disp: Optional[int] = typer.Option(None, "--max-disp", help="Searched disparities in px; the checkpoint's own if not given."),
    attention: Optional[Attention] = typer.Option(None, "--attention", help="Form of the disparity transformer; tokens if not given."),
    precision: Precision = typer.Option(Precision.float32, "--precision", help="Of the weights; float16 is for a GPU."),
    compare: bool = typer.Option(True, "--compare/--no-compare", help="Run the file once and compare it with the model."),
) -> None:
    """Write a network to an ONNX file for the stereo backend onnx, onnxruntime or TensorRT.

    Released FoundationStereo weights are for non-commercial use only, and so is a file that holds them.
    """
    if importlib.util.find_spec("torch") is None:
        raise missing_dependency("torch", "torch", "exporting a network")
    from semantic_stereo_ros.models.export import LICENCE, export_foundation_stereo

    console = Console(soft_wrap=True)
    console.print(f"[yellow]licence:[/yellow] {escape(LICENCE)}", highlight=False)
    done = export_foundation_stereo(
        checkpoint,
        output,
        size_of(size),
        iterations=iterations,
        max_disp=max_disp,
        attention=attention.value if attention else None,
        precision=precision.value,
        compare=compare,
    )
    if compare:
        console.print(f"largest difference from the model: {done.difference_px:.2g} px")
    console.print(f"written: {escape(str(done.path))} ({sum(done.operators.values())} nodes, {len(done.operators)} operators)")
    console.print(f"use it: semantic-stereo run ... --stereo onnx --set stereo.onnx.model={escape(str(done.path))}")


def size_of(text: str) -> tuple[int, int]:
    """'480x640' -> (480, 640), height first. Raises ConfigError."""
    found = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if not found:
        raise ConfigError(f"--size must be HEIGHTxWIDTH in px such as 480x640, got {text!r}")
    return int(found[1]), int(found[2])
