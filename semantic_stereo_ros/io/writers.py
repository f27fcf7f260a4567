"""Results of a run as files, in the layout that docs/objects_json.md describes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.fusion.assemble import class_image, obstacle_points
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.geometry.points import depth_to_points
from semantic_stereo_ros.io.cloud import inlier_mask, within, write_ply
from semantic_stereo_ros.io.objects_json import scene_record, write_objects_json
from semantic_stereo_ros.io.overlay import draw_disparity, draw_scene, draw_segmentation
from semantic_stereo_ros.io.paths import atomic, inside, output_directory
from semantic_stereo_ros.types import Scene, SceneObject


def write_png(path: str | Path, image: np.ndarray) -> None:
    """(H, W) or (H, W, 3) RGB uint8 or uint16 as PNG, complete or not at all; also where cv2 cannot open the path."""
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(".png", stored)
    if not done:
        raise InputFileError(f"the picture {path} of shape {image.shape} could not be encoded as PNG")
    with atomic(path) as file:
        file.write(data.tobytes())


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """A NumPy file, complete or not at all."""
    with atomic(path) as file:
        np.save(file, array)


def instance_image(scene: Scene) -> np.ndarray:
    """(H, W) uint16 object ids (those of objects.json); 0 where no object is. Ids beyond 65535 do not fit and are an error."""
    labels = scene.segmentation.labels
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint16)
    for item in scene.objects:
        if item.label is not None and item.label < len(table):
            if item.object_id > 65535:
                raise InputFileError(f"object id {item.object_id} does not fit a 16-bit mask picture: start a new run")
            table[item.label] = item.object_id
    return table[labels]


class ResultWriter:
    """Writes each frame's results below one folder.

    sequence=False: stereo/, segmentation/, fusion/ and 3d/ directly below `directory` (one pair). sequence=True: the same set
    below <number>/ for each frame. compact=True (sequences): fusion/objects.jsonl with one line per frame and
    fusion/<number>.jpg overlays, nothing else. z_far_m cuts every cloud.
    """

    def __init__(self, directory: str | Path, *, sequence: bool = False, compact: bool = False, z_far_m: float | None = None) -> None:
        self.directory = output_directory(directory)
        self.sequence = sequence
        self.compact = compact
        self.z_far_m = z_far_m
        self._count = 0

    def write(self, scene: Scene, name: str = "") -> tuple[Path, ...]:
        """Write one frame; returns the files. `name`: the frame's, kept in objects.json."""
        number, self._count = self._count, self._count + 1
        if self.compact:
            return self._write_compact(scene, name, number)
        prefix = (f"{number:06d}",) if self.sequence else ()
        files = [*self._stereo(scene, prefix), *self._segmentation(scene, prefix)]
        overlay = inside(self.directory, *prefix, "fusion", "overlay.png")
        write_png(overlay, draw_scene(scene))
        objects = inside(self.directory, *prefix, "fusion", "objects.json")
        write_objects_json(objects, scene, name)
        return (*files, overlay, objects)

    def _stereo(self, scene: Scene, prefix: tuple[str, ...]) -> list[Path]:
        names = ("disparity.npy", "depth.npy", "disparity.png", "vis.png", "cloud.ply")
        paths = {name: inside(self.directory, *prefix, "stereo", name) for name in names}
        disparity, rig = scene.disparity.disparity_px, scene.disparity.rig
        depth = disparity_to_depth(disparity, rig)
        colored, rgb = draw_disparity(disparity), scene.frame.as_rgb8()
        write_npy(paths["disparity.npy"], disparity)
        write_npy(paths["depth.npy"], depth)
        write_png(paths["disparity.png"], colored)
        write_png(paths["vis.png"], np.hstack([rgb, colored]))
        points = depth_to_points(depth, rig)
        label, instance, confidence = (
            class_image(scene.disparity, scene.segmentation, scene.objects),
            instance_image(scene),
            scene.disparity.confidence,
        )
        write_ply(paths["cloud.ply"], points, rgb, label, instance, confidence, self.z_far_m)
        clean = inside(self.directory, *prefix, "3d", "cloud_clean.ply")
        keep = within(points, self.z_far_m)
        keep[keep] = inlier_mask(points[keep])
        write_ply(clean, points[keep], rgb[keep], label[keep], instance[keep], confidence[keep])
        return [*paths.values(), clean, *self._obstacles(scene, prefix)]

    def _obstacles(self, scene: Scene, prefix: tuple[str, ...]) -> list[Path]:
        """3d/obstacles.ply; an empty cloud says 'free', so there is none where that cannot be told."""
        path = inside(self.directory, *prefix, "3d", "obstacles.ply")
        points = obstacle_points(scene.disparity, scene.segmentation, z_far_m=self.z_far_m, hidden=scene.hidden)
        if points is None:
            path.unlink(missing_ok=True)
            return []
        write_ply(path, points)
        return [path]

    def _segmentation(self, scene: Scene, prefix: tuple[str, ...]) -> list[Path]:
        masks = inside(self.directory, *prefix, "segmentation", "masks.png")
        overlay = inside(self.directory, *prefix, "segmentation", "overlay.png")
        write_png(masks, instance_image(scene))
        write_png(overlay, draw_segmentation(scene.frame.left, scene.segmentation, _ids(scene.objects)))
        return [masks, overlay]

    def _write_compact(self, scene: Scene, name: str, number: int) -> tuple[Path, ...]:
        lines = inside(self.directory, "fusion", "objects.jsonl")
        with lines.open("w" if number == 0 else "a", encoding="utf-8") as file:
            file.write(json.dumps(scene_record(scene, name), allow_nan=False) + "\n")
        picture = inside(self.directory, "fusion", f"{number:06d}.jpg")
        done, data = cv2.imencode(".jpg", cv2.cvtColor(draw_scene(scene), cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 90))
        if not done:
            raise InputFileError(f"the overlay {picture} could not be encoded as JPEG")
        with atomic(picture) as file:
            file.write(data.tobytes())
        return lines, picture


def _ids(objects: tuple[SceneObject, ...]) -> dict[int, int]:
    return {item.label: item.object_id for item in objects if item.label is not None}
