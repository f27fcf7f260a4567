"""3x3 convolutions with a quarter of the multiplications, for wide layers on a CPU in float32.

The method is Winograd's F(4x4, 3x3) (Lavin and Gray, 2016): a tile of 6 x 6 inputs gives 4 x 4 outputs. Tiles, weights and outputs are
transformed; between the transforms a convolution is 36 matrix products, so the parts of a concatenated input can be added up one by one.
On random data the result is within 3e-5 of the standard deviation of a direct convolution's.

Transformed weights are four times as large as the weights. They are made for each call: that is one small matrix product, a few percent of
the time from LEAST_PIXELS on, while keeping those of all layers would cost more memory than the activations. They are made in a Scratch:
new memory from the system would take several times as long as the product.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.models import side_by_side

TILE = 4
POINTS = 36
BAND_BYTES = 16 << 20
"""Of transformed inputs that exist at one time."""
LEAST_PIXELS = 2000
"""Smaller images are convolved faster directly."""
_INPUT = torch.tensor(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
    dtype=torch.float32,
)
_WEIGHT = torch.tensor(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
    dtype=torch.float64,
)
_WEIGHT_2D = torch.kron(_WEIGHT, _WEIGHT).float()
_OUTPUT = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float32)
_OUTPUT_2D = torch.kron(_OUTPUT, _OUTPUT)


class Scratch(threading.local):
    """Memory for the transformed weights of one convolution after the other, of each thread; it grows to the largest."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0)

    def transform(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """(O, C_i, 3, 3) each -> (36, C_i, O) each, until the next call."""
        sizes = [POINTS * w.shape[0] * w.shape[1] for w in weights]
        if self._buffer.numel() < sum(sizes):
            self._buffer = torch.empty(0)  # freed before the larger one is made
            with torch.inference_mode(False):  # for passes within inference_mode and without
                self._buffer = torch.empty(sum(sizes))
        made = []
        for weight, part in zip(weights, self._buffer[: sum(sizes)].split(sizes)):
            outputs, channels = weight.shape[:2]
            torch.mm(_WEIGHT_2D, weight.reshape(-1, 9).T, out=part.view(POINTS, -1))
            made.append(part.view(POINTS, outputs, channels).transpose(1, 2))
        return made


def convolve(inputs: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor | None, scratch: Scratch) -> Tensor:
    """Convolution of concatenated inputs, zero-padded by one: inputs (B, H, W, C_i), weights (O, C_i, 3, 3) of each -> (B, H, W, O).

    Works on bands of tile rows side by side, so that the transformed tiles stay within BAND_BYTES, or one row of tiles for each thread.
    """
    batch, height, width, _ = inputs[0].shape
    outputs = weights[0].shape[0]
    transformed = scratch.transform(weights)
    rows, columns = -(-height // TILE), -(-width // TILE)
    widest = max(outputs, *(w.shape[1] for w in weights))
    threads = min(torch.get_num_threads(), rows)
    rounds = -(-rows * POINTS * batch * columns * widest * inputs[0].element_size() // BAND_BYTES)
    count = min(threads * rounds, rows)
    result = inputs[0].new_empty(batch, height, width, outputs)
    edges = [rows * k // count for k in range(count + 1)]
    side_by_side.each(lambda band: _convolve_band(inputs, transformed, bias, result, *band), list(pairwise(edges)))
    return result


def _convolve_band(inputs: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor | None, result: Tensor, start: int, stop: int) -> None:
    """Rows start..stop of tiles."""
    batch, height, width, _ = result.shape
    columns = -(-width // TILE)
    first, last = TILE * start - 1, TILE * stop + 1
    pad = (0, 0, 1, 1 + TILE * columns - width, max(-first, 0), max(last - height, 0))
    products = None
    for x, weight in zip(inputs, weights):
        tiles = _transform_input(F.pad(x[:, max(first, 0) : last], pad))
        products = torch.bmm(tiles, weight) if products is None else products.baddbmm_(tiles, weight)
        del tiles
    assert products is not None
    y = _transform_output(products, batch, stop - start, columns)[:, : min(TILE * stop, height) - TILE * start, :width]
    result[:, TILE * start : TILE * stop] = y if bias is None else y.add_(bias)


def _transform_input(padded: Tensor) -> Tensor:
    """(B, 4 rows + 2, 4 columns + 2, C) -> (36, tiles, C)."""
    batch, height, width, channels = padded.shape
    rows, columns = height // TILE, width // TILE
    whole, row = padded.stride(0), padded.stride(1)
    # Overlapping bands of six rows, read in place; the transform along rows is one small matrix for all.
    bands = padded.as_strided((batch, rows, 6, width * channels), (whole, TILE * row, row, 1), padded.storage_offset())
    bands = torch.matmul(_INPUT, bands).view(batch, rows, 6, width, channels)
    d0, d1, d2, d3, d4, d5 = (bands[:, :, :, j : j + TILE * columns : TILE].permute(2, 0, 1, 3, 4) for j in range(6))
    out = padded.new_empty(6, 6, batch, rows, columns, channels)
    torch.add(d4, d0, alpha=4, out=out[:, 0]).sub_(d2, alpha=5)
    even, odd = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
    torch.add(even, odd, out=out[:, 1])
    torch.sub(even, odd, out=out[:, 2])
    torch.sub(d4, d2, out=even)
    torch.sub(d3, d1, out=odd).mul_(2)
    torch.add(even, odd, out=out[:, 3])
    torch.sub(even, odd, out=out[:, 4])
    torch.add(d5, d1, alpha=4, out=out[:, 5]).sub_(d3, alpha=5)
    return out.view(POINTS, -1, channels)


def _transform_output(products: Tensor, batch: int, rows: int, columns: int) -> Tensor:
    """(36, tiles, O) -> (B, 4 rows, 4 columns, O)."""
    y = (_OUTPUT_2D @ products.view(POINTS, -1)).view(TILE, TILE, batch, rows, columns, -1)
    return y.permute(2, 3, 0, 4, 1, 5).reshape(batch, TILE * rows, TILE * columns, -1)
