"""Prompts of a file or of command line words, before there is a frame: points, boxes, masks and 3D boxes of objects.

docs/sam2.md documents the file. Pixels are those of the left image as it is measured, which is the rectified one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from semantic_stereo_ros.checks import InputFileError, SemanticStereoError
from semantic_stereo_ros.io.images import read_labels
from semantic_stereo_ros.prompts import Box3dPrompt, BoxPrompt, MaskPrompt, PointPrompt, Prompt, PromptError, PromptSet
from semantic_stereo_ros.types import OrientedBox, StereoFrame

FRAMES = ("left", "world")
_OBJECT_KEYS = ("id", "class", "points", "negative_points", "boxes", "masks", "boxes_3d")
_BOX_3D_KEYS = ("center_m", "size_m", "orientation_xyzw", "frame")


@dataclass(frozen=True, eq=False)
class GivenPrompts:
    """prompts: 3D boxes in the left optical frame; in_world: 3D boxes in the world frame."""

    prompts: tuple[Prompt, ...] = ()
    in_world: tuple[Box3dPrompt, ...] = ()

    def at(self, frame: StereoFrame) -> PromptSet:
        """All of them, seen in this frame. Raises PromptError for a box in the world without a pose, and what PromptSet raises."""
        pose = frame.pose_world_camera
        if self.in_world and pose is None:
            raise PromptError(
                f"the 3D box of object {self.in_world[0].object_id} is in the frame world, but the camera's pose is unknown: give --poses, "
                "or the box in the frame left"
            )
        boxes = () if pose is None else tuple(replace(p, box=_moved(p.box, np.linalg.inv(pose))) for p in self.in_world)
        return PromptSet((*self.prompts, *boxes), frame.stamp_ns)


@dataclass(frozen=True, eq=False)
class Draft:
    """A prompt whose object may have no number yet. prompt: under the number 1; object_id: None = an object of its own."""

    prompt: Prompt
    object_id: int | None = None
    in_world: bool = False


def gather(drafts: Sequence[Draft]) -> GivenPrompts:
    """Objects without a number get the next free one; all prompts of an object take the class that one of them says.

    Raises PromptError for an object that has only negative points.
    """
    taken = {draft.object_id for draft in drafts}
    free = (number for number in range(1, len(drafts) + len(taken) + 1) if number not in taken)
    numbered = [replace(d, object_id=next(free) if d.object_id is None else d.object_id) for d in drafts]
    names: dict[int | None, str] = {}
    for draft in numbered:
        names[draft.object_id] = names.get(draft.object_id) or draft.prompt.class_name
    positive = {d.object_id for d in numbered if not isinstance(d.prompt, PointPrompt) or d.prompt.positive}
    for draft in numbered:
        if draft.object_id not in positive:
            raise PromptError(
                f"object {draft.object_id} has only negative points, which say where it is not: give it a point, box or mask, too, under "
                "the same id"
            )
    ready = [
        replace(d.prompt, object_id=d.object_id, class_name=d.prompt.class_name or names[d.object_id])  # type: ignore[arg-type]
        for d in numbered
    ]
    in_world = tuple(p for p, d in zip(ready, numbered) if d.in_world and isinstance(p, Box3dPrompt))
    return GivenPrompts(tuple(p for p, d in zip(ready, numbered) if not d.in_world), in_world)


def read_prompts(path: str | Path) -> list[Draft]:
    """The prompts of a YAML or JSON file; masks lie relative to it. Raises InputFileError naming the place that is wrong."""
    path = Path(path)
    content = _content(path)
    if not isinstance(content, dict) or set(content) != {"objects"} or not isinstance(content["objects"], list):
        raise InputFileError(f"prompts file {path} must hold one list `objects`, each with some of {', '.join(_OBJECT_KEYS)}")
    drafts = []
    for index, item in enumerate(content["objects"]):
        place = f"prompts file {path}, objects[{index}]"
        try:
            drafts += _object(item, path.parent)
        except SemanticStereoError as error:
            raise InputFileError(f"{place}: {error}") from error
    if not drafts:
        raise InputFileError(f"prompts file {path} holds no prompt: give its objects points, boxes, masks or boxes_3d")
    return drafts


def _content(path: Path) -> Any:
    import yaml

    if not path.is_file():
        raise InputFileError(f"prompts file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputFileError(f"prompts file {path} is neither YAML nor JSON: {' '.join(str(error).split())}") from error


def _object(item: Any, folder: Path) -> list[Draft]:
    _check_keys(item, _OBJECT_KEYS)
    name, number = item.get("class", ""), item.get("id")
    if not isinstance(name, str):
        raise PromptError(f"class must be a text, got {name!r}")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise PromptError(f"id must be a whole number, got {number!r}")
    prompts: list[tuple[Prompt, bool]] = []
    prompts += [(BoxPrompt(1, _numbers(v, "boxes", 4), class_name=name), False) for v in _list(item, "boxes")]
    prompts += [(MaskPrompt(1, read_labels(folder / str(v)) > 0, class_name=name), False) for v in _list(item, "masks")]
    prompts += [_box_3d(v, name) for v in _list(item, "boxes_3d")]
    for key, positive in (("points", True), ("negative_points", False)):
        prompts += [(PointPrompt(1, _numbers(v, key, 2), positive, class_name=name), False) for v in _list(item, key)]
    if not prompts:
        raise PromptError("it has no prompt: give it points, boxes, masks or boxes_3d")
    if number is None and len(prompts) > 1:
        raise PromptError("several prompts of one object need an id, a number above zero")
    return [Draft(prompt, number, in_world) for prompt, in_world in prompts]


def _box_3d(item: Any, name: str) -> tuple[Prompt, bool]:
    _check_keys(item, _BOX_3D_KEYS)
    missing = [key for key in ("center_m", "size_m") if key not in item]
    if missing:
        raise PromptError(f"a box of boxes_3d needs {' and '.join(missing)}")
    frame = item.get("frame", FRAMES[0])
    if frame not in FRAMES:
        raise PromptError(f"the frame of a 3D box must be left (the left camera's optical frame) or world (that of --poses), got {frame!r}")
    parts = (("center_m", 3), ("size_m", 3), ("orientation_xyzw", 4))
    values = [np.array(_numbers(item.get(key, (0.0, 0.0, 0.0, 1.0)), key, count), np.float64) for key, count in parts]
    return Box3dPrompt(1, OrientedBox(*values), class_name=name), frame == "world"


def _check_keys(item: Any, known: Iterable[str]) -> None:
    if not isinstance(item, Mapping):
        raise PromptError(f"it must be a mapping with some of {', '.join(known)}, got {item!r}")
    unknown = [str(key) for key in item if key not in known]
    if unknown:
        raise PromptError(f"unknown key {unknown[0]!r}; known: {', '.join(known)}")


def _list(item: Mapping[str, Any], key: str) -> list[Any]:
    values = item.get(key, [])
    if not isinstance(values, list):
        raise PromptError(f"{key} must be a list, got {values!r}")
    return values


def _numbers(values: Any, key: str, count: int) -> tuple[Any, ...]:
    right = isinstance(values, (list, tuple)) and len(values) == count
    if not right or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise PromptError(f"each of {key} must be {count} numbers, got {values!r}")
    return tuple(float(v) for v in values)


def _moved(box: OrientedBox, transform: np.ndarray) -> OrientedBox:
    """The box of another frame. transform: 4x4."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_matrix(transform[:3, :3])
    center = transform[:3, :3] @ box.center_m + transform[:3, 3]
    return OrientedBox(center, box.size_m, (turn * Rotation.from_quat(box.orientation_xyzw)).as_quat())
