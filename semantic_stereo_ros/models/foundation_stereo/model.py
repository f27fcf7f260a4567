"""The whole network: two images to a disparity image, refined step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.cpu import parallel
from semantic_stereo_ros.models.foundation_stereo import volume
from semantic_stereo_ros.models.foundation_stereo.aggregation import CostAggregation, gated
from semantic_stereo_ros.models.foundation_stereo.blocks import ConvInstance, Gate, Residual3d, conv3, instance_norm, relu
from semantic_stereo_ros.models.foundation_stereo.context import ChannelAttention, ContextNetwork, SpatialAttention, make_context
from semantic_stereo_ros.models.foundation_stereo.features import FeatureExtractor
from semantic_stereo_ros.models.foundation_stereo.lookup import CorrelationTable, GeometryTable, look_up
from semantic_stereo_ros.models.foundation_stereo.streaming import (
    ROWS,
    RowChain,
    RowCollector,
    conv_norm,
    residual,
    row_count,
    single_output,
)
from semantic_stereo_ros.models.foundation_stereo.trace import NoTrace, Trace
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
    """state_dict() has the names and shapes of the official checkpoints. Call it in eval mode under torch.inference_mode().

    Forward takes multiples of 32; see inference.py for images of any size. rows: rows of the volume and of look-ups worked on at a time, at
    a quarter of the size, a multiple of 4, None = what slab_rows says; the result does not depend on it, the memory does.
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
        rows: int | None = None,
        stop_below_px: float = 0.0,
        every_step: bool = False,
        trace: Trace | None = None,
    ) -> Prediction:
        """left, right: (B, 3, H, W) 0..255 RGB, H and W multiples of 32.

        initial: (B, 1, H/4, W/4) quarter-scale px, where the updates start instead of at the volume's own mean.
        stop_below_px: end the updates when the mean change of the full-size disparity falls below it; 0 = make all of them.
        """
        trace = trace or NoTrace()
        batch = len(left)
        images = self.normalised(torch.cat([left, right]))
        features, prior = self.feature(images, trace)
        lefts, right_feature = [f[:batch] for f in features], features[0][batch:]
        image, prior = images[:batch], prior[:batch]
        del images, features
        slab_rows = rows or self.slab_rows(lefts[0])
        geometry, logits = self.matching(lefts, right_feature, slab_rows, trace)
        probability = logits.float().softmax(1)
        del logits
        levels = torch.arange(probability.shape[1], device=probability.device, dtype=torch.float32)
        first = torch.einsum("bdhw,d->bhw", probability, levels).unsqueeze(1)
        trace.add("init_disp", first)
        correlation = CorrelationTable(lefts[0], right_feature)
        del lefts, right_feature
        context = make_context(self.cnet(image, prior, trace), self.cam, self.sam, trace)
        del prior
        disparity = first if initial is None else initial.float()
        bases = self.update_block.bases(context.inputs)
        context.inputs = []
        hardware.trim_heap(disparity.device)
        sequence, steps, stem = [], 0, None
        for k in range(iterations):
            trace.add(f"disp_in_{k}", disparity)
            motion = self.motion(geometry, correlation, disparity.detach(), slab_rows, trace, f"geo_feat_{k}")
            delta = self.update_block(context, bases, motion)
            trace.add(f"delta_{k}", delta)
            if k == 0:
                trace.add("motion_0", motion)
                for level, net in zip(("04", "08", "16"), context.hidden):
                    trace.add(f"net{level}_1", net)
            del motion
            disparity = disparity + delta
            steps = k + 1
            if every_step:
                stem = self.edges(image, trace) if stem is None else stem
                sequence.append(self.enlarged(disparity, context.hidden[0], stem, trace))
            elif stop_below_px > 0 and 4 * float(delta.abs().mean()) < stop_below_px:
                break
        if self.update_block.scratch is not None and not torch.compiler.is_compiling():
            self.update_block.scratch.release()
        result = sequence[-1] if sequence else self.enlarged(disparity, context.hidden[0], self.edges(image, trace), trace)
        return Prediction(result, first, probability, steps, sequence)

    def slab_rows(self, feature: Tensor) -> int:
        """Of feature (B, C, h, w) as many rows as a CPU does best with; a GPU, a compiler and training do best with all."""
        height, width = feature.shape[-2:]
        return volume.rows_on_cpu(height, width, self.config.levels) if hardware.eager_on_cpu(feature) else height

    def normalised(self, images: Tensor) -> Tensor:
        """0..255 -> what the weights were trained on, float32."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        return (images.float() / 255 - mean) / std

    def matching(self, lefts: list[Tensor], right: Tensor, rows: int, trace: Trace) -> tuple[GeometryTable, Tensor]:
        """Features of the left image at four scales and of the right at 1/4 -> the filtered volume's table and logits (B, D, h, w)."""
        batch, _, height, width = lefts[0].shape
        levels = self.config.levels
        half, patches = self.cost_agg.down(self._slabs(lefts[0], right, rows, trace), height)
        half = self.cost_agg.hourglass(half, lefts, trace)
        tokens = self.cost_agg.tokens(patches, trace)
        del patches
        table = GeometryTable(batch, half.shape[1] // 2, levels, height, width, half)
        first, second, last_conv = self.classifier
        assert isinstance(second, Residual3d) and isinstance(last_conv, nn.Conv3d)
        classifier = RowChain(conv_norm(first), residual(second), single_output(last_conv))  # pyright: ignore[reportArgumentType]
        logits = RowCollector(height)

        def take(slab: Tensor, last: bool) -> None:
            table.add(slab)
            logits.add(classifier.push(slab, last))

        self.cost_agg.up(half, tokens, rows, take, trace)
        result = logits.result()
        trace.add("logits", result)
        return table, result.squeeze(1)

    def _slabs(self, left: Tensor, right: Tensor, rows: int, trace: Trace) -> Iterator[tuple[Tensor | None, bool]]:
        """The gated volume (B, 28, D, n, w) in order of rows, n as it comes."""
        height = left.shape[-2]
        pointwise = self.corr_stem[0]
        assert isinstance(pointwise, nn.Conv3d)
        slabs = volume.VolumeSlabs(left, right, self.config.levels, self.proj_cmb, pointwise, trace)
        stem, gate = volume.stream_stem(self.corr_stem), self.corr_feature_att(left)
        done = 0
        for start in range(0, height, rows):
            last = start + rows >= height
            x = stem.push(slabs.rows(start, min(start + rows, height)), last)
            if x is not None:
                trace.rows("corr_stem", x)
                x = gated(x, gate[:, :, :, done : done + row_count(x)])
                trace.rows("corr_feature_att", x)
                done += row_count(x)
            yield x, last

    def motion(
        self, geometry: GeometryTable, correlation: CorrelationTable, disparity: Tensor, rows: int, trace: Trace, name: str
    ) -> Tensor:
        """(B, 1, h, w) quarter-scale px -> the motion feature (B, 128, h, w) from the look-ups around it, reduced some rows at a time."""
        encoder, starts = self.update_block.encoder, range(0, disparity.shape[ROWS], rows)

        def reduced(start: int) -> Tensor:
            samples = look_up(geometry, correlation, disparity[:, :, start : start + rows], start)
            trace.rows(name, samples)
            return encoder.reduce(samples)

        if not hardware.eager_on_cpu(disparity) or not isinstance(trace, NoTrace):
            return encoder(torch.cat([reduced(start) for start in starts], ROWS), disparity)
        cost = encoder.space(disparity)

        def fill(start: int) -> None:
            cost[:, :, start : start + rows] = reduced(start)

        parallel.each(fill, starts)
        return encoder(cost, disparity)

    def edges(self, image: Tensor, trace: Trace) -> Tensor:
        """Normalised (B, 3, H, W) -> (B, 32, H/2, W/2): along what the disparity is enlarged."""
        stem = relu(instance_norm(self.stem_2[1](self.stem_2[0](image))))
        trace.add("stem_2x", stem)
        return stem

    def enlarged(self, disparity: Tensor, hidden: Tensor, stem: Tensor, trace: Trace) -> Tensor:
        """(B, 1, h, w) quarter-scale px -> (B, 1, 4 h, 4 w) px."""
        mask = self.update_block.mask_feature(hidden)
        trace.add("mask_feat_last", mask)
        logits = self.spx_gru(self.spx_2_gru(mask, stem))
        trace.add("spx_logits", logits)
        result = upsample(disparity, logits)
        trace.add("disparity", result)
        return result
