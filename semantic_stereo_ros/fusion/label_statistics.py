"""Statistics of every label of a label map at once: the cost follows the labelled pixels, not the number of objects.

Pixels are kept sorted by label, so that the pixels of label l are the slice bounds[l]:bounds[l + 1] of every array: sums are reduceat,
values per label are np.repeat, and quantiles are read from one sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelRuns:
    """The horizontal runs of labels 1..n, sorted by label: (M,) flat start index, length, label, row.

    pixels (n + 1,) and box_xyxy (n + 1, 4) by label, maximum exclusive, zeros where empty; row 0 is unused.
    """

    start: np.ndarray
    length: np.ndarray
    label: np.ndarray
    row: np.ndarray
    pixels: np.ndarray
    box_xyxy: np.ndarray


def label_runs(labels: np.ndarray, count: int) -> LabelRuns:
    """Runs, pixel counts and image boxes of labels 1..count of an (H, W) uint16 map."""
    width = labels.shape[1]
    flat = labels.reshape(-1)
    change = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[::width] = True
    start = np.flatnonzero(change)
    length = np.diff(start, append=flat.size)
    label = flat.take(start)
    order = np.flatnonzero((label > 0) & (label <= count))
    order = order.take(np.argsort(label.take(order), kind="stable"))
    start, length, label = start.take(order), length.take(order), label.take(order).astype(np.intp)
    row = start // width
    column = start - row * width
    pixels = np.zeros(count + 1, np.int64)
    box = np.zeros((count + 1, 4), np.int64)
    if order.size:
        first = np.flatnonzero(np.diff(label, prepend=0))
        present = label[first]
        last = np.append(first[1:], order.size) - 1
        pixels[present] = np.add.reduceat(length, first)
        box[present, 0] = np.minimum.reduceat(column, first)
        box[present, 1] = row[first]  # the runs of one label are in raster order
        box[present, 2] = np.maximum.reduceat(column + length, first)
        box[present, 3] = row[last] + 1
    return LabelRuns(start, length, label, row, pixels, box)


@dataclass(frozen=True, eq=False)
class LabelPixels:
    """(N,) flat index, row and interior flag of pixels sorted by label; those of label l are bounds[l]:bounds[l + 1]."""

    index: np.ndarray
    row: np.ndarray
    interior: np.ndarray
    bounds: np.ndarray


def run_pixels(labels: np.ndarray, runs: LabelRuns, step: np.ndarray, radius_px: int) -> LabelPixels:
    """Every step[l, 0]-th row and step[l, 1]-th pixel of each run of label l; step: (n + 1, 2) integers.

    interior: radius_px to the left, right and towards the four corners the label is still the same; the image border is no edge.
    """
    height, width = labels.shape
    chosen = np.flatnonzero(runs.row % step[:, 0].take(runs.label) == 0)
    start, length, label, row = (x.take(chosen) for x in (runs.start, runs.length, runs.label, runs.row))
    column = start - row * width
    left = np.minimum(radius_px, length) * (column > 0)
    right = np.minimum(radius_px, length - left) * (column + length < width)
    stride = step[:, 1].take(label)
    # each run as its left rim, middle and right rim, in samples
    last = stride - 1
    left_end, middle_end, end = (left + last) // stride, (length - right + last) // stride, (length + last) // stride
    part = np.stack([left_end, middle_end - left_end, end - middle_end], axis=1)
    samples = np.cumsum(end)
    before = samples - end
    total = int(samples[-1]) if len(samples) else 0
    uniform = int(stride[0]) if len(stride) and stride.min() == stride.max() else None
    index = np.arange(total)
    index *= uniform if uniform is not None else np.repeat(stride, end)
    index += np.repeat(start - stride * before, end)
    inside = np.repeat(np.tile([False, True, False], len(start)), part.reshape(-1))
    if radius_px and total:
        flat = labels.reshape(-1)
        label_of = np.repeat(label.astype(labels.dtype), end)
        # the corners tell silhouettes at any angle; beyond the image's first and last rows the pixel stands for its missing neighbour
        for sign in (-1, 1):
            beyond = (row < radius_px) if sign < 0 else (row >= height - radius_px)
            reach = sign * radius_px * width
            for side in (-radius_px, radius_px):
                probe = index + np.repeat(np.where(beyond, 0, reach + side), end) if beyond.any() else index + (reach + side)
                inside &= flat.take(probe, mode="clip") == label_of
    bounds = np.concatenate([[0], samples]).take(np.searchsorted(label, np.arange(len(runs.pixels) + 1)))
    return LabelPixels(index, np.repeat(row, end), inside, bounds)


def segment_sums(value: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(..., rows) float64 sums of the slices of (..., N) values, 0 where empty."""
    empty = bounds[1:] <= bounds[:-1]
    if not value.shape[-1]:
        return np.zeros((*value.shape[:-1], empty.size))
    sums = np.add.reduceat(value, np.minimum(bounds[:-1], value.shape[-1] - 1), axis=-1).astype(np.float64)
    sums[..., empty] = 0.0
    return sums


def segment_quantiles(value: np.ndarray, bounds: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """(len(fractions), rows) float64 quantiles of the slices of (N,) finite float32 values; NaN where empty.

    One sort of 31-bit keys, the row above the value: exact to (maximum - minimum) / 2^22, less with more than 500 rows.
    """
    rows, count = bounds.size - 1, np.diff(bounds)
    if not value.size:
        return np.full((len(fractions), rows), np.nan)
    low, high = float(value.min()), float(value.max())
    bits = min(22, 31 - rows.bit_length())
    scale = ((1 << bits) - 1) / max(high - low, 1e-6 * max(abs(low), abs(high), 1e-3))
    key = value - np.float32(low)
    key *= np.float32(scale * (1.0 - 1e-6))
    key = key.astype(np.int32)
    key += np.repeat(np.arange(rows, dtype=np.int32) << np.int32(bits), count)
    key.sort()
    place = np.asarray(fractions)[:, None] * np.maximum(count - 1, 0)
    below = place.astype(np.intp)
    share = place - below
    below += bounds[:-1]
    mask = np.int32((1 << bits) - 1)
    lower = key.take(below, mode="clip") & mask
    upper = key.take(below + (share > 0), mode="clip") & mask
    return np.where(count > 0, low + (lower + (upper - lower) * share) / scale, np.nan)
