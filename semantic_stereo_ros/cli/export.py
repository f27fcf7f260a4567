"""`semantic-stereo export`: a network as ONNX files of one image size."""

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
from semantic_stereo_ros.io.paths import output_file
from semantic_stereo_ros.segmentation.sam2_weights import MODELS, checkpoint_of
from semantic_stereo_ros.stereo.foundation_stereo_weights import checkpoint_of as checkpoint_file
from semantic_stereo_ros.weights import cache

app = typer.Typer(no_args_is_help=True, help="Write a network to ONNX files, for onnxruntime or TensorRT.")


class Precision(str, Enum):
    float32 = "float32"
    float16 = "float16"


class Attention(str, Enum):
    tokens = "tokens"
    heads = "heads"


@app.command("foundation_stereo", no_args_is_help=True)
def foundation_stereo(
    size: str = typer.Option(..., "--size", metavar="HxW", help="Image size, height first, in multiples of 32: 480x640."),
    checkpoint: str = typer.Option(..., "--checkpoint", help="The weights: a file, or a name that 'semantic-stereo weights list' shows."),
    output: Path = typer.Option(..., "--output", "-o", help="The file to write."),
    iterations: int = typer.Option(16, "--iterations", min=1, max=64, help="Updates: each one makes the file's graph longer."),
    max_disp: Optional[int] = typer.Option(None, "--max-disp", help="Searched disparities in px; the checkpoint's own if not given."),
    attention: Optional[Attention] = typer.Option(None, "--attention", help="Form of the disparity transformer; tokens if not given."),
    precision: Precision = typer.Option(Precision.float32, "--precision", help="Of the weights; float16 is for a GPU."),
    compare: bool = typer.Option(True, "--compare/--no-compare", help="Run the file once and compare it with the model."),
) -> None:
    """Write FoundationStereo to an ONNX file for the stereo backend onnx.

    Released FoundationStereo weights are for non-commercial use only, and so is a file that holds them.
    """
    _check_torch()
    from semantic_stereo_ros.models.foundation_stereo.export import LICENCE, check_size, export_foundation_stereo

    console = Console(soft_wrap=True)
    console.print(f"[yellow]licence:[/yellow] {escape(LICENCE)}", highlight=False)
    size_hw = size_of(size)
    check_size(size_hw)
    target = output_file(output)
    path, official = checkpoint_file(checkpoint, "auto")
    if official is not None:
        cache.verify(official, path)
    done = export_foundation_stereo(
        path,
        target,
        size_hw,
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


def sam2_model(name: str) -> str:
    """'tiny' or 'sam2.1_hiera_tiny' -> 'sam2.1_hiera_tiny'. Raises ConfigError with the known names."""
    full = name if name in MODELS else f"{MODELS[0].rpartition('_tiny')[0]}_{name}"
    if full not in MODELS:
        raise ConfigError(f"--model must be tiny, small, base_plus, large or one of {', '.join(MODELS)}, got {name!r}")
    return full


@app.command("sam2", no_args_is_help=True)
def sam2(
    output: Path = typer.Option(..., "--output", "-o", help="The folder to write: encoder.onnx, decoder.onnx and sam2.yaml."),
    model: str = typer.Option("tiny", "--model", help="tiny, small, base_plus or large of SAM 2.1, or a full name: sam2_hiera_tiny."),
    size: int = typer.Option(1024, "--size", help="Side of the square image in px, a multiple of 32; SAM 2 was trained at 1024."),
    checkpoint: str = typer.Option("", "--checkpoint", help="The weights; the model's official file if not given, see 'weights list'."),
    compare: bool = typer.Option(True, "--compare/--no-compare", help="Run the files once and compare them with the model."),
) -> None:
    """Write SAM 2 for single images to two ONNX files for the segmentation backend sam2_onnx.

    The encoder runs once per image, the decoder for any number of points and boxes. Objects cannot be followed with them.

    Example: semantic-stereo export sam2 --model tiny --size 1024 --output sam2_tiny
    """
    name = sam2_model(model)
    _check_torch()
    from semantic_stereo_ros.models.sam2.export import export_sam2

    done = export_sam2(checkpoint_of(checkpoint, name), output, name, size, compare=compare)
    console = Console(soft_wrap=True)
    if compare:
        console.print(f"largest difference from the model, of mask logits and scores: {done.difference:.2g}")
    for file, operators in done.operators.items():
        console.print(f"written: {escape(str(done.folder / file))} ({sum(operators.values())} nodes, {len(operators)} operators)")
    console.print(
        f"use it: semantic-stereo run ... --segmentation sam2_onnx --set segmentation.sam2_onnx.folder={escape(str(done.folder))}"
    )


def _check_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise missing_dependency("torch", "export", "exporting a network")


def size_of(text: str) -> tuple[int, int]:
    """'480x640' -> (480, 640), height first. Raises ConfigError."""
    found = re.fullmatch(r"(\d+)[xX](\d+)", text.strip())
    if not found:
        raise ConfigError(f"--size must be HEIGHTxWIDTH in px such as 480x640, got {text!r}")
    return int(found[1]), int(found[2])
