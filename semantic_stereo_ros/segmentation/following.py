"""From prompts in force to objects that are followed, and from these to a Segmentation: what a tracking backend does around its model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from semantic_stereo_ros.prompts import BoxPrompt, PointPrompt, Prompt, PromptSet, joint_prompt, source_key_of
from semantic_stereo_ros.types import Disparity, Instance, LabelLayer, Segmentation, StereoFrame

if TYPE_CHECKING:
    from semantic_stereo_ros.models.sam2.objects import FollowedObject, ObjectStream
    from semantic_stereo_ros.models.sam2.tracking import ImageFeatures, ObjectPrompt


class Follower:
    """One stream's objects: those of the prompts under their keys, and those that `find` sees on key frames.

    find: (rgb8 (H, W, 3) uint8, features) -> masks as ObjectStream's `detect` gives them; None = only what is prompted. A prompt counts
    once, in the first frame after it came; the object is followed from there, until its prompts are taken back.
    """

    def __init__(self, stream: ObjectStream, image_size: int, find: Callable[[np.ndarray, ImageFeatures], Any] | None = None) -> None:
        self._stream, self._image_size, self._find = stream, image_size, find
        self._prompts = self._told = PromptSet()
        self.objects: tuple[FollowedObject, ...] = ()
        """Of the last frame, the occluded and lost ones too: a Segmentation has no place for what shows no pixel."""

    def set_prompts(self, prompts: PromptSet) -> None:
        """All prompts in force from the next frame on."""
        self._prompts = prompts

    def reset(self) -> None:
        """Forget objects and prompts."""
        self._stream.reset()
        self._prompts = self._told = PromptSet()
        self.objects = ()

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        """One layer, 'object'; where objects meet, the surer one is. A score is the model's belief that the object is in view, times its
        expected IoU. An object that is not seen now has no Instance: what became of it is said by the tracking stage, by its key."""
        self._stream.remove([source_key_of(i) for i in self._told.object_ids if i not in self._prompts.object_ids])
        fresh = new_prompts(self._told, self._prompts)
        told = {source_key_of(i): as_object_prompt(fresh.of(i), frame.shape, self._image_size) for i in fresh.object_ids}
        rgb8 = frame.as_rgb8()
        find = self._find
        detect = None if find is None else lambda features: find(rgb8, features)
        followed = self._stream(rgb8, told, detect, None if disparity is None else _known_px(disparity))
        self._told = self._prompts  # not before: who tries again after an error tells them again
        self.objects = followed.objects
        names = {source_key_of(i): self._prompts.class_name(i) for i in self._prompts.object_ids}
        instances = tuple(
            Instance(label=o.label, source_key=o.key, class_name=names.get(o.key) or "object", score=round(o.score, 3))
            for o in followed.objects
            if o.label is not None
        )
        return Segmentation((LabelLayer(followed.labels),), instances)


def new_prompts(before: PromptSet, now: PromptSet) -> PromptSet:
    """The prompts of `now` that are not in `before`. Boxes and points are known by their numbers: 3D boxes are projected each time."""
    known = Counter(_identity(prompt) for prompt in before.prompts if prompt.object_id in now.object_ids)
    fresh = []
    for prompt in now.prompts:
        identity = _identity(prompt)
        if known[identity]:
            known[identity] -= 1
        else:
            fresh.append(prompt)
    return PromptSet(tuple(fresh), now.stamp_ns)


def _identity(prompt: Prompt) -> Hashable:
    if isinstance(prompt, PointPrompt):
        return prompt.object_id, prompt.xy_px, prompt.positive
    if isinstance(prompt, BoxPrompt):
        return prompt.object_id, prompt.box_xyxy
    return prompt


def as_object_prompt(prompts: Iterable[Prompt], shape: tuple[int, int], image_size: int) -> ObjectPrompt:
    """What the prompts of one object say together (joint_prompt), for the model."""
    from semantic_stereo_ros.models.sam2.tracking import ObjectPrompt

    joint = joint_prompt(prompts)
    return ObjectPrompt.at(
        shape, image_size, [p.xy_px for p in joint.points], [p.positive for p in joint.points], joint.box_xyxy, joint.mask
    )


def _known_px(disparity: Disparity) -> np.ndarray:
    """(H, W) float32 disparity with doffs, which is inverse to the depth; NaN where unknown."""
    return np.where(disparity.valid, disparity.disparity_px + np.float32(disparity.rig.doffs_px), np.float32(np.nan))
