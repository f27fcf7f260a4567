"""One object from what its prompts say together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.prompts import Prompt, joint_prompt
from semantic_stereo_ros.segmentation.automask.enlarge import paint
from semantic_stereo_ros.segmentation.automask.promptable import PromptableModel

MASK_LOGIT = 10.0


@torch.inference_mode()
def decode_object(model: PromptableModel, embedding: Any, prompts: Iterable[Prompt], shape_hw: tuple[int, int]) -> tuple[Tensor, float]:
    """(H, W) bool on the device and its predicted IoU. A single point is ambiguous: of its three masks the surest is taken.

    prompts: of one object, put together by joint_prompt.
    """
    joint = joint_prompt(prompts)
    points, device = joint.points, model.device
    given: dict[str, Tensor] = {}
    if points:
        given["points_xy"] = torch.tensor([[p.xy_px for p in points]], dtype=torch.float32, device=device)
        given["labels"] = torch.tensor([[int(p.positive) for p in points]], dtype=torch.int32, device=device)
    if joint.box_xyxy is not None:
        given["boxes_xyxy"] = torch.tensor([joint.box_xyxy], dtype=torch.float32, device=device)
    ambiguous = len(points) == 1 and joint.box_xyxy is None and joint.mask is None
    logits, scores = model.decode(embedding, **given, multimask=ambiguous) if given else (None, None)
    if joint.mask is not None:
        whole = torch.from_numpy(joint.mask).to(device)
        if logits is None:  # the mask is the answer: the model has nothing to add
            return whole, 1.0
        asked = F.interpolate(whole[None, None].float(), logits.shape[-2:], mode="bilinear", antialias=True)
        logits, scores = model.decode(embedding, **given, mask_logits=(2 * asked - 1) * MASK_LOGIT, multimask=False)
    assert logits is not None and scores is not None
    best = int(scores[0].argmax())
    mask = torch.zeros(1, *shape_hw, dtype=torch.bool, device=device)
    paint(logits[0, best : best + 1], mask)
    return mask[0], float(scores[0, best])
