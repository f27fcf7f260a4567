"""The whole network: two images to a disparity image, refined step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo import volume
from semantic_stereo_ros.models.foundation_stereo.aggregation import CostAggregation
from semantic_stereo_ros.models.foundation_stereo.blocks import ConvInstance, Gate, Residual3d, conv3, gated, instance_norm, relu
from semantic_stereo_ros.models.foundation_stereo.context import ChannelAttention, ContextNetwork, SpatialAttention, make_context
from semantic_stereo_ros.models.foundation_stereo.features import FeatureExtractor
from semantic_stereo_ros.models.foundation_stereo.lookup import CorrelationTable, GeometryTable, look_up
from semantic_stereo_ros.models.foundation_stereo.update import UpdateBlock
from semantic_stereo_ros.models.foundation_stereo.upsample import JoinStem, upsample
from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass
class Prediction:
    """disparity: (B, 1, H, W) float32 px. initial: (B, 1, h, w) float32 in quarter-scale px, from the filtered volume alone.

    probability: (B, D, h, w), the softmax over disparities that `initial` is the mean of. steps: how many updates were made.
    sequence: with every_step, the full-size disparity after each update.
    """

    disparity: Tensor
    initial: Tensor
    probability: Tensor
    steps: int
    sequence: list[Tensor]


class FoundationStereo(nn.Module):
    """The network as the paper has it, to read, to train and to compare with. fast/prepare.py makes the form that inference runs.

    state_dict() has the names and shapes of the official checkpoints. Images are multiples of 32 px; inference.py takes any size.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size = config.size
        self.cnet = ContextNetwork(size.prior)
        self.update_block = UpdateBlock()
        self.sam, self.cam = SpatialAttention(), ChannelAttention()
        self.context_zqr_convs = nn.ModuleList(nn.Conv2d(128, 384, 3, padding=1) for _ in range(3))  # in the checkpoints, not used
        self.feature = FeatureExtractor(size)
        self.proj_cmb = nn.Conv2d(size.feature, volume.PROJECTED, 1)
        self.stem_2 = nn.Sequential(ConvInstance(nn.Conv2d(3, 32, 3, 2, 1, bias=False)), nn.Conv2d(32, 32, 3, padding=1, bias=False))
        self.stem_4 = nn.Sequential(ConvInstance(nn.Conv2d(32, 48, 3, 2, 1, bias=False)), nn.Conv2d(48, 48, 3, padding=1, bias=False))
        self.spx_2_gru = JoinStem()
        self.spx_gru = nn.Sequential(nn.ConvTranspose2d(64, 9, 4, 2, 1))
        self.corr_stem = volume.make_stem()
        self.corr_feature_att = Gate(size.feature, 28)
        self.cost_agg = CostAggregation(config.attention)
        self.classifier = nn.Sequential(conv3(28, 14), Residual3d(14), nn.Conv3d(14, 1, 7, padding=3))

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        iterations: int,
        *,
        initial: Tensor | None = None,
        stop_below_px: float = 0.0,
        every_step: bool = False,
    ) -> Prediction:
        """left, right: (B, 3, H, W) 0..255 RGB, H and W multiples of 32.

        initial: (B, 1, H/4, W/4) quarter-scale px, where the updates start instead of at the volume's own mean.
        stop_below_px: end the updates when the mean change of the full-size disparity falls below it; 0 = make all of them.
        every_step: enlarge the disparity after each update, for a loss over the sequence.
        """
        batch = len(left)
        images = normalised(torch.cat([left, right]))
        features, prior = self.feature(images)
        image, prior, lefts, right_feature = images[:batch], prior[:batch], [f[:batch] for f in features], features[0][batch:]

        filtered = self.cost_agg(self.cost_volume(lefts[0], right_feature), lefts)
        probability, first = self.initial_disparity(self.classifier(filtered).squeeze(1))

        context = make_context(self.cnet(image, prior), self.cam, self.sam)
        geometry, correlation = GeometryTable(filtered), CorrelationTable(lefts[0], right_feature)
        stem = self.edges(image)
        disparity, sequence, steps = first if initial is None else initial.float(), [], 0
        for _ in range(iterations):
            around = disparity.detach()
            motion = self.update_block.encoder(look_up(geometry, correlation, around), around)
            delta = self.update_block(context, motion)
            disparity, steps = disparity + delta, steps + 1
            if every_step:
                sequence.append(self.enlarged(disparity, context.hidden[0], stem))
            elif ended(delta, stop_below_px):
                break
        result = sequence[-1] if sequence else self.enlarged(disparity, context.hidden[0], stem)
        return Prediction(result, first, probability, steps, sequence)

    def cost_volume(self, left: Tensor, right: Tensor) -> Tensor:
        """Matching features (B, C, h, w) of both images -> (B, 28, D, h, w)."""
        levels = self.config.levels
        correlation = volume.correlation_volume(left, right, levels)
        concatenation = volume.concatenation_volume(self.proj_cmb(left), self.proj_cmb(right), levels)
        return gated(self.corr_stem(torch.cat([correlation, concatenation], 1)), self.corr_feature_att(left))

    def initial_disparity(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D, h, w) -> their softmax over disparities, and its mean (B, 1, h, w), quarter-scale px (Kendall et al., 2017)."""
        probability = logits.float().softmax(1)
        levels = torch.arange(probability.shape[1], device=probability.device, dtype=torch.float32)
        return probability, torch.einsum("bdhw,d->bhw", probability, levels).unsqueeze(1)

    def edges(self, image: Tensor) -> Tensor:
        """Normalised (B, 3, H, W) -> (B, 32, H/2, W/2): along what the disparity is enlarged."""
        return relu(instance_norm(self.stem_2[1](self.stem_2[0](image))))

    def enlarged(self, disparity: Tensor, hidden: Tensor, stem: Tensor) -> Tensor:
        """(B, 1, h, w) quarter-scale px -> (B, 1, 4 h, 4 w) px."""
        mask = self.update_block.mask_feature(hidden)
        return upsample(disparity, self.spx_gru(self.spx_2_gru(mask, stem)))


def normalised(images: Tensor) -> Tensor:
    """0..255 -> what the weights were trained on, float32."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def ended(delta: Tensor, stop_below_px: float) -> bool:
    """Whether the mean change of the full-size disparity was below the limit. delta: in quarter-scale px."""
    return stop_below_px > 0 and 4 * float(delta.abs().mean()) < stop_below_px
