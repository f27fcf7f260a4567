"""One object from what its prompts say together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from semantic_stereo_ros.segmentation.automask.enlarge import paint
from semantic_stereo_ros.segmentation.automask.promptable import PromptableModel

MASK_LOGIT = 10.0


@torch.inference_mode()
def decode_object(model: PromptableModel, embedding: Any, prompts: Iterable[Prompt], shape_hw: tuple[int, int]) -> tuple[Tensor, float]:
    """(H, W) bool on the device and its predicted IoU. A single point is ambiguous: of its three masks the surest is taken.

    Boxes and masks add up to one that holds them all; 3D boxes come as 2D ones (PromptSet.in_image).
    """
    prompts = tuple(prompts)
    points = [p for p in prompts if isinstance(p, PointPrompt)]
    boxes = np.array([p.box_xyxy for p in prompts if isinstance(p, BoxPrompt)])
    masks = [p.mask for p in prompts if isinstance(p, MaskPrompt)]
    device = model.device
    given: dict[str, Tensor] = {}
    if points:
        given["points_xy"] = torch.tensor([[p.xy_px for p in points]], dtype=torch.float32, device=device)
        given["labels"] = torch.tensor([[int(p.positive) for p in points]], dtype=torch.int32, device=device)
    if len(boxes):
        around = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        given["boxes_xyxy"] = torch.tensor(around[None], dtype=torch.float32, device=device)
    ambiguous = len(points) == 1 and len(prompts) == 1
    logits, scores = model.decode(embedding, **given, multimask=ambiguous) if given else (None, None)
    if masks:
        whole = torch.from_numpy(np.logical_or.reduce(masks)).to(device)
        if logits is None:  # the mask is the answer: the model has nothing to add
            return whole, 1.0
        asked = F.interpolate(whole[None, None].float(), logits.shape[-2:], mode="bilinear", antialias=True)
        logits, scores = model.decode(embedding, **given, mask_logits=(2 * asked - 1) * MASK_LOGIT, multimask=False)
    assert logits is not None and scores is not None
    best = int(scores[0].argmax())
    mask = torch.zeros(1, *shape_hw, dtype=torch.bool, device=device)
    paint(logits[0, best : best + 1], mask)
    return mask[0], float(scores[0, best])
