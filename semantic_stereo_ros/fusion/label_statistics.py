"""Statistics of every label of a label map at once: the cost follows the labelled pixels, not the number of objects."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MAX_HISTOGRAM_CELLS = 1 << 18
MIN_BINS, MAX_BINS = 256, 4096


@dataclass(frozen=True, eq=False)
class LabelRuns:
    """pixels (n + 1,) int64 and box_xyxy (n + 1, 4) int64 (maximum exclusive, zeros where empty), by label 0..n; row 0 is unused."""

    pixels: np.ndarray
    box_xyxy: np.ndarray


def label_runs(labels: np.ndarray, count: int) -> LabelRuns:
    """Pixel counts and image boxes of labels 1..count of an (H, W) uint16 map, from its horizontal runs."""
    _height, width = labels.shape
    flat = labels.reshape(-1)
    change = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    change[::width] = True
    start = np.flatnonzero(change)
    length = np.diff(start, append=flat.size)
    label = flat[start]
    wanted = np.flatnonzero((label > 0) & (label <= count))
    order = wanted[np.argsort(label[wanted], kind="stable")]
    start, length, label = start[order], length[order], label[order]
    pixels = np.zeros(count + 1, np.int64)
    box = np.zeros((count + 1, 4), np.int64)
    if order.size:
        row, column = np.divmod(start, width)
        first = np.flatnonzero(np.diff(label, prepend=0))
        present = label[first]
        pixels[present] = np.add.reduceat(length, first)
        last = np.append(first[1:], order.size) - 1
        box[present, 0] = np.minimum.reduceat(column, first)
        box[present, 1] = row[first]  # runs of one label are in raster order
        box[present, 2] = np.maximum.reduceat(column + length, first)
        box[present, 3] = row[last] + 1
    return LabelRuns(pixels, box)


def interior(labels: np.ndarray, radius_px: int) -> np.ndarray:
    """(H, W) bool: the (2 r + 1)^2 neighbourhood holds this pixel's label only. The image border is no edge."""
    if radius_px <= 0:
        return np.ones(labels.shape, bool)
    kernel = np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
    return cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)


def bins_for(rows: int) -> int:
    """Histogram bins per row, so that all rows stay in cache."""
    return int(np.clip(MAX_HISTOGRAM_CELLS // max(rows, 1), MIN_BINS, MAX_BINS))


@dataclass(frozen=True, eq=False)
class RowHistogram:
    """A histogram per row over one range. counts: (rows, bins) int64; bin b covers low + [b, b + 1) * width; nan: (rows,) left out."""

    counts: np.ndarray
    nan: np.ndarray
    low: float
    width: float

    def quantiles(self, fractions: tuple[float, ...], keep: np.ndarray | None = None) -> np.ndarray:
        """(rows, len(fractions)) float64 quantiles of each row, linear inside a bin; NaN for an empty row."""
        return quantiles(self.counts, fractions, self.low, self.width)


def histogram(row: np.ndarray, value: np.ndarray, rows: int, bins: int, limits: tuple[float, float] | None = None) -> RowHistogram:
    """Count (N,) float32 values by (N,) integer row; NaN is counted apart. limits: the range, else the values' own; outliers go to its ends."""
    low, high = (
        limits if limits is not None else (float(np.fmin.reduce(value, initial=np.inf)), float(np.fmax.reduce(value, initial=-np.inf)))
    )
    if not high >= low:
        low, high = 0.0, 1.0
    width = max(high - low, 1e-6 * max(abs(low), abs(high), 1e-3)) / (bins - 2)
    # cell 0 of a row takes NaN, the others the values; the last one only the maximum itself.
    cell = (value - np.float32(low)) * np.float32(1.0 / width)
    cell += np.float32(1.0)
    if limits is not None:
        np.clip(cell, 1.0, bins - 1, out=cell)
    np.fmax(cell, np.float32(0.0), out=cell)
    key = cell.astype(np.intp)
    key += np.multiply(row, bins, dtype=np.intp)
    counts = np.bincount(key, minlength=rows * bins)[: rows * bins].reshape(rows, bins)
    return RowHistogram(counts[:, 1:], counts[:, 0], low, width)


def quantiles(counts: np.ndarray, fractions: tuple[float, ...], low: float, width: float) -> np.ndarray:
    """(rows, len(fractions)) quantiles of a (rows, bins) histogram whose bin b covers low + [b, b + 1) * width; NaN for an empty row."""
    rows, bins = counts.shape
    cumulative = np.cumsum(counts.reshape(-1))
    end = cumulative[bins - 1 :: bins]
    before = np.concatenate([[0], end[:-1]])
    total = end - before
    target = before[:, None] + total[:, None] * np.asarray(fractions, np.float64)
    cell = np.searchsorted(cumulative, target, side="left")
    cell = np.clip(cell, np.arange(rows)[:, None] * bins, (np.arange(rows)[:, None] + 1) * bins - 1)
    inside = counts.reshape(-1)[cell]
    under = cumulative[cell] - inside
    share = (target - under) / np.maximum(inside, 1)
    value = low + (cell - np.arange(rows)[:, None] * bins + share) * width
    return np.where(total[:, None] > 0, value, np.nan)
