"""Statistics of every label of a label map at once: the cost follows the labelled pixels, not the number of objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_HISTOGRAM_CELLS = 1 << 16
MIN_BINS, MAX_BINS = 256, 2048


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
    order = np.argsort(label, kind="stable")
    order = order[np.searchsorted(label, 0, side="right", sorter=order) : np.searchsorted(label, count, side="right", sorter=order)]
    start, length, label = start[order], length[order], label[order].astype(np.intp)
    row, column = np.divmod(start, width)
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
    """(N,) flat index, label and interior flag of the pixels of label runs, sorted by label."""

    index: np.ndarray
    label: np.ndarray
    interior: np.ndarray


def run_pixels(labels: np.ndarray, runs: LabelRuns, chosen: np.ndarray, step: np.ndarray | int, radius_px: int) -> LabelPixels:
    """Every step-th pixel of the chosen (M,) bool runs; step: one for all, or one per label 0..n.

    interior: radius_px to the left, right, above and below the label is still the same; the image border is no edge.
    """
    width = labels.shape[1]
    start, length, label = runs.start[chosen], runs.length[chosen], runs.label[chosen]
    column = start - runs.row[chosen] * width
    left = np.where(column > 0, np.minimum(radius_px, length), 0)
    right = np.where(column + length < width, np.minimum(radius_px, length - left), 0)
    stride = step if isinstance(step, int) else step.take(label)
    # each run as its left rim, middle and right rim, in samples
    left_end, middle_end, end = ((x + stride - 1) // stride for x in (left, length - right, length))
    part = np.stack([left_end, middle_end - left_end, end - middle_end], axis=1).reshape(-1)
    before = np.cumsum(end) - end
    label_of = np.repeat(label, end)
    index = np.arange(label_of.size)
    if isinstance(step, int):
        index *= step
    else:
        index *= np.repeat(stride, end)
    index += np.repeat(start - stride * before, end)
    inside = np.repeat(np.tile([False, True, False], len(start)), part)
    if radius_px:
        flat, reach = labels.reshape(-1), radius_px * width
        # the corners tell silhouettes at any angle; at the image border the pixel stands for its missing neighbour
        for offset in (-reach - radius_px, -reach + radius_px, reach - radius_px, reach + radius_px):
            probe = index + offset
            np.copyto(probe, index, where=(probe < 0) if offset < 0 else (probe >= flat.size))
            inside &= flat.take(probe) == label_of
    return LabelPixels(index, label_of, inside)


def bins_for(rows: int) -> int:
    """Histogram bins per row, so that all rows stay in cache."""
    return int(np.clip(MAX_HISTOGRAM_CELLS // max(rows, 1), MIN_BINS, MAX_BINS))


@dataclass(frozen=True, eq=False)
class RowHistogram:
    """A histogram per row over one range. counts: (rows, bins) int64; bin b covers low + [b, b + 1) * width.

    nan: (rows,) values left out; total: (rows,) values, with them.
    """

    counts: np.ndarray
    nan: np.ndarray
    total: np.ndarray
    low: float
    width: float

    def quantiles(self, fractions: tuple[float, ...]) -> np.ndarray:
        """(rows, len(fractions)) float64 quantiles of each row; NaN for an empty row."""
        return quantiles(self.counts, fractions, self.low, self.width)


def histogram(row: np.ndarray, value: np.ndarray, rows: int, bins: int, limits: tuple[float, float] | None = None) -> RowHistogram:
    """Count (N,) float32 values by (N,) integer row; NaN is counted apart.

    limits: the range, else the values' own; outliers go to its ends.
    """
    clip = limits is not None
    if limits is None:
        limits = float(np.fmin.reduce(value, initial=np.inf)), float(np.fmax.reduce(value, initial=-np.inf))
    low, high = limits
    if not high >= low:
        low, high = 0.0, 1.0
    width = max(high - low, 1e-6 * max(abs(low), abs(high), 1e-3)) / (bins - 2)
    # cell 0 of a row takes NaN, the others the values; the last one only the maximum itself.
    cell = (value - np.float32(low)) * np.float32(1.0 / width)
    cell += np.float32(1.0)
    if clip:
        np.clip(cell, 1.0, bins - 1, out=cell)
    np.fmax(cell, np.float32(0.0), out=cell)
    key = cell.astype(np.intp)
    key += np.multiply(row, bins, dtype=np.intp)
    counts = np.bincount(key, minlength=rows * bins)[: rows * bins].reshape(rows, bins)
    total, nan = counts.sum(axis=1), counts[:, 0].copy()
    counts[:, 0] = 0
    return RowHistogram(counts, nan, total, low - width, width)


def quantiles(counts: np.ndarray, fractions: tuple[float, ...], low: float, width: float) -> np.ndarray:
    """(rows, len(fractions)) quantiles of a (rows, bins) histogram whose bin b covers low + [b, b + 1) * width; NaN for an empty row."""
    rows, bins = counts.shape
    flat = counts.reshape(-1)
    cumulative = np.cumsum(flat)
    end = cumulative[bins - 1 :: bins]
    before = np.concatenate([[0], end[:-1]])
    total = end - before
    target = before[:, None] + total[:, None] * np.asarray(fractions, np.float64)
    # integers on both sides: otherwise NumPy converts the whole histogram
    cell = np.searchsorted(cumulative, np.ceil(target).astype(cumulative.dtype), side="left")
    row_start = np.arange(rows)[:, None] * bins
    np.clip(cell, row_start, row_start + (bins - 1), out=cell)
    inside = flat[cell]
    under = cumulative[cell] - inside
    share = (target - under) / np.maximum(inside, 1)
    value = low + (cell - row_start + share) * width
    return np.where(total[:, None] > 0, value, np.nan)
