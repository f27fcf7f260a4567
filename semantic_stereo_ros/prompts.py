"""What a person or a detector says of objects: points, boxes, masks and 3D boxes, for segmentation backends that take prompts.

Prompts of one `object_id` describe one object. The id is the caller's own: the instance that a backend makes of it carries
`source_key` (see `source_key_of`), by which the tracker keeps it apart; a SceneObject's object_id is another number.
Pixels: a point's coordinates have pixel centres at integers; boxes and masks cover whole pixels, box maxima are exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from semantic_stereo_ros.checks import SemanticStereoError, check_array
from semantic_stereo_ros.registry import backend_module, backend_names
from semantic_stereo_ros.types import OrientedBox

MAX_OBJECTS, MAX_PROMPTS = 64, 512
LARGEST_ID = 2**32 - 1


class PromptError(SemanticStereoError):
    """A prompt that cannot be used, or a backend that takes none."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """object_id: 1..2**32-1. class_name: '' = the backend's own; prompts of one object agree on it."""

    object_id: int
    class_name: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not 1 <= self.object_id <= LARGEST_ID:
            raise PromptError(f"a prompt's object id must lie in 1..{LARGEST_ID}, got {self.object_id}")

    def check_fits(self, size_wh: tuple[int, int]) -> None:
        """Raise PromptError unless the prompt touches an image of this size; of a 3D box only its projection can tell."""


@dataclass(frozen=True, eq=False)
class PointPrompt(Prompt):
    """A pixel of the object, or (positive=False) one beside it. xy_px: pixel centres at integers."""

    xy_px: tuple[float, float]
    positive: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers("a point", self.xy_px, 2, "(x, y)")

    def check_fits(self, size_wh: tuple[int, int]) -> None:
        (x, y), (width, height) = self.xy_px, size_wh
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise PromptError(f"the point ({x:g}, {y:g}) of object {self.object_id} lies outside the {width}x{height} image")


@dataclass(frozen=True, eq=False)
class BoxPrompt(Prompt):
    """A box around the object. box_xyxy: px, (x_min, y_min, x_max, y_max), maxima exclusive, so pixel k covers k..k+1."""

    box_xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers("a box", self.box_xyxy, 4, "(x_min, y_min, x_max, y_max)")
        x_min, y_min, x_max, y_max = self.box_xyxy
        if not (x_min < x_max and y_min < y_max):
            raise PromptError(
                f"a box must have x_min < x_max and y_min < y_max, got {_text(self.box_xyxy)} for object {self.object_id}: "
                "is it (x, y, width, height)?"
            )

    def check_fits(self, size_wh: tuple[int, int]) -> None:
        (x_min, y_min, x_max, y_max), (width, height) = self.box_xyxy, size_wh
        if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
            raise PromptError(f"the box {_text(self.box_xyxy)} of object {self.object_id} lies outside the {width}x{height} image")


@dataclass(frozen=True, eq=False)
class MaskPrompt(Prompt):
    """The object's pixels. mask: (H, W) bool, of the left image's size, not empty."""

    mask: np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        check_array(f"the mask of object {self.object_id}", self.mask, shape=(None, None), dtypes=(np.bool_,), error=PromptError)
        if not self.mask.any():
            raise PromptError(f"the mask of object {self.object_id} is empty: mark its pixels with values above 0")

    def check_fits(self, size_wh: tuple[int, int]) -> None:
        if self.mask.shape != size_wh[::-1]:
            height, width = self.mask.shape
            raise PromptError(
                f"the mask of object {self.object_id} is {width}x{height} but the image {size_wh[0]}x{size_wh[1]}: "
                "give it for the left image's pixels"
            )


@dataclass(frozen=True, eq=False)
class Box3dPrompt(Prompt):
    """A box in space around the object. box: in the left optical frame, m. `geometry.box_projection` makes a BoxPrompt of it."""

    box: OrientedBox

    def __post_init__(self) -> None:
        super().__post_init__()
        name = f"the 3D box of object {self.object_id}"
        for part, shape in (("center_m", (3,)), ("size_m", (3,)), ("orientation_xyzw", (4,))):
            values = getattr(self.box, part)
            check_array(f"{part} of {name}", values, shape=shape, error=PromptError)
            if not np.isfinite(values).all():
                raise PromptError(f"{part} of {name} must be finite, got {values.tolist()}")
        if not (self.box.size_m > 0).all():
            raise PromptError(f"{name} must have a size above zero along each axis, got {self.box.size_m.tolist()} m")
        if abs(float(np.linalg.norm(self.box.orientation_xyzw)) - 1.0) > 1e-3:
            raise PromptError(f"the orientation of {name} must be a unit quaternion (x, y, z, w), got {self.box.orientation_xyzw.tolist()}")


@dataclass(frozen=True, eq=False)
class JointPrompt:
    """What the 2D prompts of one object say together. points: in their order; box_xyxy: px, the smallest box that holds all boxes;
    mask: (H, W) bool, the union of all masks; None where there is none."""

    points: tuple[PointPrompt, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None


def joint_prompt(prompts: Iterable[Prompt]) -> JointPrompt:
    """The prompts of one object as one; 3D boxes must have become 2D ones before (PromptSet.in_image)."""
    prompts = tuple(prompts)
    boxes = [p.box_xyxy for p in prompts if isinstance(p, BoxPrompt)]
    masks = [p.mask for p in prompts if isinstance(p, MaskPrompt)]
    x_min, y_min, x_max, y_max = zip(*boxes) if boxes else ((),) * 4
    return JointPrompt(
        points=tuple(p for p in prompts if isinstance(p, PointPrompt)),
        box_xyxy=(min(x_min), min(y_min), max(x_max), max(y_max)) if boxes else None,
        mask=np.logical_or.reduce(masks) if masks else None,
    )


def source_key_of(object_id: int) -> str:
    """Instance.source_key of what a backend finds for the prompts of this object."""
    return f"prompt:{object_id}"


@dataclass(frozen=True, eq=False)
class PromptSet:
    """All prompts in force; changes make another set. stamp_ns: of the left image they were seen in, 0 = whichever comes next.

    Raises PromptError for more than 64 objects or 512 prompts, and for an object with two class names.
    """

    prompts: tuple[Prompt, ...] = ()
    stamp_ns: int = 0

    def __post_init__(self) -> None:
        if len(self.prompts) > MAX_PROMPTS:
            raise PromptError(f"at most {MAX_PROMPTS} prompts are kept at a time, got {len(self.prompts)}: clear some first")
        if len(self.object_ids) > MAX_OBJECTS:
            raise PromptError(f"at most {MAX_OBJECTS} objects are prompted at a time, got {len(self.object_ids)}: clear some first")
        names: dict[int, str] = {}
        for prompt in self.prompts:
            known = names.setdefault(prompt.object_id, prompt.class_name)
            if known != prompt.class_name:
                raise PromptError(
                    f"the prompts of object {prompt.object_id} say two classes, {known!r} and {prompt.class_name!r}: "
                    "say one, or give the objects different ids"
                )

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Every object that is prompted, in order of first appearance."""
        return tuple(dict.fromkeys(prompt.object_id for prompt in self.prompts))

    def of(self, object_id: int) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in self.prompts if prompt.object_id == object_id)

    def class_name(self, object_id: int) -> str:
        """What the object's prompts call it; '' when they do not."""
        return next((prompt.class_name for prompt in self.prompts if prompt.object_id == object_id), "")

    def added(self, prompts: Iterable[Prompt], stamp_ns: int = 0) -> PromptSet:
        """This set with more prompts, seen at `stamp_ns`."""
        return PromptSet((*self.prompts, *prompts), stamp_ns)

    def without(self, object_ids: Iterable[int]) -> PromptSet:
        """This set without these objects. Raises PromptError for one that is not in it."""
        gone = set(object_ids)
        unknown = sorted(gone - set(self.object_ids))
        if unknown:
            known = ", ".join(map(str, self.object_ids)) or "none"
            raise PromptError(f"no prompt of object {unknown[0]} is set; objects with prompts: {known}")
        return replace(self, prompts=tuple(prompt for prompt in self.prompts if prompt.object_id not in gone))


def check_takes_prompts(backend_name: str) -> None:
    """Raise PromptError unless this segmentation backend takes prompts; the text names those that do."""
    if backend_module("segmentation", backend_name).Backend.accepts_prompts:
        return
    names = backend_names("segmentation")
    able = [name for name in names if backend_module("segmentation", name).Backend.accepts_prompts]
    remedy = f"choose segmentation.backend {' or '.join(able)}" if able else f"and none of the known ones does ({', '.join(names)})"
    raise PromptError(f"segmentation backend {backend_name!r} takes no prompts; {remedy}")


def _check_numbers(name: str, values: Iterable[float], count: int, wanted: str) -> None:
    numbers = tuple(values)
    if len(numbers) != count or not all(math.isfinite(value) for value in numbers):
        raise PromptError(f"{name} must be {count} finite numbers {wanted}, got {_text(numbers)}")


def _text(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
