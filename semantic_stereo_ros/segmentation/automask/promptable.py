"""What a promptable model is, to the mask generator and to the backends: one encoder, one decoder."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class PromptableModel(Protocol):
    """SAM 2, MobileSAM, EfficientTAM, an ONNX pair: encode an image once, decode masks for many prompts."""

    @property
    def device(self) -> torch.device:
        """Where points go in and masks come out."""
        ...

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU does the work, wherever points go in."""
        ...

    def encode(self, image: np.ndarray) -> Any:
        """image: (H, W, 3) uint8 RGB -> what `decode` wants of it."""
        ...

    def decode(
        self,
        embedding: Any,
        points_xy: Tensor | None = None,
        labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        mask_logits: Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (B, M, h, w) over the whole image, at a resolution of the model's own, and predicted IoUs (B, M), both float32.

        points_xy: (B, P, 2) px from corner to corner (0..W, 0..H); labels (B, P): 1 object, 0 not, -1 padding. boxes_xyxy: (B, 4) px.
        mask_logits: (B, 1, h, w). M is 3 with multimask (from a part to the whole), else 1.
        """
        ...
