"""Cells: squares of the image that hold one surface of known truth, measured as if they were objects.

They judge an object's sigma where nobody outlined objects, and without the masks' own faults.
"""

from __future__ import annotations

import numpy as np

COLUMNS = 16
SMALLEST_PX, LARGEST_PX = 32, 48
KNOWN_SHARE = 1 / 3
MIN_KNOWN = 100
RESIDUAL_IQR_PX = 0.75
LARGEST_IQR_PX = 6.0


def cell_truth(truth_px: np.ndarray, truth_step_px: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (H, W) int32 of the squares that count, 0 elsewhere, and (N,) their median true disparities in px.

    truth_px: (H, W) float32, NaN unknown; truth_step_px: the step that it is stored in, 0 for a fine one.

    The image is cut into whole squares of a sixteenth of its width (32 to 48 px). A square counts when

    - it is seen evenly: each of its quarters has at least a third of the share of known pixels that the best-seen tenth of the squares
      have (a third of all pixels where the truth is dense, about a tenth in lidar), and the square at least 100 known pixels;
    - it is one surface: the interquartile range of its true disparities is at most 6 px, that of their distances to the square's plane
      (least squares in column and row) at most 0.75 px or one of the truth's own steps, and 90 % of these lie at most three times as wide.

    The true median is that of the known pixels and, where the truth is unknown, of the plane: lidar leaves lines out, which would shift the
    median of a slanted square.
    """
    height, width = truth_px.shape
    side = cell_side_px(width)
    rows, columns = height // side, width // side
    labels = np.zeros(truth_px.shape, np.int32)
    medians: list[float] = []
    if not rows or not columns:
        return labels, np.zeros(0)
    blocks = truth_px[: rows * side, : columns * side].reshape(rows, side, columns, side).transpose(0, 2, 1, 3)
    needed = KNOWN_SHARE * np.quantile(np.isfinite(blocks).mean(axis=(2, 3)), 0.9)
    for row, column in np.ndindex(rows, columns):
        median = _true_median(blocks[row, column].astype(np.float64), needed, max(RESIDUAL_IQR_PX, truth_step_px))
        if median is not None:
            medians.append(median)
            labels[row * side : (row + 1) * side, column * side : (column + 1) * side] = len(medians)
    return labels, np.array(medians)


def cell_side_px(width: int) -> int:
    """Side of the squares of an image of this width."""
    return min(max(round(width / COLUMNS), SMALLEST_PX), LARGEST_PX)


def _true_median(cell_px: np.ndarray, needed: float, residual_limit_px: float) -> float | None:
    """Median of a square with its unknown pixels filled by its plane; None where it does not count."""
    known = np.isfinite(cell_px)
    half = len(cell_px) // 2
    quarters = (known[:half, :half], known[:half, half:], known[half:, :half], known[half:, half:])
    if known.sum() < MIN_KNOWN or min(quarter.mean() for quarter in quarters) < needed:
        return None
    values = cell_px[known]
    first, last = np.quantile(values, (0.25, 0.75))
    if last - first > LARGEST_IQR_PX:
        return None
    row, column = np.indices(cell_px.shape)
    design = np.stack([column, row, np.ones_like(row)], axis=-1).astype(np.float64)
    plane = design @ np.linalg.lstsq(design[known], values, rcond=None)[0]
    low, first, last, high = np.quantile(values - plane[known], (0.05, 0.25, 0.75, 0.95))
    if last - first > residual_limit_px or high - low > 3 * residual_limit_px:
        return None
    return float(np.median(np.where(known, cell_px, plane)))
