"""3x3 convolutions with a quarter of the multiplications, for wide layers on a CPU in float32.

The method is Winograd's F(4x4, 3x3) (Lavin and Gray, 2016): a tile of 6 x 6 inputs gives 4 x 4 outputs. Tiles, weights and outputs are
transformed; between the transforms a convolution is 36 matrix products. On random data the result is within 3e-5 of the standard deviation
of a direct convolution's.

Threads share the transforms by strips of tile rows and the products by points: so a product has as many rows as memory allows, and each
transformed weight is read once for them. Transformed weights are four times as large as the weights; they are made for a few points at a
time, just before these are multiplied, and never exist as a whole. All this happens in a Scratch: memory that comes new from the system,
page by page, costs about as much time as filling it does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.models.cpu import dense, parallel

TILE = 4
POINTS = 36
BAND_BYTES = 32 << 20
"""Of tiles, or their products, that exist at one time."""
STRIP_TILES = 60
"""What a thread transforms at a time, so that its caches hold it."""
POINTS_AT_A_TIME = 6
LEAST_PIXELS = 1200
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

At = tuple[int, slice]
"""Some rows of one image of a batch."""
Finish = Callable[[Tensor, At], Tensor]
"""What follows a convolution, pixel by pixel: its result (n, W, O) at some rows -> (n, W, P). It may work in place."""


class Scratch(threading.local):
    """Memory that one convolution after the other works in, of each thread that calls them; it grows to the largest."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor with whatever it holds, until the next call with this name."""
        size = torch.Size(shape).numel()
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers.pop(name, None)  # freed before the larger one is made
            with torch.inference_mode(False):  # for passes within inference_mode and without
                self._buffers[name] = torch.empty(size)
        return self._buffers[name][:size].view(shape)

    def release(self) -> None:
        self._buffers.clear()


def convolve(
    inputs: Sequence[Tensor], weight: Tensor, bias: Tensor | None, scratch: Scratch, finish: Finish | None = None, out: Tensor | None = None
) -> Tensor:
    """Convolution of concatenated inputs, zero-padded by one, and what `finish` makes of it.

    inputs (B, H, W, C_i), weight (O, sum of C_i, 3, 3) -> (B, H, W, O), or `out` (B, H, W, P).
    """
    batch, height, width, _ = inputs[0].shape
    outputs, channels = weight.shape[:2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    bands = -(-rows * columns * POINTS * max(outputs, channels) * weight.element_size() // BAND_BYTES)
    result = inputs[0].new_empty(batch, height, width, outputs) if out is None else out
    threads = torch.get_num_threads()
    flat = weight.reshape(-1, 9)
    for image in range(batch):
        for band in split(0, rows, bands):
            work = _Band([x[image] for x in inputs], flat, outputs, band, columns, scratch)
            strips = split(band.start, band.stop, max(threads, len(band) * columns // STRIP_TILES))
            parallel.each(work.transform, strips)
            parallel.each(work.multiply, list(enumerate(work.shares)))

            def give(strip: range, work: _Band = work, image: int = image) -> None:
                y = work.output(strip)
                if bias is not None:
                    y += bias
                at = (image, slice(TILE * strip.start, TILE * strip.start + len(y)))
                result[at] = y if finish is None else finish(y, at)

            parallel.each(give, strips)
    return result


def split(start: int, stop: int, count: int) -> list[range]:
    """start..stop in ranges of about equal lengths, `count` of them where there are as many numbers."""
    count = max(1, min(count, stop - start))
    return [range(*edges) for edges in pairwise(start + (stop - start) * k // count for k in range(count + 1))]


class _Band:
    """Some rows of tiles of an image, on their way through the 36 products. inputs: (H, W, C_i), weight: (O * C, 9)."""

    def __init__(self, inputs: Sequence[Tensor], weight: Tensor, outputs: int, rows: range, columns: int, scratch: Scratch) -> None:
        self._inputs, self._weight, self._rows, self._columns = inputs, weight, rows, columns
        channels, count = len(weight) // outputs, len(rows) * columns
        # Each point's product takes the place of its tiles.
        cells = scratch.take("cells", POINTS, count * max(channels, outputs))
        self._tiles = cells[:, : count * channels].unflatten(1, (count, channels))
        self._products = cells[:, : count * outputs].unflatten(1, (count, outputs))
        self.shares = split(0, POINTS, torch.get_num_threads())
        at_a_time = min(POINTS_AT_A_TIME, max(map(len, self.shares)))
        self._weights = scratch.take("weights", len(self.shares), at_a_time, outputs, channels)

    def transform(self, strip: range) -> None:
        """Inputs of a strip of tile rows -> tiles."""
        first, last = TILE * strip.start - 1, TILE * strip.stop + 1
        done = 0
        for x in self._inputs:
            height, width, channels = x.shape
            pad = (0, 0, 1, 1 + TILE * self._columns - width, max(-first, 0), max(last - height, 0))
            _transform_input(F.pad(x[max(first, 0) : last], pad), self._tiles[:, self._at(strip), done : done + channels])
            done += channels

    def multiply(self, task: tuple[int, range]) -> None:
        """Tiles -> products at a share of the points, with its number, which says where its weights are made."""
        number, points = task
        memory = self._weights[number]
        for start in range(points.start, points.stop, len(memory)):
            stop = min(start + len(memory), points.stop)
            weights = memory[: stop - start]
            torch.mm(_WEIGHT_2D[start:stop], self._weight.T, out=weights.view(stop - start, -1))
            for tiles, weight, products in zip(self._tiles[start:stop], weights, self._products[start:stop]):
                products.copy_(dense.linear(tiles, weight))

    def output(self, strip: range) -> Tensor:
        """Products -> the strip's rows of the image (n, W, O)."""
        y = _transform_output(self._products[:, self._at(strip)], len(strip), self._columns)
        height, width, _ = self._inputs[0].shape
        return y[: height - TILE * strip.start, :width]

    def _at(self, strip: range) -> slice:
        """The strip's tiles."""
        return slice((strip.start - self._rows.start) * self._columns, (strip.stop - self._rows.start) * self._columns)


def _transform_input(padded: Tensor, out: Tensor) -> None:
    """(4 rows + 2, 4 columns + 2, C) -> out (36, tiles, C)."""
    height, width, channels = padded.shape
    rows, columns = height // TILE, width // TILE
    row = padded.stride(0)
    # Overlapping bands of six rows, read in place; the transform along rows is one small matrix for all.
    bands = padded.as_strided((rows, 6, width * channels), (TILE * row, row, 1), padded.storage_offset())
    bands = torch.matmul(_INPUT, bands).view(rows, 6, width, channels)
    d0, d1, d2, d3, d4, d5 = (bands[:, :, j : j + TILE * columns : TILE].transpose(0, 1) for j in range(6))
    out = out.view(6, 6, rows, columns, channels)
    torch.add(d4, d0, alpha=4, out=out[:, 0]).sub_(d2, alpha=5)
    even, odd = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
    torch.add(even, odd, out=out[:, 1])
    torch.sub(even, odd, out=out[:, 2])
    torch.sub(d4, d2, out=even)
    torch.sub(d3, d1, out=odd).mul_(2)
    torch.add(even, odd, out=out[:, 3])
    torch.sub(even, odd, out=out[:, 4])
    torch.add(d5, d1, alpha=4, out=out[:, 5]).sub_(d3, alpha=5)


def _transform_output(products: Tensor, rows: int, columns: int) -> Tensor:
    """(36, tiles, O) -> (4 rows, 4 columns, O)."""
    y = (_OUTPUT_2D @ products.reshape(POINTS, -1)).view(TILE, TILE, rows, columns, -1)
    return y.permute(2, 0, 3, 1, 4).reshape(TILE * rows, TILE * columns, -1)
