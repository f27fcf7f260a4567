"""Turns a loaded model into the form that inference runs: the same function, fewer operations. The result is not trained or saved again."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.cpu import dense
from semantic_stereo_ros.models.cpu.winograd import Scratch
from semantic_stereo_ros.models.foundation_stereo.aggregation import CostAggregation
from semantic_stereo_ros.models.foundation_stereo.backbones.vit import Attention, Mlp
from semantic_stereo_ros.models.foundation_stereo.blocks import AxialPlanar, ConvNorm, Residual2d, Residual3d
from semantic_stereo_ros.models.foundation_stereo.context import ContextNetwork
from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm
from semantic_stereo_ros.models.foundation_stereo.fast.pixelwise_parts import FastAxialPlanar, FastMlp, FastPointwiseBlock
from semantic_stereo_ros.models.foundation_stereo.fast.stepped_update import SteppedMotionEncoder, SteppedUnit, SteppedUpdate
from semantic_stereo_ros.models.foundation_stereo.fast.streamed_parts import StreamedAggregation, StreamedContext
from semantic_stereo_ros.models.foundation_stereo.fast.winograd_update import WinogradMotionEncoder, WinogradUnit
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.update import MotionEncoder, PointwiseBlock, SelectiveUnit, UpdateBlock

FAST_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    AxialPlanar: FastAxialPlanar,
    ContextNetwork: StreamedContext,
    CostAggregation: StreamedAggregation,
    FoundationStereo: InferenceForm,
    Mlp: FastMlp,
    MotionEncoder: SteppedMotionEncoder,
    PointwiseBlock: FastPointwiseBlock,
    SelectiveUnit: SteppedUnit,
    UpdateBlock: SteppedUpdate,
}
"""Each is a subclass that computes the same, and keeps nothing more than the plain part does."""

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
SMALL = 1 << 16
"""Elements of a weight that is copied on a CPU, too."""


def prepare(model: FoundationStereo, fast_convolutions: bool = False) -> InferenceForm:
    """Eval mode, no gradients, batch norms folded into their convolutions, fast forms of its parts; changes `model` and returns it.

    fast_convolutions: the recurrent update's by Winograd's method, for a CPU in float32. Weights then stay as they lie in the mapped file,
    without a copy beside it, but for small ones and those of three dimensions.
    """
    model.eval().requires_grad_(False)
    fold_batch_norms(model)
    form = use_fast_forms(model)
    for parameter in model.parameters():
        # Channels last is what both oneDNN and cuDNN are fastest with. oneDNN reorders weights by itself, and the small
        # ones are those of the first layers: what layout they give to an image, the others keep.
        if parameter.ndim == 5 or (parameter.ndim == 4 and (not fast_convolutions or parameter.numel() <= SMALL)):
            parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[parameter.ndim])
    if fast_convolutions:
        hardware.map_large_tensors()
        use_winograd(form)
    return form


def use_fast_forms(model: FoundationStereo) -> InferenceForm:
    """Each part, the model itself included, becomes its fast form."""
    for module in list(model.modules()):
        if isinstance(module, Attention):
            become(module.qkv, dense.Linear)
            become(module.proj, dense.Linear)
        become(module, FAST_FORMS.get(type(module), type(module)))
    return cast(InferenceForm, model)


def use_winograd(form: InferenceForm) -> None:
    """Where the recurrent update is wide; its parts work in one scratch memory."""
    update = form.update_block
    form.scratch = Scratch()
    for part, fast in ((update.gru04, WinogradUnit), (update.gru08, WinogradUnit), (update.encoder, WinogradMotionEncoder)):
        become(part, fast)
        setattr(part, "scratch", form.scratch)  # noqa: B010


def become(module: nn.Module, form: type[nn.Module]) -> None:
    """Another class, with the tensors and hooks that it has: nothing is copied, no name changes.

    torch's own parametrize and fully_shard do the same.
    """
    module.__class__ = form


def fold_batch_norms(model: nn.Module) -> None:
    """Each batch norm that follows a convolution goes into its weights and becomes an identity. In eval mode only."""
    for module in list(model.modules()):
        if isinstance(module, ConvNorm):
            module.bn = _folded(module.conv, module.bn)
        elif isinstance(module, Residual3d):
            module.bn1, module.bn2 = _folded(module.conv1, module.bn1), _folded(module.conv2, module.bn2)
        elif isinstance(module, Residual2d):
            module.norm1, module.norm2 = _folded(module.conv1, module.norm1), _folded(module.conv2, module.norm2)
            if module.downsample is not None:
                module.downsample[1] = module.norm3 = _folded(module.downsample[0], module.downsample[1])
        elif isinstance(module, AxialPlanar):
            for pair in (module.conv1, module.conv2):
                pair[1] = _folded(pair[0], pair[1])
        elif isinstance(module, ContextNetwork):
            module.norm1 = _folded(module.conv1, module.norm1)
        elif isinstance(module, FoundationStereo):
            pair = module.cost_agg.conv_patch
            pair[1] = _folded(pair[0], pair[1])


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Identity:
    if isinstance(norm, nn.Identity):
        return norm
    assert isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)) and norm.running_mean is not None and norm.running_var is not None
    assert isinstance(conv, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d))
    transposed = isinstance(conv, nn.ConvTranspose3d)
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias, transpose=transposed
    )
    conv.weight, conv.bias = nn.Parameter(weight.detach(), False), nn.Parameter(bias.detach(), False)
    return nn.Identity()
