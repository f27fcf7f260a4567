"""SAM 2 for single images in the form that is exported: an image encoder, and a decoder of any number of prompts on one image.

Weights and results are those of Sam2Image. What an inference engine has no operator for is a constant or a table here: the position
table's cubic resize, and prompt tokens that are written by index.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models.sam2.decoder import decode
from semantic_stereo_ros.models.sam2.image import embedding_of


class EncoderForm(nn.Module):
    """image (1, 3, S, S) float32, as sam2_image.prepare gives it -> embedding (1, 256, S/16, S/16), fine (1, 32, S/4, S/4) and middle
    (1, 64, S/8, S/8). Takes over `model`, which is not used again."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        trunk, side = model.image_encoder.trunk, model.image_size // 4
        with torch.no_grad():
            self.register_buffer("place", trunk._get_pos_embed((side, side)).contiguous())
        trunk._get_pos_embed = lambda _size: self.get_buffer("place")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        side = self.model.image_size
        embedding = embedding_of(self.model, list(self.model.forward_image(image)["backbone_fpn"]), (side, side))
        fine, middle = embedding.high_res
        return embedding.image, fine, middle


class DecoderForm(nn.Module):
    """Prompts of B objects on what EncoderForm gave -> mask logits (B, 4, S/4, S/4) and predicted IoUs (B, 4).

    The first mask is for prompts that are not ambiguous, the others go from a part to the whole. points: (B, P, 2) float32, px of the
    square image, corner to corner; labels: (B, P) int32, 1 object, 0 not, 2 and 3 a box's corners, -1 padding, of which each row has
    at least one, at its end. mask: (1, 1, S/4, S/4) float32 logits that all B start from, if use_mask (1,) float32 is 1 and not 0.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, prompts = model.sam_mask_decoder, model.sam_prompt_encoder
        self.mask_downscaling, self.side = prompts.mask_downscaling, float(model.image_size)
        kinds = [prompts.not_a_point_embed, *prompts.point_embeddings]
        with torch.no_grad():
            self.register_buffer("kinds", torch.cat([kind.weight for kind in kinds]))
            self.register_buffer("frequencies", 2 * math.pi * prompts.pe_layer.positional_encoding_gaussian_matrix)
            self.register_buffer("without_mask", prompts.no_mask_embed.weight.view(1, -1, 1, 1).clone())
            self.register_buffer("place", prompts.get_dense_pe())

    def forward(
        self, embedding: Tensor, fine: Tensor, middle: Tensor, points: Tensor, labels: Tensor, mask: Tensor, use_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        kinds, without_mask, place = (self.get_buffer(name) for name in ("kinds", "without_mask", "place"))
        angles = (2 * (points + 0.5) / self.side - 1) @ self.get_buffer("frequencies")
        position = torch.cat([angles.sin(), angles.cos()], dim=-1)
        # Padding has no position.
        tokens = position * (labels >= 0).unsqueeze(-1).to(position.dtype) + kinds[(labels + 1).long()]
        dense = use_mask * self.mask_downscaling(mask) + (1 - use_mask) * without_mask
        return decode(self.decoder, embedding, place, [fine, middle], tokens, dense)
