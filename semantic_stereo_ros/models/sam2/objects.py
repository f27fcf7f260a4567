"""The objects of a stream: prompted or found on key frames, followed in between, told when they are hidden, dropped when they are gone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.models.sam2.mask_matching import Looks, coarse_disparity, coarse_masks, covered, grid_of, looks, match
from semantic_stereo_ros.models.sam2.tracking import ImageFeatures, ObjectPrompt, Predictions, StreamTracker
from semantic_stereo_ros.types import ObjectState

Detector = Callable[[ImageFeatures], Tensor]


@dataclass(frozen=True)
class Rules:
    """key_frame_interval: objects are looked for in every so many frames. max_objects: that are found so. lost_frames: unseen for longer,
    an object is LOST, not OCCLUDED; drop_frames: unseen for longer, it is forgotten, unless it was prompted. match_iou: what is found is
    a known object from this overlap on. new_share: it is a new one if known objects cover less than this share of it. depth_tolerance: a
    known object's disparity differs by at most this share."""

    key_frame_interval: int
    max_objects: int
    lost_frames: int
    drop_frames: int
    match_iou: float = 0.5
    new_share: float = 0.3
    depth_tolerance: float = 0.3


@dataclass(frozen=True)
class FollowedObject:
    """label: in FollowedFrame.labels, None when no pixel shows it. score: 0..1, that it is seen times the expected IoU of its mask.
    state: VISIBLE, OCCLUDED or LOST; unseen_frames: for how long."""

    key: str
    label: int | None
    score: float
    state: ObjectState
    unseen_frames: int


@dataclass(frozen=True, eq=False)
class FollowedFrame:
    """labels: (H, W) uint16, 0 background, 1..N the visible objects; where two meet, the surer one is."""

    labels: np.ndarray
    objects: tuple[FollowedObject, ...]


@dataclass
class _Known:
    """An object between frames. mask: where it was seen last, on the coarse grid; disparity_px: there, on the last key frame seen."""

    prompted: bool
    mask: Tensor | None = None
    disparity_px: float = float("nan")
    unseen_frames: int = 0


class ObjectStream:
    """One stream of one image size; `reset` before another. Found objects are called 'track:1', 'track:2', ..., each name once."""

    def __init__(self, tracker: StreamTracker, rules: Rules) -> None:
        self._tracker = tracker
        self._rules = rules
        self.reset()

    def reset(self) -> None:
        """Forget every object; numbers begin at 1 again."""
        self._tracker.reset()
        self._known: dict[str, _Known] = {}
        self._numbers = itertools.count(1)
        self._frames = 0

    def remove(self, keys: Collection[str]) -> None:
        """Forget these objects; unknown keys are no error."""
        self._tracker.remove(keys)
        for key in keys:
            self._known.pop(key, None)

    def __call__(
        self,
        rgb8: np.ndarray,
        prompts: Mapping[str, ObjectPrompt] | None = None,
        detect: Detector | None = None,
        disparity_px: np.ndarray | None = None,
    ) -> FollowedFrame:
        """The next frame. rgb8: (H, W, 3) uint8. prompts: of this frame, under the objects' keys.

        detect: called on key frames, gives (N, H, W) bool masks or (N, h, w) logits of the whole image, the best first. disparity_px:
        (H, W) float32, larger is nearer, NaN unknown; helps to tell objects apart.
        """
        shape = (rgb8.shape[0], rgb8.shape[1])
        is_key = detect is not None and self._frames % self._rules.key_frame_interval == 0
        for key in prompts or {}:
            self._known[key] = _Known(prompted=True)
        if not self._known and not is_key:
            self._frames += 1
            return FollowedFrame(np.zeros(shape, np.uint16), ())
        features = self._tracker.encode(rgb8)
        found = self._tracker.step(features, prompts)
        self._look(found, shape)
        if detect is not None and is_key:
            found = self._redetect(found, detect(features), shape, disparity_px)
        self._frames += 1  # not before: who tries again after an error looks again, too
        labels, pixels = paint(found, shape)
        frame = FollowedFrame(labels, tuple(self._report(found, pixels)))
        gone = [k for k, known in self._known.items() if known.unseen_frames > self._rules.drop_frames and not known.prompted]
        self.remove(gone)
        return frame

    def _look(self, found: Predictions, shape: tuple[int, int]) -> None:
        """Note who is seen in this frame, and where."""
        masks = coarse_masks(found.logits[:, 0], grid_of(shape))
        seen = _seen(found)
        for row, key in enumerate(found.keys):
            known = self._known[key]
            known.unseen_frames = 0 if seen[row] else known.unseen_frames + 1
            if seen[row]:
                known.mask = masks[row].clone()

    def _redetect(self, found: Predictions, masks: Tensor, shape: tuple[int, int], disparity_px: np.ndarray | None) -> Predictions:
        """Take what was found on a key frame: unseen objects that it shows again are prompted with it, and the rest of it is new."""
        depth = coarse_disparity(disparity_px, grid_of(shape))
        new = looks(coarse_masks(masks, grid_of(shape)), depth)
        keys = [key for key, known in self._known.items() if known.mask is not None]
        pairs = match(self._known_looks(keys, depth), new, self._rules.match_iou, self._rules.depth_tolerance)
        prompts: dict[str, ObjectPrompt] = {}
        size = self._tracker.image_size
        for i, j in pairs:
            if self._known[keys[i]].unseen_frames:
                prompts[keys[i]] = ObjectPrompt.at(shape, size, mask=masks[j])
                self._known[keys[i]].disparity_px = float(new.disparity_px[j])
        for j in self._unknown(new, {j for _, j in pairs}):
            key = f"track:{next(self._numbers)}"
            prompts[key] = ObjectPrompt.at(shape, size, mask=masks[j])
            self._known[key] = _Known(prompted=False, disparity_px=float(new.disparity_px[j]))
        told = self._tracker.prompt(prompts)
        self._look(told, shape)
        followed = found.without(prompts)
        return Predictions.joined([part for part in (followed, told) if part.keys], self._tracker.keys)

    def _known_looks(self, keys: list[str], depth: Tensor | None) -> Looks:
        """The known objects: where they are, or were seen last, with the disparity that they have, or had."""
        known = [self._known[key] for key in keys]
        if not known:
            return Looks(torch.zeros(0, 1, 1, dtype=torch.bool), np.zeros(0))
        masks = torch.stack([k.mask for k in known if k.mask is not None])
        now = looks(masks, depth).disparity_px
        for k, value in zip(known, now):
            if not k.unseen_frames and not np.isnan(value):
                k.disparity_px = float(value)
        return Looks(masks, np.array([k.disparity_px for k in known]))

    def _unknown(self, new: Looks, matched: set[int]) -> list[int]:
        """The found masks that are new objects, as many as there is room for; of those that overlap, the first."""
        room = self._rules.max_objects - sum(not known.prompted for known in self._known.values())
        seen = [k.mask for k in self._known.values() if k.mask is not None and not k.unseen_frames]
        seen += [new.masks[j] for j in matched]
        chosen: list[int] = []
        for j in range(len(new)):
            if len(chosen) >= room:
                break
            if j not in matched and new.masks[j].any() and covered(new.masks[j], seen) < self._rules.new_share:
                chosen.append(j)
                seen.append(new.masks[j])
        return chosen

    def _report(self, found: Predictions, pixels: list[int]):
        scores = (torch.sigmoid(found.presence) * found.quality).tolist()
        labels = itertools.count(1)
        for row, key in enumerate(found.keys):
            unseen = self._known[key].unseen_frames
            state = ObjectState.VISIBLE if not unseen else ObjectState.OCCLUDED if unseen <= self._rules.lost_frames else ObjectState.LOST
            yield FollowedObject(key, next(labels) if pixels[row] else None, scores[row], state, unseen)


def _seen(found: Predictions) -> list[bool]:
    """Whether the model says that an object is there, and shows a part of it."""
    return ((found.presence > 0) & (found.logits.flatten(1) > 0).any(dim=1)).tolist()


def paint(found: Predictions, shape: tuple[int, int], objects_per_pass: int = 16) -> tuple[np.ndarray, list[int]]:
    """(H, W) uint16 labels of the objects that have pixels, numbered 1..N in their order, and the pixels of every object.

    A pixel is the object's with the highest logit, if that is above 0.
    """
    best = torch.zeros(shape, device=found.logits.device)
    owner = torch.zeros(shape, dtype=torch.int64, device=found.logits.device)
    for first in range(0, len(found.keys), objects_per_pass):
        logits = F.interpolate(found.logits[first : first + objects_per_pass], shape, mode="bilinear", align_corners=False)[:, 0]
        highest, index = logits.max(dim=0)
        owner = torch.where(highest > best, index + first + 1, owner)
        best = torch.maximum(best, highest)
    pixels = torch.bincount(owner.flatten(), minlength=len(found.keys) + 1)
    shown = pixels > 0
    shown[0] = False
    number = torch.where(shown, shown.cumsum(0), 0)
    return number[owner].to(torch.int32).cpu().numpy().astype(np.uint16), pixels[1:].tolist()
