"""Half precision with float32 where rounding costs most: which parts keep which, and where tensors change from one to the other.

In float32 stay: the features (the residual streams and norms of the monocular prior, the CNN, the fusion; the prior's wide products are
lowered), the disparity transformer, and the disparity's way into the updates. All else computes in `dtype`; softmax, correlation,
look-up positions, the sum of the updates and the up-sampling's weights are float32 in any case. docs/hardware.md has what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.backbones.dpt import DepthHead
from semantic_stereo_ros.models.foundation_stereo.backbones.vit import Attention, Mlp
from semantic_stereo_ros.models.foundation_stereo.blocks import Gate
from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm


def lower(model: InferenceForm, dtype: torch.dtype) -> InferenceForm:
    """Weights and arithmetic in `dtype` but for the islands; changes `model` and returns it. float32 changes nothing. After `prepare`."""
    if dtype == torch.float32:
        return model
    update, lowered = model.update_block, list(_wide_products(model))
    islands = (model.feature, model.cost_agg.atts, update.encoder.convd1, update.encoder.convd2)
    kept = {id(p) for island in islands for p in island.parameters()} - {id(p) for m in lowered for p in m.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.data = parameter.data.to(dtype)
    # What may be given a tensor of the other precision.
    gates = (module for module in model.modules() if isinstance(module, Gate))
    for module in (*lowered, *gates, model.proj_cmb, *model.stem_2, model.cnet):
        module.register_forward_pre_hook(partial(_to_dtype, dtype))
    return model


def _wide_products(model: InferenceForm) -> Iterator[nn.Module]:
    """Parts of the monocular prior that do nearly all its arithmetic: the transformer's linear layers, the head's convolutions."""
    for module in model.feature.dino.modules():
        if isinstance(module, (Attention, Mlp)):
            yield module
        elif isinstance(module, DepthHead):
            yield from (m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)))


def _to_dtype(dtype: torch.dtype, module: nn.Module, inputs: tuple) -> tuple:
    """A hook of a module: its floating-point inputs in `dtype`."""
    return tuple(x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)
