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
    change = np.empty(flat.size // 8 * 8 + 8, bool)
    change[flat.size :] = False
    np.not_equal(flat[1:], flat[:-1], out=change[1 : flat.size])
    change[: flat.size + 1 : width] = True  # a run ends with its row, the last one too
    # eight pixels at a time: most hold no edge
    words = change.view(np.uint64)
    word = (words != 0).nonzero()[0]
    inside = words.take(word).view(bool).nonzero()[0]
    edge = word.take(inside >> 3)
    edge <<= 3
    edge += inside & 7
    label = pick(flat, edge[:-1])
    is_wanted = np.zeros(1 << 16, bool)
    is_wanted[wanted] = True
    order = is_wanted.take(label).nonzero()[0]
    label = label.take(order)
    order = order.take(label.argsort(kind="stable"))
    count = np.bincount(label)
    found = count.nonzero()[0]
    count = count.take(found)
    start = edge.take(order)
    order += 1
    length = edge.take(order) - start
    row = start // width
    left = start - row * width
    right = left + length
    if not found.size:
        return LabelRuns(row, right, length, order, label, length, np.zeros((0, 4), np.intp), np.zeros((0, 2), np.intp))
    end = count.cumsum()
    first = end - count
    box = [np.minimum.reduceat(left, first), row.take(first), np.maximum.reduceat(right, first), row.take(end - 1) + 1]
    box_xyxy = np.array(box).T
    return LabelRuns(
        row=row,
        right=right,
        length=length,
        mask=np.arange(found.size).repeat(count),
        label=found.astype(np.uint16),
        pixels=np.add.reduceat(length, first),
        box_xyxy=box_xyxy,
        size_wh=box_xyxy[:, 2:] - box_xyxy[:, :2],
    )


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
    step = np.sqrt(runs.pixels / size).astype(np.intp)
    step = np.maximum(np.minimum(step, runs.size_wh[:, 1] // 8), 1)
    chosen, mask, length, pixels = _every_row(runs, step)
    striped = pixels * step < 0.5 * runs.pixels  # a mask may have its pixels in the rows between
    if striped.any():
        step[striped] = 1
        chosen, mask, length, pixels = _every_row(runs, step)
    count = np.minimum(pixels, size)
    stretch = pixels / count
    rank = np.multiply.outer(stretch, np.arange(size) + MIDDLE)
    padded = bool(count.min() < size)
    if padded:
        np.minimum(rank, (pixels - 0.5)[:, None], out=rank)
    # how many of a mask's drawn pixels come before the end of each run; its last run takes the padding too
    end = length.cumsum()
    last = np.bincount(mask).cumsum() - 1
    before_mask = end.take(last) - pixels.astype(np.intp)
    own_end = end - before_mask.take(mask)
    before = np.ceil(own_end / stretch.take(mask) - MIDDLE).astype(np.intp)
    before += mask * size
    before[last] = np.arange(size, last.size * size + 1, size)
    before[1:] -= before[:-1].copy()
    column = rank.astype(np.int32)
    column += (runs.right.take(chosen) - own_end).astype(np.int32).repeat(before).reshape(column.shape)
    row = runs.row.take(chosen).astype(np.int32).repeat(before).reshape(column.shape)
    index = (row * np.int32(width) + column).astype(np.intp)
    real = np.arange(size) < count[:, None] if padded else None
    return Samples(index, row, column, count, real)


def _every_row(runs: LabelRuns, step: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, masks and lengths of the runs in every step-th row of their mask's box; (n,) float64 pixels in them."""
    turn = (runs.row - (runs.box_xyxy[:, 1] + step // 2).take(runs.mask)) / step.take(runs.mask)
    chosen = (turn == np.rint(turn)).nonzero()[0]  # exact for such small integers, and several times faster than their remainder
    mask, length = runs.mask.take(chosen), runs.length.take(chosen)
    return chosen, mask, length, np.bincount(mask, length, len(step))


def inside_rim(labels: np.ndarray, runs: LabelRuns, samples: Samples, radius_px: int) -> np.ndarray:
    """(n, K) bool: radius_px towards the four corners the label is the same; beyond the image border nothing is missing."""
    if not radius_px:
        return np.ones(samples.index.shape, bool)
    height, width = labels.shape
    flat, own = labels.reshape(-1), runs.label[:, None]
    box = runs.box_xyxy
    if min(box[:, :2].min(), width - box[:, 2].max(), height - box[:, 3].max()) >= radius_px:
        corner = samples.index - radius_px * (width + 1)
        label = pick(flat, corner)
        inside = label == own
        for step in (2 * radius_px, 2 * radius_px * width, 2 * radius_px * (width + 1)):
            inside &= pick(flat[step:], corner) == label
        return inside
    left, right = np.minimum(samples.column, radius_px), np.minimum(width - 1 - samples.column, radius_px)
    up, down = np.minimum(samples.row, radius_px) * width, np.minimum(height - 1 - samples.row, radius_px) * width
    inside = pick(flat, samples.index - (up + left)) == own
    inside &= pick(flat, samples.index + (right - up)) == own
    inside &= pick(flat, samples.index + (down - left)) == own
    inside &= pick(flat, samples.index + (down + right)) == own
    return inside


def pick(image: np.ndarray, index: np.ndarray) -> np.ndarray:
    """image's pixels at flat indices, all of which must lie inside: of take's modes "wrap" is the fastest where nothing wraps."""
    return image.reshape(-1).take(index, mode="wrap")


def row_counts(chosen: np.ndarray) -> np.ndarray:
    """(n,) number of True in each row of an (n, K) bool matrix."""
    return np.add.reduce(chosen, axis=1, dtype=np.int32)


def row_quantiles(value: np.ndarray, chosen: np.ndarray | None, count: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    """(..., n, len(fractions)) float64 quantiles of the chosen ones (all, if None) in each row of (..., n, K) float32 values.

    chosen: (n, K) bool; count: (n,) how many of each row are chosen. NaN where none is.
    """
    if chosen is None:
        ordered = np.sort(value, axis=-1)
    else:
        # all bits set is a NaN: what is not chosen is sorted to the end
        blank = np.subtract(chosen.view(np.int8), 1, dtype=np.int32)
        ordered = (blank | value.view(np.int32)).view(np.float32)
        ordered.sort(axis=-1)
    place = np.multiply.outer(count - 1, fractions)
    below = place.astype(np.intp)  # of none, too: what is above -1 becomes 0
    place -= below
    below = below + np.arange(0, ordered.size, ordered.shape[-1]).reshape(*ordered.shape[:-1], 1)
    lower, upper = ordered.take(below), ordered.take(below + (place > 0))
    upper -= lower
    return lower + place * upper


def either(chosen: np.ndarray, value: np.ndarray, other: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out, (n, K) float32: value where chosen, other elsewhere; both float32 and finite. np.where branches, pixel by pixel, on noise."""
    result = np.subtract(value, other, out=out)
    result *= chosen
    result += other
    return result
