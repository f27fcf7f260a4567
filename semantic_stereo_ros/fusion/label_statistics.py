"""Statistics of every label of a label map at once: the same number of pixels is drawn from each mask, so all become rows of one matrix.

The runs of the label map give exact pixel counts and boxes; everything else is estimated from the drawn pixels. Matrices are (n, K): n
masks, K pixels each. A mask with fewer pixels than K is drawn whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# of a stretch of pixels; not quite a half, so that rounding never decides between two runs
MIDDLE = 0.5 - 2.0**-24


@dataclass(frozen=True, eq=False)
class LabelRuns:
    """The horizontal runs of n masks, mask after mask in raster order: (M,) row, right end (exclusive), length, mask 0..n-1.

    By mask: label (n,), pixels (n,), box_xyxy (n, 4) with the maximum exclusive, size_wh (n, 2) of the box.
    """

    row: np.ndarray
    right: np.ndarray
    length: np.ndarray
    mask: np.ndarray
    label: np.ndarray
    pixels: np.ndarray
    box_xyxy: np.ndarray
    size_wh: np.ndarray


def label_runs(labels: np.ndarray, wanted: np.ndarray) -> LabelRuns:
    """Runs, pixel counts and image boxes of the (k,) wanted labels in a C-contiguous (H, W) uint16 map, in rising order.

    Labels that do not occur are left out.
    """
    width = labels.shape[1]
    flat = labels.reshape(-1)
    change = np.ones(flat.size + 1, bool)
    change[1:-1] = flat[1:] != flat[:-1]
    change[::width] = True  # a run ends with its row, the last one too
    edge = np.flatnonzero(change)
    label = flat[edge[:-1]]
    run = np.flatnonzero(np.isin(label, wanted))
    run = run[np.argsort(label[run], kind="stable")]
    found, count = np.unique(label[run], return_counts=True)
    start = edge[run]
    length = edge[run + 1] - start
    row = start // width
    left = start - row * width
    right = left + length
    if not found.size:
        return LabelRuns(row, right, length, run, found, length, np.zeros((0, 4), np.intp), np.zeros((0, 2), np.intp))
    end = count.cumsum()
    first = end - count
    box = [np.minimum.reduceat(left, first), row[first], np.maximum.reduceat(right, first), row[end - 1] + 1]
    box_xyxy = np.array(box).T
    return LabelRuns(
        row=row,
        right=right,
        length=length,
        mask=np.arange(found.size).repeat(count),
        label=found,
        pixels=np.add.reduceat(length, first),
        box_xyxy=box_xyxy,
        size_wh=box_xyxy[:, 2:] - box_xyxy[:, :2],
    )


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels drawn from n masks: (n, K) flat index, row, column; (n,) count of those that are not padding (a repeated last pixel).

    real: (n, K) bool, what is not padding.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    count: np.ndarray
    real: np.ndarray


def draw_pixels(runs: LabelRuns, width: int, most: int) -> Samples:
    """At most `most` pixels of each mask, evenly spread over every s-th of its rows; s is such that rows and columns are as dense."""
    size = min(most, int(runs.pixels.max()))
    step = np.sqrt(runs.pixels / size).astype(np.intp)
    step = np.maximum(np.minimum(step, runs.size_wh[:, 1] // 8), 1)
    chosen, mask, length, pixels = _every_row(runs, step)
    striped = pixels * step < 0.5 * runs.pixels  # a mask may have its pixels in the rows between
    if striped.any():
        step[striped] = 1
        chosen, mask, length, pixels = _every_row(runs, step)
    count = np.minimum(pixels, size)
    stretch = pixels / count
    rank = np.minimum(stretch[:, None] * (np.arange(size) + MIDDLE), (pixels - 0.5)[:, None])  # beyond the last pixel: padding
    # how many of a mask's drawn pixels come before the end of each run; its last run takes the padding too
    end = length.cumsum()
    last = np.bincount(mask).cumsum() - 1
    own_end = end - (end[last] - pixels.astype(np.intp))[mask]
    before = np.ceil(own_end / stretch[mask] - MIDDLE).astype(np.intp) + mask * size
    before[last] = np.arange(1, last.size + 1) * size
    drawn = np.diff(before, prepend=0)
    row = runs.row[chosen].repeat(drawn).reshape(rank.shape)
    column = rank.astype(np.intp) + (runs.right[chosen] - own_end).repeat(drawn).reshape(rank.shape)
    return Samples(row * width + column, row, column, count, np.arange(size) < count[:, None])


def _every_row(runs: LabelRuns, step: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, masks and lengths of the runs in every step-th row of their mask's box; (n,) float64 pixels in them."""
    from_first = runs.row - (runs.box_xyxy[:, 1] + step // 2)[runs.mask]
    chosen = np.flatnonzero(from_first % step[runs.mask] == 0)
    mask, length = runs.mask[chosen], runs.length[chosen]
    return chosen, mask, length, np.bincount(mask, length, len(step))


def inside_rim(labels: np.ndarray, runs: LabelRuns, samples: Samples, radius_px: int) -> np.ndarray:
    """(n, K) bool: radius_px towards the four corners the label is the same; beyond the image border nothing is missing."""
    if not radius_px:
        return np.ones(samples.index.shape, bool)
    height, width = labels.shape
    own = runs.label[:, None]
    up, down = np.maximum(samples.row - radius_px, 0), np.minimum(samples.row + radius_px, height - 1)
    left, right = np.maximum(samples.column - radius_px, 0), np.minimum(samples.column + radius_px, width - 1)
    upper = (labels[up, left] == own) & (labels[up, right] == own)
    return upper & (labels[down, left] == own) & (labels[down, right] == own)


def row_counts(chosen: np.ndarray) -> np.ndarray:
    """(n,) number of True in each row of an (n, K) bool matrix."""
    return np.add.reduce(chosen, axis=1, dtype=np.int32)


def row_quantiles(value: np.ndarray, chosen: np.ndarray, count: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """(..., n, len(fractions)) float64 quantiles of the chosen ones in each row of (..., n, K) float32 values.

    chosen: (n, K) bool; count: (n,) how many of each row are chosen. NaN where none is.
    """
    ordered = np.sort(np.where(chosen, value, np.float32(np.nan)), axis=-1)  # NaN goes to the end
    place = np.multiply.outer(np.maximum(count - 1, 0), fractions)
    below = place.astype(np.intp)
    above = np.ceil(place).astype(np.intp)
    rows = np.arange(len(count))[:, None]
    lower, upper = ordered[..., rows, below], ordered[..., rows, above]
    return lower + (place - below) * (upper - lower)
