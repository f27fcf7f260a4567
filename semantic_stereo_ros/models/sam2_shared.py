"""One encoding of a frame for both: the tracker that follows objects into it, and the generator that looks for new ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.models.sam2_image import Embedding, Sam2Image
from semantic_stereo_ros.models.sam2_tracking import ImageFeatures


class EncodedFrame:
    """A promptable model (segmentation/automask) for one frame of which the features are there; crops of it are encoded as always."""

    def __init__(self, model: Sam2Image, features: ImageFeatures, shape_hw: tuple[int, int]) -> None:
        self._model = model
        *high_res, image = features.maps
        if model.model.directly_add_no_mem_embed:
            image = image + model.model.no_mem_embed.view(1, -1, 1, 1)
        self._embedding = Embedding(shape_hw, image, high_res)

    @property
    def device(self) -> torch.device:
        return self._model.device

    def encode(self, image: np.ndarray) -> Embedding:
        """image: (H, W, 3) uint8 RGB; the frame itself, or a smaller crop."""
        return self._embedding if image.shape[:2] == self._embedding.shape_hw else self._model.encode(image)

    def decode(self, embedding: Embedding, *prompts: Any, **more_prompts: Any) -> tuple[Tensor, Tensor]:
        """As Sam2Image.decode."""
        return self._model.decode(embedding, *prompts, **more_prompts)
