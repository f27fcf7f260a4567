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
    """The horizontal runs of n masks, mask after mask in raster order: (M,) flat start index, length, row of the image, mask 0..n-1.

    By mask: label (n,), pixels (n,), box_xyxy (n, 4) with the maximum exclusive.
    """

    start: np.ndarray
    length: np.ndarray
    row: np.ndarray
    mask: np.ndarray
    label: np.ndarray
    pixels: np.ndarray
    box_xyxy: np.ndarray


def label_runs(labels: np.ndarray, wanted: np.ndarray) -> LabelRuns:
    """Runs, pixel counts and image boxes of the (k,) wanted labels in a C-contiguous (H, W) uint16 map, in rising order.

    Labels that do not occur are left out.
    """
    width = labels.shape[1]
    flat = labels.reshape(-1)
    change = np.empty(flat.size // 8 * 8 + 8, bool)
    change[flat.size :] = False
    np.not_equal(flat[1:], flat[:-1], out=change[1 : flat.size])
    change[: flat.size + 1 : width] = True  # a run ends with its row, the last one too
    # eight pixels at a time: most hold no edge
    words = change.view(np.uint64)
    word = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words.take(word).view(bool))
    edge = word.take(inside >> 3)
    edge <<= 3
    edge += inside & 7
    label = flat.take(edge[:-1])
    is_wanted = np.zeros(1 << 16, bool)
    is_wanted[wanted] = True
    order = np.flatnonzero(is_wanted.take(label))
    order = order.take(np.argsort(label.take(order), kind="stable"))
    start, label = edge.take(order), label.take(order)
    order += 1
    length = edge.take(order) - start
    row = start // width
    left = start - row * width
    begins = np.empty(label.size, bool)
    begins[:1] = True
    np.not_equal(label[1:], label[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    if not first.size:
        return LabelRuns(start, length, row, order, label, length, np.zeros((0, 4), np.intp))
    mask = np.cumsum(begins)
    mask -= 1
    box = np.empty((first.size, 4), np.intp)
    box[:, 0] = np.minimum.reduceat(left, first)
    left += length
    box[:, 2] = np.maximum.reduceat(left, first)
    box[:, 1] = row.take(first)
    box[:-1, 3] = row.take(first[1:] - 1)
    box[-1, 3] = row[-1]
    box[:, 3] += 1
    return LabelRuns(start, length, row, mask, label.take(first), np.add.reduceat(length, first), box)


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels drawn from n masks: (n, K) flat index, row, column; (n,) count of those that are not padding (a repeated last pixel).

    real: (n, K) bool, what is not padding, or None when nothing is.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    count: np.ndarray
    real: np.ndarray | None


def draw_pixels(runs: LabelRuns, width: int, most: int) -> Samples:
    """At most `most` pixels of each mask, evenly spread over every s-th of its rows; s is such that rows and columns are as dense."""
    size = min(most, int(runs.pixels.max()))
    height = runs.box_xyxy[:, 3] - runs.box_xyxy[:, 1]
    step = np.sqrt(runs.pixels / size).astype(np.intp)
    step = np.maximum(np.minimum(step, height // 8), 1)
    chosen, pixels = _every_row(runs, step)
    striped = pixels * step < 0.5 * runs.pixels  # a mask may have its pixels in the rows between
    if striped.any():
        step[striped] = 1
        chosen, pixels = _every_row(runs, step)
    mask, length = runs.mask.take(chosen), runs.length.take(chosen)
    count = np.minimum(pixels, size)
    stretch = pixels / count
    rank = np.multiply.outer(stretch, np.arange(size) + MIDDLE)
    padded = bool(count.min() < size)
    if padded:
        np.minimum(rank, (pixels - 0.5)[:, None], out=rank)
    # how many of a mask's drawn pixels come before the end of each run; its last run takes the padding too
    end = np.cumsum(length)
    last = np.append(np.flatnonzero(mask[1:] != mask[:-1]), mask.size - 1)
    before_mask = end.take(last) - pixels.astype(np.intp)
    own_end = end - before_mask.take(mask)
    before = np.ceil(own_end / stretch.take(mask) - MIDDLE).astype(np.intp)
    before += mask * size
    before[last] = np.arange(size, last.size * size + 1, size)
    before[1:] -= before[:-1].copy()
    run_of = np.repeat(np.arange(mask.size), before)
    row = runs.row.take(chosen)
    start = runs.start.take(chosen)
    offset = start - row * width
    offset += length
    offset -= own_end
    column = rank.astype(np.intp)
    column += offset.take(run_of).reshape(column.shape)
    row = row.take(run_of).reshape(column.shape)
    index = row * width
    index += column
    real = np.arange(size) < count[:, None] if padded else None
    return Samples(index, row, column, count, real)


def _every_row(runs: LabelRuns, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the runs in every step-th row of their mask's box; (n,) float64 pixels in them."""
    turn = (runs.row - (runs.box_xyxy[:, 1] + step // 2).take(runs.mask)) / step.take(runs.mask)
    chosen = np.flatnonzero(turn == np.rint(turn))  # exact for such small integers, and several times faster than their remainder
    return chosen, np.bincount(runs.mask.take(chosen), runs.length.take(chosen), len(step))


def inside_rim(labels: np.ndarray, runs: LabelRuns, samples: Samples, radius_px: int) -> np.ndarray:
    """(n, K) bool: radius_px towards the four corners the label is the same; beyond the image border nothing is missing."""
    if not radius_px:
        return np.ones(samples.index.shape, bool)
    height, width = labels.shape
    flat, own = labels.reshape(-1), runs.label[:, None]
    left = right = radius_px
    up = down = radius_px * width
    low, high = runs.box_xyxy[:, :2].min(axis=0), runs.box_xyxy[:, 2:].max(axis=0)
    if min(*low, width - high[0], height - high[1]) < radius_px:
        left, right = np.minimum(samples.column, radius_px), np.minimum(width - 1 - samples.column, radius_px)
        up, down = np.minimum(samples.row, radius_px) * width, np.minimum(height - 1 - samples.row, radius_px) * width
    inside = flat.take(samples.index - (up + left)) == own
    inside &= flat.take(samples.index + (right - up)) == own
    inside &= flat.take(samples.index + (down - left)) == own
    inside &= flat.take(samples.index + (down + right)) == own
    return inside


def row_counts(chosen: np.ndarray) -> np.ndarray:
    """(n,) number of True in each row of an (n, K) bool matrix, K below 65536."""
    return np.add.reduce(chosen.view(np.uint8), axis=1, dtype=np.uint16).astype(np.intp)


def row_quantiles(value: np.ndarray, chosen: np.ndarray | None, fractions: tuple[float, ...]) -> np.ndarray:
    """(len(fractions), n) float64 quantiles of the chosen ones (all, by default) in each row of (n, K) float32 values.

    NaN where none is chosen.
    """
    rows, size = value.shape
    if chosen is None:
        ordered = np.sort(value, axis=1)
        place = np.multiply.outer(fractions, np.full(rows, size - 1.0))
    else:
        count = row_counts(chosen)
        # all bits set is a NaN: what is not chosen is sorted to the end
        blank = np.subtract(chosen.view(np.int8), 1, dtype=np.int32)
        blank |= value.view(np.int32)
        ordered = blank.view(np.float32)
        ordered.sort(axis=1)
        place = np.multiply.outer(fractions, np.maximum(count - 1, 0))
    below = place.astype(np.intp)
    place -= below
    below += np.arange(0, rows * size, size)
    lower = ordered.take(below)
    upper = ordered.take(below + (place > 0))
    upper -= lower
    place *= upper
    place += lower
    return place


def either(chosen: np.ndarray, value: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, K) float32: value where chosen, other elsewhere; both float32 and finite. np.where branches, pixel by pixel, on noise."""
    result = value - other
    result *= chosen
    result += other
    return result
