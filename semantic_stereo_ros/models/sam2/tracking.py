"""SAM 2's video tracking for a stream: frames come one at a time, objects come and go, and memory does not grow.

What the package's SAM2VideoPredictor computes for a folder of images and one object after the other, here for the frame at hand and all
objects at once: the image is encoded once, objects with memories of one structure are one batch (see sam2_memory).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.checks import ConfigError, check_array
from semantic_stereo_ros.models.sam2.memory import Memory, MemoryBank, memory_tokens, same_structure

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLEAR_LOGIT = 1000.0  # its sigmoid is exactly 1, and 0 with the sign changed
LARGEST_CLICKED_LOGIT = 32.0


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """What the image encoder says of one frame. levels: fine to coarse, (h*w, 1, C) each; position: (h*w, 1, C) of the coarsest;
    sizes: (h, w) of the levels."""

    levels: list[Tensor]
    position: Tensor
    sizes: list[tuple[int, int]]

    @staticmethod
    def of(model: SAM2Base, backbone_out: dict[str, Any]) -> ImageFeatures:
        """From what model.forward_image gave for one image."""
        _, levels, positions, sizes = model._prepare_backbone_features(backbone_out)
        return ImageFeatures(levels, positions[-1], sizes)

    @property
    def maps(self) -> list[Tensor]:
        """The levels as (1, C, h, w)."""
        return [_as_map(level, size) for level, size in zip(self.levels, self.sizes)]

    def repeated(self, count: int) -> list[Tensor]:
        """The levels for so many objects, without a copy."""
        return [level.expand(-1, count, -1) for level in self.levels]


@dataclass(frozen=True, eq=False)
class ObjectPrompt:
    """What one object is in one frame: points, a mask, or both (the points then correct the mask).

    points_xy: (n, 2) float32 in the model's pixels, 0..image_size. labels: (n,) int32; 1 positive, 0 negative, 2 and 3 the corners
    of a box, which come first. mask: (image_size, image_size) bool.
    """

    points_xy: np.ndarray | None = None
    labels: np.ndarray | None = None
    mask: Tensor | None = None

    @staticmethod
    def at(
        shape: tuple[int, int],
        image_size: int,
        points_xy: Iterable[tuple[float, float]] = (),
        positive: Iterable[bool] = (),
        box_xyxy: tuple[float, float, float, float] | None = None,
        mask: Tensor | np.ndarray | None = None,
    ) -> ObjectPrompt:
        """From pixels of an image of `shape` (height, width): points with their signs, a box, a (H, W) bool mask or (h, w) logits."""
        corners = [] if box_xyxy is None else [box_xyxy[:2], box_xyxy[2:]]
        xy = np.array([*corners, *points_xy], np.float32).reshape(-1, 2)
        labels = np.array([*((2, 3) if corners else ()), *map(int, positive)], np.int32)
        check_array("labels of the points", labels, shape=(len(xy),))
        scaled = xy / np.array(shape[::-1], np.float32) * np.float32(image_size)
        points = (scaled, labels) if len(xy) else (None, None)
        return ObjectPrompt(*points, mask=None if mask is None else _resized_mask(torch.as_tensor(mask), image_size))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one call says of the objects `keys`. logits: (N, 1, image_size / 4, image_size / 4) float32, of the mask.
    presence: (N,) float32, logit of being seen at all. quality: (N,) float32, expected IoU of the mask, 0..1."""

    keys: tuple[str, ...]
    logits: Tensor
    presence: Tensor
    quality: Tensor

    def without(self, keys: Collection[str]) -> Predictions:
        """Of all other objects."""
        rows = [row for row, key in enumerate(self.keys) if key not in keys]
        return Predictions(tuple(self.keys[row] for row in rows), self.logits[rows], self.presence[rows], self.quality[rows])

    @staticmethod
    def joined(parts: list[Predictions], order: Iterable[str]) -> Predictions:
        """All in one, in this order of keys."""
        place = {key: i for i, key in enumerate(key for part in parts for key in part.keys)}
        keys = tuple(order)
        if not parts:
            return Predictions((), torch.zeros(0, 1, 1, 1), torch.zeros(0), torch.zeros(0))
        rows = torch.tensor([place[key] for key in keys], device=parts[0].logits.device)
        return Predictions(keys, *(torch.cat([getattr(p, name) for p in parts])[rows] for name in ("logits", "presence", "quality")))


class StreamTracker:
    """Tracks objects, each under the caller's key, through one stream. Not safe for threads; the model can be shared.

    memory_frames: of the last frames, so many are remembered; None = as many as the model learned, 6. prompt_frames: so many frames with
    prompts are remembered of each object, the newest. objects_per_pass: larger batches are cut, which bounds the memory at work. dtype:
    of the arithmetic; what is predicted comes in float32.
    Raises ConfigError for numbers that the model cannot use.
    """

    def __init__(
        self,
        model: SAM2Base,
        memory_frames: int | None = None,
        prompt_frames: int = 4,
        objects_per_pass: int = 16,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        most = model.num_maskmem - 1
        if memory_frames is not None and not 1 <= memory_frames <= most:
            raise ConfigError(f"this SAM 2 remembers 1..{most} recent frames, got memory_frames {memory_frames}")
        if prompt_frames < 1 or objects_per_pass < 1:
            raise ConfigError(f"prompt_frames and objects_per_pass must be 1 or more, got {prompt_frames} and {objects_per_pass}")
        self._model, self._dtype = model, dtype
        self._limits = prompt_frames, most if memory_frames is None else memory_frames, model.max_obj_ptrs_in_encoder - 1
        self._objects_per_pass = objects_per_pass
        self._banks: dict[str, MemoryBank] = {}
        self._frame = -1
        self._features: ImageFeatures | None = None
        self._spatial_position: Tensor | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The objects that are tracked, in the order they came."""
        return tuple(self._banks)

    @property
    def image_size(self) -> int:
        """Side of the model's square image, px."""
        return self._model.image_size

    @property
    def memory_bytes(self) -> int:
        """What is remembered of all objects, on the model's device."""
        return sum(bank.size_bytes for bank in self._banks.values())

    @torch.inference_mode()
    def encode(self, rgb8: np.ndarray) -> ImageFeatures:
        """Features of an (H, W, 3) uint8 RGB image, resized to the model's square as the package does for videos."""
        check_array("the image", rgb8, shape=(None, None, 3), dtypes=(np.uint8,))
        with self._arithmetic():
            return ImageFeatures.of(self._model, self._model.forward_image(normalised(rgb8, self._model.image_size, self._model.device)))

    @torch.inference_mode()
    def step(self, features: ImageFeatures, prompts: Mapping[str, ObjectPrompt] | None = None) -> Predictions:
        """The next frame: every object is followed into it, but the prompted ones are what their prompts say; new keys are new objects."""
        self._frame += 1
        self._features = features
        followed = {key: bank for key, bank in self._banks.items() if key not in (prompts or {})}
        with self._arithmetic():
            told = self._prompt(prompts or {})
            parts = [self._follow(keys) for group in same_structure(followed, self._frame) for keys in self._passes(group)]
        return Predictions.joined(told + parts, self._banks)

    @torch.inference_mode()
    def prompt(self, prompts: Mapping[str, ObjectPrompt]) -> Predictions:
        """Prompts that were found in the frame of the last step, after it. What it said of these objects is replaced."""
        if self._features is None and prompts:
            raise ConfigError("prompts belong to a frame: call step with its features first")
        with self._arithmetic():
            return Predictions.joined(self._prompt(prompts), prompts)

    def remove(self, keys: Iterable[str]) -> None:
        """Forget these objects; unknown keys are no error."""
        for key in keys:
            self._banks.pop(key, None)

    def reset(self) -> None:
        """Forget everything."""
        self._banks.clear()
        self._frame, self._features = -1, None

    def _arithmetic(self):
        return torch.autocast(self._model.device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _passes(self, keys: list[str]) -> list[list[str]]:
        size = self._objects_per_pass
        return [keys[i : i + size] for i in range(0, len(keys), size)]

    def _prompt(self, prompts: Mapping[str, ObjectPrompt]) -> list[Predictions]:
        """Prompts of one form (so many points, with or without a mask) are one batch."""
        forms: dict[tuple[int, bool], list[str]] = {}
        for key, prompt in prompts.items():
            count = 0 if prompt.labels is None else len(prompt.labels)
            if not count and prompt.mask is None:
                raise ConfigError(f"the prompt of object {key} has neither points nor a mask")
            forms.setdefault((count, prompt.mask is not None), []).append(key)
        return [self._interpret(keys, [prompts[k] for k in keys]) for form in forms.values() for keys in self._passes(form)]

    def _interpret(self, keys: list[str], prompts: list[ObjectPrompt]) -> Predictions:
        """Objects as their prompts say, without memories: a mask is taken as it is, points are decoded."""
        model, device = self._model, self._model.device
        mask = points = shown = None
        if prompts[0].mask is not None:
            mask = torch.stack([p.mask for p in prompts if p.mask is not None])[:, None].to(device, torch.float32)
        if prompts[0].labels is not None:
            points = {
                "point_coords": torch.as_tensor(np.stack([p.points_xy for p in prompts if p.points_xy is not None]), device=device),
                "point_labels": torch.as_tensor(np.stack([p.labels for p in prompts if p.labels is not None]), device=device),
            }
        if mask is not None and points is not None:
            shown = self._heads(len(keys), None, mask)[3].clamp(-LARGEST_CLICKED_LOGIT, LARGEST_CLICKED_LOGIT)
            mask = None
        outputs = self._heads(len(keys), points, mask, shown)
        # The package encodes what a prompted frame shows: its low-resolution mask, with a hard edge.
        size = (model.image_size, model.image_size)
        edges = torch.where(F.interpolate(outputs[3], size, mode="bilinear", align_corners=False) > 0, CLEAR_LOGIT, -CLEAR_LOGIT)
        for key in keys:
            self._banks.setdefault(key, MemoryBank(*self._limits))
        return self._remembered(keys, outputs, edges, prompted=True)

    def _heads(self, count: int, points: dict[str, Tensor] | None, mask: Tensor | None, shown: Tensor | None = None) -> tuple:
        """The model's own step for frames without memories. shown: (N, 1, h, w) logits of a mask that the points correct."""
        assert self._features is not None
        _, outputs, _, _ = self._model._track_step(
            frame_idx=self._frame,
            is_init_cond_frame=True,
            current_vision_feats=self._features.repeated(count),
            current_vision_pos_embeds=[self._features.position.expand(-1, count, -1)],
            feat_sizes=self._features.sizes,
            point_inputs=points,
            mask_inputs=mask,
            output_dict={},
            num_frames=None,
            track_in_reverse=False,
            prev_sam_mask_logits=shown,
        )
        return outputs

    def _follow(self, keys: list[str]) -> Predictions:
        """Objects whose memories have one structure, found in this frame by what is remembered of them."""
        assert self._features is not None and self._spatial_position is not None
        model, count = self._model, len(keys)
        levels, sizes = self._features.repeated(count), self._features.sizes
        memory = memory_tokens(model, [self._banks[key] for key in keys], self._frame, self._spatial_position)
        attended = model.memory_attention(
            curr=levels[-1:],
            curr_pos=[self._features.position.expand(-1, count, -1)],
            memory=memory.tokens,
            memory_pos=memory.positions,
            num_obj_ptr_tokens=memory.pointer_tokens,
        )
        outputs = model._forward_sam_heads(
            backbone_features=_as_map(attended, sizes[-1]),
            high_res_features=[_as_map(level, size) for level, size in zip(levels[:-1], sizes[:-1])] or None,
            multimask_output=model._use_multimask(False, None),
        )
        return self._remembered(keys, outputs, outputs[4], prompted=False)

    def _remembered(self, keys: list[str], outputs: tuple, mask_logits: Tensor, prompted: bool) -> Predictions:
        """Encode the masks (N, 1, image_size, image_size) into the objects' banks."""
        assert self._features is not None
        _, _, ious, low_resolution, _, pointers, presence = outputs
        features, positions = self._model._encode_new_memory(
            self._features.repeated(len(keys)), self._features.sizes, mask_logits, presence, is_mask_from_pts=prompted
        )
        if self._spatial_position is None:
            self._spatial_position = positions[-1][0].flatten(1).T.clone()
        for key, feature, pointer in zip(keys, features.to(torch.bfloat16).flatten(2).transpose(1, 2), pointers):
            # A part of a batch would keep all of it alive.
            self._banks[key].add(self._frame, Memory(feature.clone(), pointer.clone()), prompted)
        quality = ious.max(dim=1).values.float().clamp(0, 1)
        return Predictions(tuple(keys), low_resolution.float(), presence[:, 0].float(), quality)


def normalised(rgb8: np.ndarray, image_size: int, device: torch.device) -> Tensor:
    """(1, 3, image_size, image_size) float32 from (H, W, 3) uint8 RGB: Pillow's bicubic filter, ImageNet's mean and deviation."""
    from PIL import Image

    resized = np.array(Image.fromarray(rgb8).resize((image_size, image_size)))
    image = torch.from_numpy(resized).to(device).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    return (image - mean) / std


def _resized_mask(mask: Tensor, image_size: int) -> Tensor:
    """(image_size, image_size) bool, of a (H, W) bool mask or (h, w) logits."""
    size = (image_size, image_size)
    if mask.dtype != torch.bool:
        return F.interpolate(mask[None, None], size, mode="bilinear", align_corners=False)[0, 0] > 0
    if mask.shape == size:
        return mask
    return F.interpolate(mask[None, None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0, 0] >= 0.5


def _as_map(level: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(h*w, B, C) -> (B, C, h, w)."""
    return level.permute(1, 2, 0).unflatten(2, size_hw)
