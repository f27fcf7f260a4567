"""Low-resolution logits at full size: on a GPU whole images in chunks, on a CPU only the window in which a mask can be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.segmentation.automask.nms import boxes_of

CHUNK_BYTES = 16 << 20  # of full-size logits at a time


def measure(logits: Tensor, shape_hw: tuple[int, int], offset: float) -> tuple[Tensor, Tensor]:
    """Stability (K,) and boxes (K, 4), see `boxes_of`, of (K, h, w) logits at shape_hw.

    Stability: pixels above offset by those above -offset.
    """
    if logits.device.type == "cpu":
        return _measure_windows(logits, shape_hw, offset)
    stability, boxes = [logits.new_zeros(0)], [logits.new_zeros(0, 4)]
    for part in _chunks(logits, shape_hw):
        inner, outer = (torch.count_nonzero(part > value, dim=(1, 2)).float() for value in (offset, -offset))
        stability.append(inner / outer)
        boxes.append(boxes_of(part > 0))
    return torch.cat(stability), torch.cat(boxes)


def paint(logits: Tensor, out: Tensor) -> None:
    """Write where (K, h, w) logits are positive, at the size of out (K, H, W) bool."""
    shape_hw = (out.shape[1], out.shape[2])
    if logits.device.type == "cpu":
        out.zero_()
        for mask, (rows, columns, part) in zip(out, _windows(logits, shape_hw, 0.0)):
            mask[rows, columns] = torch.from_numpy(part > 0)
        return
    start = 0
    for part in _chunks(logits, shape_hw):
        torch.gt(part, 0, out=out[start : start + len(part)])
        start += len(part)


def _chunks(logits: Tensor, shape_hw: tuple[int, int]) -> Iterable[Tensor]:
    step = max(1, CHUNK_BYTES // (4 * shape_hw[0] * shape_hw[1]))
    for start in range(0, len(logits), step):
        yield F.interpolate(logits[None, start : start + step], shape_hw, mode="bilinear", align_corners=False)[0]


def _measure_windows(logits: Tensor, shape_hw: tuple[int, int], offset: float) -> tuple[Tensor, Tensor]:
    stability, boxes = np.full(len(logits), np.nan, np.float32), np.zeros((len(logits), 4), np.float32)
    for k, (rows, columns, part) in enumerate(_windows(logits, shape_hw, -offset)):
        outer = np.count_nonzero(part > -offset)
        if outer:
            stability[k] = np.count_nonzero(part > offset) / outer
        mask = part > 0
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(y):
            boxes[k] = (columns.start + x[0], rows.start + y[0], columns.start + x[-1], rows.start + y[-1])
    return torch.from_numpy(stability), torch.from_numpy(boxes)


def _windows(logits: Tensor, shape_hw: tuple[int, int], above: float) -> Iterable[tuple[slice, slice, np.ndarray]]:
    """Of each mask: rows and columns outside which no logit at full size is above this value, and the logits inside.

    Bilinear interpolation lies between its neighbours, so where they are all below, it is.
    """
    values = logits.numpy()
    vertical, horizontal = (_Axis(size, full) for size, full in zip(values.shape[1:], shape_hw))
    present = values > above
    by_row, by_column = np.any(present, axis=2), np.any(present, axis=1)
    for value, in_rows, in_columns in zip(logits, by_row, by_column):
        y, x = np.flatnonzero(in_rows), np.flatnonzero(in_columns)
        if not len(y):
            yield slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32)
            continue
        rows, from_rows = vertical.reached(int(y[0]), int(y[-1]))
        columns, from_columns = horizontal.reached(int(x[0]), int(x[-1]))
        down, across = vertical.weights[rows, from_rows], horizontal.weights[columns, from_columns]
        yield rows, columns, (down @ value[from_rows, from_columns] @ across.T).numpy()


class _Axis:
    """Bilinear weights (full, size) of one axis, pixel areas aligned, and which of both sides belong together."""

    def __init__(self, size: int, full: int) -> None:
        identity = torch.eye(size)[None, :, :, None].transpose(1, 2)
        self.weights = F.interpolate(identity, (full, 1), mode="bilinear", align_corners=False)[0, :, :, 0].T.contiguous()
        used = self.weights.numpy() > 0
        self._first, self._last = used.argmax(axis=1), size - 1 - used[:, ::-1].argmax(axis=1)

    def reached(self, low: int, high: int) -> tuple[slice, slice]:
        """The full-size places that depend on low..high, and all that those depend on."""
        begin, end = int(np.searchsorted(self._last, low)), int(np.searchsorted(self._first, high, side="right"))
        if begin >= end:
            return slice(0, 0), slice(0, 0)
        return slice(begin, end), slice(int(self._first[begin]), int(self._last[end - 1]) + 1)
