"""`semantic-stereo run`: stereo images or videos in, disparity, masks, clouds and distances with sigma out."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Optional

import typer
from rich.console import Console

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.cli import common, prompt_options
from semantic_stereo_ros.io.images import read_labels
from semantic_stereo_ros.io.sequences import MeasuredFiles, open_pairs
from semantic_stereo_ros.io.writers import ResultWriter
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.types import Scene, SceneStatus, Segmentation


def run(
    left: str = typer.Argument(..., help="Left image, folder, quoted glob, or video."),
    right: Optional[str] = typer.Argument(None, help="Right image, folder, quoted glob, or video. Not needed with --disparity or --depth."),
    calibration: str = typer.Option(
        ...,
        "--calibration",
        "-c",
        help="Middlebury or KITTI calib.txt, K.txt with a baseline line, OpenCV YAML, depthai calib.json, or a pair of "
        "camera_info YAMLs ('left.yaml,right.yaml' or their folder). Raw pairs are rectified.",
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the results; made if missing."),
    stereo: Optional[str] = common.StereoName,
    segmentation: Optional[str] = common.SegmentationName,
    assignments: list[str] = common.Assignments,
    config_file: Optional[Path] = common.ConfigFile,
    disparity: Optional[str] = typer.Option(
        None,
        "--disparity",
        help="Disparity that the camera made, instead of matching: file, folder or quoted glob of .npy, .pfm, KITTI .png.",
    ),
    depth: Optional[str] = typer.Option(
        None, "--depth", help="Depth that the camera made, likewise: .npy, .pfm, .tif in m, 16-bit .png in mm."
    ),
    map_scale: Optional[float] = typer.Option(
        None,
        "--map-scale",
        min=1e-6,
        max=1e9,
        help="Values per px or m in those files, where they differ: 5000 for TUM's depth, 256 for KITTI's.",
    ),
    masks: Optional[Path] = typer.Option(None, "--masks", help="16-bit PNG of instance ids: measure these instead of segmenting."),
    prompt_boxes: list[str] = prompt_options.Boxes,
    prompt_points: list[str] = prompt_options.Points,
    prompts_file: Optional[Path] = prompt_options.File,
    poses: Optional[Path] = typer.Option(None, "--poses", help="Camera poses, one 3x4 row per frame (KITTI): tracks in the world frame."),
    z_far: Optional[float] = typer.Option(None, "--z-far", min=0.0, help="Cut every cloud beyond this depth, in m."),
    baseline: Optional[float] = typer.Option(None, "--baseline", help="Baseline in m, when the calibration has none or a wrong one."),
    rectified: bool = typer.Option(False, "--rectified", help="The images are rectified already, though the calibration has distortion."),
    fps: Optional[float] = typer.Option(None, "--fps", min=0.001, max=1e6, help="Frames per second of folders; videos know theirs."),
    limit: Optional[int] = typer.Option(None, "--limit", min=1, help="Stop after this many frames."),
    compact: bool = typer.Option(False, "--compact", help="Sequences: only objects.jsonl and overlays, not a full set per frame."),
    unchecked: bool = typer.Option(False, "--unchecked", help="Go on with a pair that looks swapped or unrectified."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar and no table."),
) -> None:
    """Measure every object of a stereo pair, of two folders or globs, or of two videos.

    Writes below OUTPUT: stereo/ (disparity.npy in px, depth.npy in m, pictures, cloud.ply), segmentation/ (masks.png with 16-bit
    ids, overlay.png), fusion/ (overlay.png, objects.json) and 3d/ (cloud_clean.ply,
    obstacles.ply); sequences get one numbered set per frame.

    Prompts say where objects are; the class that you give one is its class_name in objects.json. Of a sequence they are those of the
    first frame: with segmentation.sam2.mode=track the objects are followed from there, else the same prompts hold in every frame.

    Example: semantic-stereo run left.png right.png -c calib.txt -o out --z-far 20

    Example: semantic-stereo run left.png right.png -c calib.txt -o out --segmentation sam2 --set segmentation.sam2.mode=prompted
    --prompt-box 20,150,90,220,class=cup --prompt-point 300,80,class=ball
    """
    measured = _measured(disparity, depth, map_scale)
    if stereo is None and measured is not None:
        stereo = "external"
    config = common.build_config(stereo, segmentation, assignments, config_file)
    if (config.stereo.backend == "external") != (measured is not None):
        raise ConfigError(
            f"the stereo backend is {config.stereo.backend} and {'a' if measured else 'no'} disparity or depth is given: --stereo external "
            "and --disparity or --depth belong together"
        )
    given_prompts = prompt_options.given_prompts(prompt_boxes, prompt_points, prompts_file, config, masks)
    pairs = open_pairs(left, right, calibration, measured=measured, baseline_m=baseline, rectified=rectified, poses=poses, fps=fps)
    total = len(pairs) if limit is None else min(limit, len(pairs))
    given = Segmentation.from_labels(read_labels(masks)) if masks is not None else None
    single = len(pairs) == 1 and Path(left).is_file()
    writer = ResultWriter(output, sequence=not single, compact=compact and not single, z_far_m=z_far)
    pipeline = Pipeline(config)
    scene: Scene | None = None
    try:
        with common.progress_bar(quiet) as progress:
            task = progress.add_task("measuring", total=total, note="")
            for frame, name in itertools.islice(pairs, total):
                first = scene is None
                if first and given_prompts is not None:
                    pipeline.segmentation.set_prompts(given_prompts.at(frame))
                scene = pipeline(frame, given)
                if first:
                    common.report_findings(scene, pipeline.notes(), unchecked)
                writer.write(scene, name)
                progress.update(task, advance=1, note=_note(scene))
    finally:
        pipeline.close()
    if scene is not None and not quiet:
        _summarise(scene, writer.directory)


def _measured(disparity: Optional[str], depth: Optional[str], scale: Optional[float]) -> Optional[MeasuredFiles]:
    if disparity is not None and depth is not None:
        raise ConfigError("--disparity and --depth exclude each other: give the one that the camera measures")
    if disparity is not None:
        return MeasuredFiles(disparity, "disparity", scale)
    if depth is not None:
        return MeasuredFiles(depth, "depth", scale)
    if scale is not None:
        raise ConfigError("--map-scale needs --disparity or --depth: it is the scale of their files")
    return None


def _note(scene: Scene) -> str:
    objects = "1 object" if len(scene.objects) == 1 else f"{len(scene.objects)} objects"
    return f"{objects}, {sum(scene.timings_s.values()) * 1e3:.0f} ms"


def _summarise(scene: Scene, directory: Path) -> None:
    console = Console()
    if scene.status is SceneStatus.OK:
        console.print(common.objects_table(scene.objects, "Objects of the last frame, nearest first"))
        if scene.reason:
            console.print(scene.reason)
    elif scene.status is SceneStatus.NO_OBJECTS:
        console.print("no objects: the view was measured, holds none and hides none")
    else:
        console.print(f"cannot tell: {scene.reason}")
    console.print(f"written: {directory}", soft_wrap=True)
