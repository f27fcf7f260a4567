"""The network as inference runs it: the plain one's steps, over rows of the volume, with memory let go of as early as it can be."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.cpu import parallel
from semantic_stereo_ros.models.cpu.winograd import Scratch
from semantic_stereo_ros.models.foundation_stereo.blocks import Residual3d, gated
from semantic_stereo_ros.models.foundation_stereo.context import make_context
from semantic_stereo_ros.models.foundation_stereo.fast.stepped_update import SteppedMotionEncoder, SteppedUpdate
from semantic_stereo_ros.models.foundation_stereo.fast.streamed_parts import StreamedAggregation
from semantic_stereo_ros.models.foundation_stereo.fast.streaming import (
    ROWS,
    RowChain,
    RowCollector,
    conv_norm,
    residual,
    row_count,
    single_output,
)
from semantic_stereo_ros.models.foundation_stereo.fast.volume_slabs import VolumeSlabs, rows_on_cpu
from semantic_stereo_ros.models.foundation_stereo.lookup import CorrelationTable, GeometryTable, look_up
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo, Prediction, ended, normalised


class InferenceForm(FoundationStereo):
    """What prepare makes. Call it under torch.inference_mode(); nothing in it is differentiated.

    scratch: what Winograd's convolutions work in, released after the last step.
    """

    cost_agg: StreamedAggregation
    update_block: SteppedUpdate
    scratch: Scratch | None = None

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        iterations: int,
        *,
        initial: Tensor | None = None,
        stop_below_px: float = 0.0,
        every_step: bool = False,
        rows: int | None = None,
    ) -> Prediction:
        """As FoundationStereo's. rows: rows of the volume and of look-ups worked on at a time, at a quarter of the size, a multiple of 4,
        None = what slab_rows says; the result does not depend on it, the memory does.
        """
        batch = len(left)
        images = normalised(torch.cat([left, right]))
        features, prior = self.feature(images)
        lefts, right_feature = [f[:batch] for f in features], features[0][batch:]
        image, prior = images[:batch], prior[:batch]
        del images, features
        rows = rows or self.slab_rows(lefts[0])
        geometry, logits = self.matching(lefts, right_feature, rows)
        probability, first = self.initial_disparity(logits)
        del logits
        correlation = CorrelationTable(lefts[0], right_feature)
        del lefts, right_feature
        context = make_context(self.cnet(image, prior), self.cam, self.sam)
        del prior
        context.inputs = self.update_block.bases(context.inputs)
        disparity, sequence, steps, stem = first if initial is None else initial.float(), [], 0, None
        hardware.trim_heap(disparity.device)
        for _ in range(iterations):
            motion = self.motion(geometry, correlation, disparity, rows)
            delta = self.update_block(context, motion)
            del motion
            disparity, steps = disparity + delta, steps + 1
            if every_step:
                stem = self.edges(image) if stem is None else stem
                sequence.append(self.enlarged(disparity, context.hidden[0], stem))
            elif ended(delta, stop_below_px):
                break
        if self.scratch is not None and not torch.compiler.is_compiling():
            self.scratch.release()
        result = sequence[-1] if sequence else self.enlarged(disparity, context.hidden[0], self.edges(image))
        return Prediction(result, first, probability, steps, sequence)

    def slab_rows(self, feature: Tensor) -> int:
        """Of feature (B, C, h, w) as many rows as a CPU does best with; a GPU and a compiler do best with all."""
        height, width = feature.shape[-2:]
        return rows_on_cpu(height, width, self.config.levels) if hardware.eager_on_cpu(feature) else height

    def matching(self, lefts: list[Tensor], right: Tensor, rows: int) -> tuple[GeometryTable, Tensor]:
        """Features of the left image at four scales and of the right at 1/4 -> the filtered volume's table and logits (B, D, h, w)."""
        batch, _, height, width = lefts[0].shape
        half, patches = self.cost_agg.down(self.volume_slabs(lefts[0], right, rows), height)
        half = self.cost_agg.hourglass(half, lefts)
        tokens = self.cost_agg.atts["4"](patches)
        del patches
        shape = (batch, half.shape[1] // 2, self.config.levels, height, width)
        filtered = torch.empty(shape, dtype=half.dtype, device=half.device, memory_format=torch.channels_last_3d)
        first, second, last_conv = self.classifier
        assert isinstance(second, Residual3d) and isinstance(last_conv, nn.Conv3d)
        classifier = RowChain(conv_norm(first), residual(second), single_output(last_conv))  # pyright: ignore[reportArgumentType]
        logits, done = RowCollector(height), 0
        for slab, last in self.cost_agg.up(half, tokens, rows):
            filtered[:, :, :, done : done + row_count(slab)] = slab
            done += row_count(slab)
            logits.add(classifier.push(slab, last))
        return GeometryTable(filtered), logits.result().squeeze(1)

    def volume_slabs(self, left: Tensor, right: Tensor, rows: int) -> Iterator[tuple[Tensor | None, bool]]:
        """The gated volume (B, 28, D, n, w) in order of rows, n as it comes, and whether it is the last."""
        height = left.shape[ROWS]
        pointwise, first, second, third = self.corr_stem
        assert isinstance(pointwise, nn.Conv3d) and isinstance(second, Residual3d) and isinstance(third, Residual3d)
        slabs = VolumeSlabs(left, right, self.config.levels, self.proj_cmb, pointwise)
        stem = RowChain(conv_norm(first), residual(second), residual(third))  # pyright: ignore[reportArgumentType]
        gate, done = self.corr_feature_att(left), 0
        for start in range(0, height, rows):
            last = start + rows >= height
            x = stem.push(slabs.rows(start, min(start + rows, height)), last)
            if x is not None:
                x = gated(x, gate[:, :, :, done : done + row_count(x)])
                done += row_count(x)
            yield x, last

    def motion(self, geometry: GeometryTable, correlation: CorrelationTable, disparity: Tensor, rows: int) -> Tensor:
        """(B, 1, h, w) quarter-scale px -> the motion feature (B, 128, h, w) from the look-ups around it, reduced some rows at a time."""
        encoder, starts = self.update_block.encoder, range(0, disparity.shape[ROWS], rows)
        assert isinstance(encoder, SteppedMotionEncoder)

        def reduced(start: int) -> Tensor:
            return encoder.reduce(look_up(geometry, correlation, disparity[:, :, start : start + rows], start))

        if not hardware.eager_on_cpu(disparity):
            return encoder(torch.cat([reduced(start) for start in starts], ROWS), disparity)
        cost = encoder.space(disparity)

        def fill(start: int) -> None:
            cost[:, :, start : start + rows] = reduced(start)

        parallel.each(fill, starts)
        return encoder(cost, disparity)
