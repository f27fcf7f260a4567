"""Masks that follow the silhouette: gaps in the disparity, and from the working size back to the image's."""

from __future__ import annotations

import cv2
import numpy as np


def keep_enclosed(labels: np.ndarray, known: np.ndarray, widest_px: int) -> np.ndarray:
    """(h, w) labels where an unknown pixel keeps or gets a label only if the known pixels on both of its sides, in its row or in its
    column and at most `widest_px` apart, have that label: holes are filled, the strip beside an object that only one camera sees is not."""
    enclosed = np.zeros_like(labels)
    for image, there, out in ((labels, known, enclosed), (labels.T, known.T, enclosed.T)):
        column = np.arange(image.shape[1], dtype=np.int16)
        before = np.maximum.accumulate(np.where(there, column, np.int16(-1)), axis=1)
        after = np.minimum.accumulate(np.where(there, column, np.int16(image.shape[1]))[:, ::-1], axis=1)[:, ::-1]
        rows, columns = np.divmod(
            np.flatnonzero(~there & (before >= 0) & (after < image.shape[1]) & (after - before <= widest_px)), image.shape[1]
        )
        one, other = image[rows, before[rows, columns]], image[rows, after[rows, columns]]
        agree = (one == other) & (one > 0)
        out[rows[agree], columns[agree]] = one[agree]
    return np.where(known, labels, enclosed)


def grow_to_contact(labels: np.ndarray, band: np.ndarray, d: np.ndarray, allowed: np.ndarray, reach_px: np.ndarray) -> np.ndarray:
    """Give the pixels just above the ground (`band`) to the object straight above, where the depth goes on; `reach_px` rows at most."""
    rows = np.arange(labels.shape[0], dtype=np.int16)[:, None]
    last = np.maximum.accumulate(np.where(labels > 0, rows, np.int16(-1)), axis=0)
    broken = np.maximum.accumulate(np.where(band | (labels > 0), np.int16(-1), rows), axis=0)
    above = np.maximum(last, 0)
    joined = band & (last > broken) & (rows - last <= reach_px)
    joined &= np.abs(np.take_along_axis(d, above, axis=0) - d) < allowed
    return np.where(joined, np.take_along_axis(labels, above, axis=0), labels)


def fill_holes(labels: np.ndarray, count: int, largest_share: float) -> np.ndarray:
    """(h, w) labels with every hole closed (a connected component of what is not the object, away from its box's rim) that is smaller than
    `largest_share` of the object around it, whatever is seen through it."""
    from scipy import ndimage

    filled = labels.copy()
    for label, box in enumerate(ndimage.find_objects(labels, max_label=count), 1):
        if box is None or min(labels[box].shape) < 3:
            continue
        part = (labels[box] == label).astype(np.uint8)
        _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - part, connectivity=4)
        at_rim = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
        small = stats[:, cv2.CC_STAT_AREA] < largest_share * int(part.sum())
        small[0] = False
        small[at_rim] = False
        if small.any():
            filled[box][small[holes]] = label
    return filled


def to_full_size(labels: np.ndarray, d: np.ndarray, allowed: np.ndarray, d_full: np.ndarray, stride: int) -> np.ndarray:
    """(H, W) uint16 from the labels of every stride-th pixel: each known pixel takes the label of the one of its four surrounding samples
    that its own disparity agrees with.

    labels uint16, d, allowed float32 px: (ceil(H/stride), ceil(W/stride)); d_full (H, W) float32 px, NaN = unknown; all d + doffs.
    """
    if stride == 1:
        return labels
    width = d_full.shape[1]
    rows, columns = labels.shape
    full = np.ascontiguousarray(enlarge(labels, stride, d_full.shape))
    difference = np.abs(d_full - enlarge(d, stride, d_full.shape))
    with np.errstate(invalid="ignore"):
        v, u = np.divmod(np.flatnonzero(difference > 0.5 * enlarge(allowed, stride, d_full.shape)), width)
    here, best = d_full[v, u], difference[v, u]
    chosen = full[v, u]
    row, column = v // stride, u // stride
    for down, right in ((0, 1), (1, 0), (1, 1)):
        r, c = np.minimum(row + down, rows - 1), np.minimum(column + right, columns - 1)
        away = np.abs(d[r, c] - here)
        better = away < best
        best = np.where(better, away, best)
        chosen = np.where(better, labels[r, c], chosen)
    chosen[best > allowed[row, column]] = 0
    full[v, u] = chosen
    return full


def enlarge(image: np.ndarray, stride: int, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) of `shape` from the samples (ceil(H/stride), ceil(W/stride)) of every stride-th pixel, each repeated."""
    rows, columns = image.shape
    return cv2.resize(image, (columns * stride, rows * stride), interpolation=cv2.INTER_NEAREST)[: shape[0], : shape[1]]
