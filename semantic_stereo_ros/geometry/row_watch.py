"""How far the rows of a pair are apart, cheaply: a few corners whose disparity is known are sought up and down in the right image.

epipolar.py finds out what is wrong with a pair that nothing is known of; this one watches a pair whose disparities were just measured.
The cost does not grow with the image: corners are chosen on a coarse grid, and only small patches are compared (ZNCC).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.types import Disparity, StereoFrame

MIN_POINTS = 12
_CELLS = (8, 10)  # rows, columns: one corner of each at most
_CORNER_PIXELS = 40_000
_HALF, _REACH_X, _REACH_Y = 7, 2, 6
_MIN_SCORE = 0.8
_PERIOD, _REMEMBERED = 10, 5
_MIN_CORNER = 0.02  # of the strongest corner's smaller eigenvalue


@dataclass(frozen=True)
class RowError:
    """points: corners found again. median_abs_px, p90_abs_px: of |y_right - y_left|; median_px: signed. NaN when not `known`."""

    points: int
    median_abs_px: float = float("nan")
    p90_abs_px: float = float("nan")
    median_px: float = float("nan")

    @property
    def known(self) -> bool:
        return self.points >= MIN_POINTS


def measure_rows(frame: StereoFrame, disparity: Disparity) -> RowError:
    """The row error of a rectified pair from at most 80 corners; errors beyond 6 px are not found again and leave it unknown.

    Takes 2 to 3 ms whatever the size of the image. Unknown, too, for a view without corners and for a frame without a right image.
    """
    if frame.right_image is None:
        return RowError(0)
    rows, columns, shifts = _corners(frame, disparity)
    offsets = [_offset(frame, int(r), int(c), float(d)) for r, c, d in zip(rows, columns, shifts)]
    dy = np.array([offset for offset in offsets if offset is not None])
    if len(dy) < MIN_POINTS:
        return RowError(len(dy))
    size = np.abs(dy)
    return RowError(len(dy), float(np.median(size)), float(np.percentile(size, 90)), float(np.median(dy)))


class RowErrorTrend:
    """The row error of a stream: the median of the last measurements, one every _PERIOD frames."""

    def __init__(self) -> None:
        self._frames = 0
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def __call__(self, frame: StereoFrame, disparity: Disparity) -> float | None:
        """px; None while no frame has shown enough corners."""
        if self._frames % _PERIOD == 0:
            found = measure_rows(frame, disparity)
            if found.known:
                self._recent.append(found.median_abs_px)
        self._frames += 1
        return float(np.median(self._recent)) if self._recent else None


def _corners(frame: StereoFrame, disparity: Disparity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, disparities px) of Shi-Tomasi corners, by NMS the strongest of each cell whose disparity is known and whose search
    stays inside."""
    height, width = frame.shape
    stride = max(1, round((height * width / _CORNER_PIXELS) ** 0.5))
    coarse = _grey(frame.left[::stride, ::stride]).astype(np.float32)
    strength = cv2.cornerMinEigenVal(coarse, 3)
    d = disparity.disparity_px[::stride, ::stride]
    row, column = np.arange(d.shape[0])[:, None] * stride, np.arange(d.shape[1]) * stride
    margin = _HALF + _REACH_Y + 1
    with np.errstate(invalid="ignore"):
        x_right = column - d
        possible = (x_right >= margin) & (x_right < width - margin) & (column >= margin) & (column < width - margin)
    strength[~(possible & (row >= margin) & (row < height - margin))] = 0
    cell_h, cell_w = (max(1, n // parts) for n, parts in zip(strength.shape, _CELLS))
    down, across = strength.shape[0] // cell_h, strength.shape[1] // cell_w
    cells = strength[: down * cell_h, : across * cell_w].reshape(down, cell_h, across, cell_w).swapaxes(1, 2).reshape(down, across, -1)
    best = cells.argmax(axis=2)
    i, j = np.nonzero(cells.max(axis=2) > _MIN_CORNER * strength.max(initial=0.0))
    r, c = i * cell_h + best[i, j] // cell_w, j * cell_w + best[i, j] % cell_w
    return r * stride, c * stride, d[r, c]


def _offset(frame: StereoFrame, row: int, column: int, shift_px: float) -> float | None:
    """y_right - y_left of one corner to a fraction of a pixel, or None where it is not found again for sure."""
    x = round(column - shift_px)
    template = _patch(frame.left, row, column, _HALF, _HALF)
    window = _patch(frame.right, row, x, _HALF + _REACH_Y, _HALF + _REACH_X)
    scores = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
    at, across = divmod(int(scores.argmax()), scores.shape[1])
    if scores[at, across] < _MIN_SCORE or not 0 < at < scores.shape[0] - 1:
        return None
    above, peak, below = (float(s) for s in scores[at - 1 : at + 2, across])
    bend = above - 2 * peak + below
    return at - _REACH_Y + (0.5 * (above - below) / bend if bend < 0 else 0.0)


def _patch(image: np.ndarray, row: int, column: int, half_height: int, half_width: int) -> np.ndarray:
    part = _grey(image[row - half_height : row + half_height + 1, column - half_width : column + half_width + 1])
    return part.astype(np.float32)


def _grey(image: np.ndarray) -> np.ndarray:
    """Green stands for grey: no conversion of what is not looked at."""
    return image if image.ndim == 2 else image[..., 1]
