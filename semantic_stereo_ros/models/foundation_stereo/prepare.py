"""Rewrites a loaded model for inference: the same function, fewer operations. The result is not trained or saved again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from semantic_stereo_ros.models import winograd
from semantic_stereo_ros.models.foundation_stereo.blocks import AxialPlanar, ConvNorm, Residual2d, Residual3d
from semantic_stereo_ros.models.foundation_stereo.context import HIDDEN, ContextNetwork
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.update import SelectiveUnit

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def prepare(model: FoundationStereo, fast_convolutions: bool = False) -> FoundationStereo:
    """Eval mode, no gradients, batch norms folded into their convolutions; changes `model` and returns it.

    fast_convolutions: the recurrent update's by Winograd's method, for a CPU in float32; its weights then take 0.1 GB more.
    """
    model.eval().requires_grad_(False)
    fold_batch_norms(model)
    for parameter in model.parameters():
        if parameter.ndim >= 4:  # channels last is what both oneDNN and cuDNN are fastest with
            parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[parameter.ndim])
    if fast_convolutions:
        update = model.update_block
        for name in ("gru04", "gru08"):
            setattr(update, name, WinogradUnit(getattr(update, name)))
    return model


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


class WinogradUnit(nn.Module):
    """A SelectiveUnit whose 3x3 convolutions are winograd.convolve: for a CPU in float32. Its weights are buffers that are not saved."""

    constant: Tensor
    constant_bias: Tensor
    changing: Tensor
    no_bias: Tensor
    joined_x: Tensor
    joined_hidden: Tensor
    joined_bias: Tensor
    gates: Tensor
    gates_bias: Tensor
    new_hidden: Tensor
    new_x: Tensor
    new_bias: Tensor
    small_gates: Tensor
    small_gates_bias: Tensor
    small_new: Tensor
    small_new_bias: Tensor

    def __init__(self, unit: SelectiveUnit) -> None:
        super().__init__()
        first, second = unit.conv0[0], unit.conv1[0]
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
        large, small = unit.large_gru, unit.small_gru
        inputs = first.weight.shape[0]
        wide = {
            "changing": first.weight[:, HIDDEN:],
            "joined_x": second.weight[:, :inputs],
            "joined_hidden": second.weight[:, inputs:],
            "gates": torch.cat([large.convz.weight, large.convr.weight]),
            "new_hidden": large.convq.weight[:, :HIDDEN],
            "new_x": large.convq.weight[:, HIDDEN:],
        }
        plain = {
            "constant": first.weight[:, :HIDDEN].clone(),
            "constant_bias": bias_of(first),
            "no_bias": first.weight.new_zeros(inputs),
            "joined_bias": bias_of(second),
            "gates_bias": torch.cat([bias_of(large.convz), bias_of(large.convr)]),
            "new_bias": bias_of(large.convq),
            "small_gates": torch.cat([small.convz.weight, small.convr.weight]).flatten(1),
            "small_gates_bias": torch.cat([bias_of(small.convz), bias_of(small.convr)]),
            "small_new": small.convq.weight.flatten(1).clone(),
            "small_new_bias": bias_of(small.convq),
        }
        for name, weight in wide.items():
            self.register_buffer(name, winograd.transform_weight(weight), False)
        for name, value in plain.items():
            self.register_buffer(name, value, False)

    def base(self, constant: Tensor) -> Tensor:
        """As SelectiveUnit.base, channels last: (B, h, w, C)."""
        return F.conv2d(constant, self.constant, self.constant_bias, padding=1).permute(0, 2, 3, 1).contiguous()

    def forward(self, attention: Tensor, hidden: Tensor, base: Tensor, *inputs: Tensor) -> Tensor:
        h = hidden.permute(0, 2, 3, 1).contiguous()
        changing = torch.cat([x.permute(0, 2, 3, 1) for x in inputs], 3)
        x = winograd.convolve([changing], [self.changing], self.no_bias).add_(base).relu_()
        del changing
        joined = winograd.convolve([x, h], [self.joined_x, self.joined_hidden], self.joined_bias).relu_()
        z, r = F.linear(joined, self.small_gates, self.small_gates_bias).sigmoid_().chunk(2, 3)
        new = F.linear(torch.cat([r * h, x], 3), self.small_new, self.small_new_bias).tanh_()
        small = torch.lerp(h, new, z)
        z, r = winograd.convolve([joined], [self.gates], self.gates_bias).sigmoid_().chunk(2, 3)
        del joined
        new = winograd.convolve([r * h, x], [self.new_hidden, self.new_x], self.new_bias).tanh_()
        large = torch.lerp(h, new, z)
        return torch.lerp(large, small, attention.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def bias_of(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.detach()
