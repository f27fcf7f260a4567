"""The network in the form that is exported: images of one size, the whole volume at once, and only operators that inference engines have.

The weights and results are those of FoundationStereo. What the model does by strides, by writing into slices or by resizing with cubic
splines is done here by padding, reshaping, gathering with constant indices and products with constant matrices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo import volume
from semantic_stereo_ros.models.foundation_stereo.backbones.prior import MonocularPrior, bilinear_matrix, prior_size
from semantic_stereo_ros.models.foundation_stereo.blocks import gated
from semantic_stereo_ros.models.foundation_stereo.context import make_context
from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm
from semantic_stereo_ros.models.foundation_stereo.fast.stepped_update import SteppedMotionEncoder
from semantic_stereo_ros.models.foundation_stereo.lookup import CorrelationTable, GeometryTable, look_up
from semantic_stereo_ros.models.foundation_stereo.model import MEAN, STD
from semantic_stereo_ros.models.foundation_stereo.upsample import SCALE


class ExportForm(nn.Module):
    """left, right (1, 3, H, W) float32 0..255 RGB -> disparity (1, 1, H, W) float32 px. Takes over a prepared model."""

    mean: Tensor
    std: Tensor
    levels: Tensor

    def __init__(self, model: InferenceForm, size_hw: tuple[int, int], iterations: int) -> None:
        super().__init__()
        self.model, self.iterations = model, iterations
        model.feature.add_module("dino", PriorForm(model.feature.dino, size_hw))
        self.volume = VolumeForm(model, size_hw[1] // 4)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.register_buffer("levels", torch.arange(model.config.levels, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        model = self.model
        images = (torch.cat([left, right]) / 255 - self.mean) / self.std
        features, prior = model.feature(images)
        lefts, right_feature = [f[:1] for f in features], features[0][1:]
        image, prior = images[:1], prior[:1]
        stem = model.edges(image)
        context = make_context(model.cnet(image, prior), model.cam, model.sam)
        filtered = self.filtered(lefts, right_feature)
        probability = model.classifier(filtered).squeeze(1).float().softmax(1)
        disparity = (probability * self.levels).sum(1, keepdim=True)
        geometry, correlation = GeometryTable(filtered), WholeCorrelation(lefts[0], right_feature)
        context.inputs, encoder = model.update_block.bases(context.inputs), model.update_block.encoder
        assert isinstance(encoder, SteppedMotionEncoder)
        for _ in range(self.iterations):
            cost = encoder.reduce(look_up(geometry, correlation, disparity))
            disparity = disparity + model.update_block(context, encoder(cost, disparity))
        logits = model.spx_gru(model.spx_2_gru(model.update_block.mask_feature(context.hidden[0]), stem))
        return upsample(disparity, logits)

    def filtered(self, lefts: list[Tensor], right: Tensor) -> Tensor:
        """Features of the left image at four scales and of the right at 1/4 -> the filtered volume (1, 28, D, h, w)."""
        model = self.model
        x = self.volume(lefts[0], right)
        for block in list(model.corr_stem)[1:]:
            x = block(x)
        return model.cost_agg(gated(x, model.corr_feature_att(lefts[0])), lefts)


class PriorForm(nn.Module):
    """MonocularPrior for images of one size; its resizes are products with constant matrices."""

    def __init__(self, prior: MonocularPrior, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.depth_anything = prior.depth_anything
        for name, size, inside in zip(("rows", "columns"), size_hw, prior_size(*size_hw)):
            # The head's map is 8 / 14 of its input's size.
            smaller = bilinear_matrix(size // 4, inside) @ bilinear_matrix(inside, inside // 14 * 8)
            self.register_buffer(f"{name}_in", bicubic_matrix(inside, size))
            self.register_buffer(f"{name}_out", smaller.float())

    def forward(self, image: Tensor) -> Tensor:
        x = (self.get_buffer("rows_in") @ image) @ self.get_buffer("columns_in").T
        x = self.depth_anything.depth_head(self.depth_anything.pretrained(x)).float()
        return (self.get_buffer("rows_out") @ x) @ self.get_buffer("columns_out").T


def bicubic_matrix(outside: int, inside: int) -> Tensor:
    """(outside, inside) float32: torch's cubic interpolation of corners that are not aligned, without antialiasing."""
    return F.interpolate(torch.eye(inside)[None, None], (outside, inside), mode="bicubic", align_corners=False)[0, 0]


class VolumeForm(nn.Module):
    """corr_stem's first convolution of the volume [group correlation 8 | left 12 | right 12]: (1, 28, D, h, w) from two (1, C, h, w)."""

    shifts: Tensor

    def __init__(self, model: InferenceForm, width: int) -> None:
        super().__init__()
        self.levels = model.config.levels
        self.project = model.proj_cmb
        pointwise = model.corr_stem[0]
        assert isinstance(pointwise, nn.Conv3d)
        self.pointwise = pointwise
        # Column x - d of the image, at x - d + D - 1 when it is padded by D - 1 on the left.
        at = torch.arange(width)[None] - torch.arange(self.levels)[:, None] + self.levels - 1
        self.register_buffer("shifts", at.flatten())

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        lefts = self.project(left).unsqueeze(2).expand(-1, -1, self.levels, -1, -1)
        correlation = self.correlation(volume.unit_groups(left), volume.unit_groups(right)).to(lefts.dtype)
        padded = F.pad(self.project(right), (self.levels - 1, 0))
        rights = padded.index_select(3, self.shifts).unflatten(3, (self.levels, -1)).transpose(2, 3)
        return self.pointwise(torch.cat([correlation, lefts, rights], 1))

    def correlation(self, left: Tensor, right: Tensor) -> Tensor:
        """(1, 8, C/8, h, w) of unit length -> (1, 8, D, h, w): <left(x), right(x - d)>, 0 left of the image."""
        pairs = left.permute(0, 1, 3, 4, 2) @ right.permute(0, 1, 3, 2, 4)
        width = pairs.shape[-1]
        padded = F.pad(pairs, (self.levels - 1, 0)).flatten(3)
        # One column more per row, and the diagonal [x, x - d] stands upright.
        skewed = F.pad(padded, (0, width)).unflatten(3, (width, -1))
        return skewed[..., : self.levels].flip(-1).permute(0, 1, 4, 2, 3)


class WholeCorrelation(CorrelationTable):
    """CorrelationTable without one-dimensional pooling."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        a, b = (F.normalize(f.float(), dim=1, eps=1e-12) for f in (left, right))
        first = a.permute(0, 2, 3, 1) @ b.permute(0, 2, 1, 3)
        even = first.shape[-1] // 2 * 2
        self._tables = [first, 0.5 * (first[..., 0:even:2] + first[..., 1:even:2])]


def upsample(disparity: Tensor, logits: Tensor) -> Tensor:
    """As upsample.upsample: disparity (1, 1, h, w) in quarter-scale px, logits (1, 9, 4 h, 4 w) -> (1, 1, 4 h, 4 w) in px."""
    height, width = disparity.shape[-2:]
    padded = F.pad(SCALE * disparity, (1, 1, 1, 1))
    patches = torch.cat([padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)], 1)
    weights = logits.float().softmax(1).view(1, 9, height, SCALE, width, SCALE)
    return (patches.view(1, 9, height, 1, width, 1) * weights).sum(1).view(1, 1, SCALE * height, SCALE * width)
