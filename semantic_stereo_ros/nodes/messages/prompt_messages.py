"""Prompt messages -> prompts. What a message refers to (the newest masks, the camera's frame) comes as a PromptView."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.geometry.box_projection import prompt_in_image
from semantic_stereo_ros.msg import Prompt as PromptMessage
from semantic_stereo_ros.nodes.messages.conversions import image_to_array, pose_to_matrix
from semantic_stereo_ros.prompts import (
    LARGEST_ID,
    Box3dPrompt,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptError,
)
from semantic_stereo_ros.types import OrientedBox, Segmentation, StereoRig

KINDS = {
    PromptMessage.POINT: "POINT",
    PromptMessage.BOX: "BOX",
    PromptMessage.MASK: "MASK",
    PromptMessage.MASK_LABEL: "MASK_LABEL",
    PromptMessage.BOX_3D: "BOX_3D",
}


@dataclass(frozen=True, eq=False)
class PromptView:
    """The newest frame that was segmented. frame_id: of its left image, the left optical frame."""

    stamp_ns: int
    frame_id: str
    rig: StereoRig
    segmentation: Segmentation


ToCamera = Callable[[np.ndarray], np.ndarray]
"""4x4 pose in the frame of a message's header -> 4x4 pose in the left optical frame."""


def to_prompts(
    messages: Iterable[PromptMessage], view: PromptView | None, to_camera: ToCamera, next_id: Callable[[], int]
) -> tuple[Prompt, ...]:
    """Prompts in the order of the messages; object id 0 becomes a `next_id()`. Raises PromptError for the first bad one."""
    prompts = []
    for index, message in enumerate(messages):
        try:
            prompt = _to_prompt(message, message.object_id or next_id(), view, to_camera)
            if view is not None:
                prompt_in_image(prompt, view.rig.left_camera)
        except SemanticStereoError as error:
            raise PromptError(f"prompt {index}: {error}") from error
        prompts.append(prompt)
    return tuple(prompts)


def _to_prompt(message: PromptMessage, object_id: int, view: PromptView | None, to_camera: ToCamera) -> Prompt:
    name = message.class_name
    if message.kind == PromptMessage.POINT:
        return PointPrompt(object_id, (float(message.xy[0]), float(message.xy[1])), not message.negative, class_name=name)
    if message.kind == PromptMessage.BOX:
        x_min, y_min, x_max, y_max = (float(value) for value in message.box_xyxy)
        return BoxPrompt(object_id, (x_min, y_min, x_max, y_max), class_name=name)
    if message.kind == PromptMessage.MASK:
        return MaskPrompt(object_id, _mask(message), class_name=name)
    if message.kind == PromptMessage.MASK_LABEL:
        return MaskPrompt(object_id, _mask_of_label(message, view), class_name=name)
    if message.kind == PromptMessage.BOX_3D:
        size = message.box_size
        return box_in_space(object_id, message.box_pose, (size.x, size.y, size.z), to_camera, name)
    known = ", ".join(f"{number} ({kind})" for number, kind in KINDS.items())
    raise PromptError(f"its kind {message.kind} is unknown; known: {known}")


def _mask(message: PromptMessage) -> np.ndarray:
    pixels = image_to_array(message.mask)
    if pixels.ndim != 2:
        raise PromptError(f"a mask must have one channel (mono8 or mono16), got encoding {message.mask.encoding!r}")
    return pixels > 0


def _mask_of_label(message: PromptMessage, view: PromptView | None) -> np.ndarray:
    if view is None:
        raise PromptError("a mask by reference needs a frame that was segmented, and there is none yet: subscribe to an output first")
    layers = view.segmentation.layers
    if message.mask_layer >= len(layers):
        raise PromptError(f"the newest masks have {len(layers)} layers, so that mask_layer {message.mask_layer} is not one of them")
    mask = layers[message.mask_layer].labels == message.mask_label
    if message.mask_label == 0 or not mask.any():
        raise PromptError(
            f"the newest masks have no label {message.mask_label} in layer {message.mask_layer}: labels hold for one frame only; "
            "read them from the newest `masks`, or give the mask itself"
        )
    return mask


def box_in_space(object_id: int, pose: Any, size_m: tuple[float, float, float], to_camera: ToCamera, class_name: str = "") -> Box3dPrompt:
    """geometry_msgs/Pose and size in the message's frame -> a box in the left optical frame. Raises SemanticStereoError."""
    from scipy.spatial.transform import Rotation

    matrix = to_camera(pose_to_matrix(pose))
    orientation = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return Box3dPrompt(object_id, OrientedBox(matrix[:3, 3].copy(), np.array(size_m, np.float64), orientation), class_name=class_name)


# Detections of others ---------------------------------------------------------------------------------------------------------


def detections_to_prompts(detections: Iterable[Any], next_id: Callable[[], int]) -> tuple[Prompt, ...]:
    """vision_msgs/Detection2D[] -> boxes; class names are those of the best hypotheses. Rotated boxes give their upright bounds."""
    prompts = []
    for detection in detections:
        box = detection.bbox
        cos, sin = abs(np.cos(box.center.theta)), abs(np.sin(box.center.theta))
        half_w, half_h = 0.5 * (box.size_x * cos + box.size_y * sin), 0.5 * (box.size_x * sin + box.size_y * cos)
        x, y = box.center.position.x, box.center.position.y
        object_id = detection_id(detection) or next_id()
        prompts.append(BoxPrompt(object_id, (x - half_w, y - half_h, x + half_w, y + half_h), class_name=_class_name(detection)))
    return tuple(prompts)


def detections_3d_to_prompts(detections: Iterable[Any], to_camera: ToCamera, next_id: Callable[[], int]) -> tuple[Prompt, ...]:
    """vision_msgs/Detection3D[] -> boxes in space, in the left optical frame."""
    prompts = []
    for detection in detections:
        size = detection.bbox.size
        object_id = detection_id(detection) or next_id()
        prompts.append(box_in_space(object_id, detection.bbox.center, (size.x, size.y, size.z), to_camera, _class_name(detection)))
    return tuple(prompts)


def detection_id(detection: Any) -> int:
    """The detector's own number, so that its tracks go on; 0 where it has none."""
    given = str(detection.id)
    return int(given) if given.isdecimal() and int(given) <= LARGEST_ID else 0


def _class_name(detection: Any) -> str:
    hypotheses = [result.hypothesis for result in detection.results]
    return str(max(hypotheses, key=lambda h: h.score).class_id) if hypotheses else ""


def by_kind(prompts: Iterable[Prompt]) -> Mapping[str, int]:
    """How many of each kind, for a sentence."""
    counts: dict[str, int] = {}
    for prompt in prompts:
        name = type(prompt).__name__.removesuffix("Prompt").lower()
        counts[name] = counts.get(name, 0) + 1
    return counts
