"""SAM 2 on single images: encode once, then decode masks for any number of points, boxes and masks. No torchvision."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.models.sam2.decoder import decode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Embedding:
    """Of one image: shape_hw in px; image (1, C, h, w) and two finer feature maps, finest first."""

    shape_hw: tuple[int, int]
    image: Tensor
    high_res: list[Tensor]


class Sam2Image:
    """A SAM2Base as a promptable model (segmentation/automask). dtype: of the arithmetic; masks and scores come in float32."""

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        self.model = model
        self.dtype = dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU does the work."""
        return self.device.type == "cpu"

    def _arithmetic(self):
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> Embedding:
        """image: (H, W, 3) uint8 RGB."""
        with self._arithmetic():
            features = self.model.forward_image(prepare(image, self.model.image_size, self.device))["backbone_fpn"]
        return embedding_of(self.model, list(features), (image.shape[0], image.shape[1]))

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points_xy: Tensor | None = None,
        labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        mask_logits: Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (B, M, h, w) over the whole image and predicted IoUs (B, M) for B objects; M = 3 with multimask, else 1.

        points_xy: (B, P, 2) px, 0..W and 0..H from corner to corner of the image; labels (B, P): 1 object, 0 not, -1 padding.
        boxes_xyxy: (B, 4) px. mask_logits: (B, 1, h, w).
        """
        sparse, dense = self._embedded(embedding, points_xy, labels, boxes_xyxy, mask_logits)
        decoder = self.model.sam_mask_decoder
        place = self.model.sam_prompt_encoder.get_dense_pe()
        with self._arithmetic():
            if mask_logits is None:
                logits, scores = decode(decoder, embedding.image, place, embedding.high_res, sparse, dense[:1])
            else:
                logits, scores, _, _ = decoder.predict_masks(embedding.image, place, sparse, dense, True, embedding.high_res)
        logits, scores = logits.float(), scores.float()
        if multimask:
            return logits[:, 1:], scores[:, 1:]
        if decoder.dynamic_multimask_via_stability:
            return decoder._dynamic_multimask_via_stability(logits, scores)
        return logits[:, :1], scores[:, :1]

    def _embedded(self, embedding: Embedding, points_xy, labels, boxes_xyxy, mask_logits) -> tuple[Tensor, Tensor]:
        """The prompt encoder's sparse (B, T, C) and dense (B, C, h, w) embeddings."""
        points = in_model_pixels(embedding.shape_hw, self.model.image_size, points_xy, labels, boxes_xyxy)
        return self.model.sam_prompt_encoder(points=points, boxes=None, masks=mask_logits)


def embedding_of(model: Any, features: list[Tensor], shape_hw: tuple[int, int]) -> Embedding:
    """features: (1, C, h, w) maps of the image encoder, fine to coarse, as `forward_image` gives them; shape_hw: of the image."""
    image = features[-1]
    if model.directly_add_no_mem_embed:
        image = image + model.no_mem_embed.view(1, -1, 1, 1)
    return Embedding(shape_hw, image, features[:-1])


def in_model_pixels(
    shape_hw: tuple[int, int], image_size: int, points_xy: Tensor | None, labels: Tensor | None, boxes_xyxy: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Points and boxes of B objects as points (B, P, 2) in px of the model's square image and labels (B, P) int32; None for neither.

    A box comes first, as two points with labels of their own.
    """
    parts = []
    if boxes_xyxy is not None:
        corners = torch.tensor([[2, 3]], dtype=torch.int32, device=boxes_xyxy.device).expand(len(boxes_xyxy), 2)
        parts.append((boxes_xyxy.view(-1, 2, 2), corners))
    if points_xy is not None and labels is not None:
        parts.append((points_xy, labels.int()))
    if not parts:
        return None
    xy, kinds = (torch.cat(tensors, dim=1) for tensors in zip(*parts))
    return xy * torch.tensor([image_size / shape_hw[1], image_size / shape_hw[0]], device=xy.device), kinds


def prepare(image: np.ndarray, size: int, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, size, size) float32, resized with antialiasing and normalised as SAM 2 was trained."""
    x = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float().div_(255)
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return x.sub_(mean).div_(std)
