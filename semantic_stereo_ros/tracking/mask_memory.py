"""What is remembered of a mask: sampled pixels, moved and scaled to where the object should be now.

One pass over the samples answers for all objects at once which labels they fall on now (a 2D histogram) and what
disparity stands there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.types import StereoRig

TARGET_PIXELS = 80_000
MAX_SAMPLES = 800
MIN_DEPTH_M = 0.05


@dataclass(frozen=True, eq=False)
class MaskSamples:
    """points_xy: (n, 2) float32 pixels of one mask, on a regular grid; each stands for pixels_each pixels."""

    points_xy: np.ndarray
    pixels_each: float


def sample_masks(labels: np.ndarray, count: int) -> list[MaskSamples]:
    """Samples of labels 1..count of a (H, W) label map, in order of label; every mask of some size gets some."""
    stride = max(1, round((labels.size / TARGET_PIXELS) ** 0.5))
    coarse = np.ascontiguousarray(labels[::stride, ::stride])
    flat = np.flatnonzero(coarse)
    values = coarse.ravel()[flat]
    order = np.argsort(values, kind="stable")
    rows, columns = np.divmod(flat[order], coarse.shape[1])
    points = np.stack([columns, rows], axis=1).astype(np.float32) * stride
    starts = np.searchsorted(values[order], np.arange(1, count + 2))
    samples = []
    for begin, end in itertools.pairwise(starts.tolist()):
        step = max(1, -(-(end - begin) // MAX_SAMPLES))
        samples.append(MaskSamples(points[begin:end:step], float(stride * stride * step)))
    return samples


@dataclass(frozen=True, eq=False)
class MovedMasks:
    """All objects' samples where they should be now, those inside the image only.

    owner: (m,) index of the object; rows, columns: (m,) pixel; pixels_each: (n,) pixels for one sample of each object;
    total: (n,) samples before the image cut them.
    """

    owner: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixels_each: np.ndarray
    total: np.ndarray

    def overlap_px(self, labels: np.ndarray, count: int) -> np.ndarray:
        """(n, count + 1) pixels that each object's moved mask shares with each label; column 0 is the background."""
        table = np.bincount(self.owner * (count + 1) + labels[self.rows, self.columns], minlength=len(self.total) * (count + 1))
        return table.reshape(len(self.total), count + 1) * self.pixels_each[:, None]


def move_masks(samples: list[MaskSamples], anchors_m: np.ndarray, positions_m: np.ndarray, rig: StereoRig) -> MovedMasks:
    """Move samples taken when the object was at `anchors_m` (n, 3) to where it is at `positions_m` (n, 3), camera frame.

    An object that does not turn is shifted by its projection and scaled by the ratio of depths. One without a known
    position (NaN) stays where it was; one behind the camera has no pixels.
    """
    known = np.isfinite(anchors_m.sum(axis=1) + positions_m.sum(axis=1))
    before = np.where(known[:, None], anchors_m, (0.0, 0.0, 1.0))
    after = np.where(known[:, None], positions_m, (0.0, 0.0, 1.0))
    in_front = (after[:, 2] > MIN_DEPTH_M) & (before[:, 2] > MIN_DEPTH_M)
    before_z, after_z = np.maximum(before[:, 2], MIN_DEPTH_M), np.maximum(after[:, 2], MIN_DEPTH_M)
    scale = before_z / after_z
    focal, centre = np.array([rig.fx, rig.fy]), np.array([rig.cx, rig.cy])
    shift = focal * (after[:, :2] / after_z[:, None]) - focal * (before[:, :2] / before_z[:, None]) * scale[:, None]
    shift += centre * (1.0 - scale)[:, None]
    total = np.array([len(s.points_xy) if front else 0 for s, front in zip(samples, in_front)], dtype=np.intp)
    owner = np.repeat(np.arange(len(samples)), total)
    kept = [s.points_xy for s, front in zip(samples, in_front) if front]
    points = np.concatenate(kept) if kept else np.zeros((0, 2), np.float32)
    moved: np.ndarray = np.rint(np.clip(points * scale[owner, None] + shift[owner], -1e6, 1e6)).astype(np.intp)
    width, height = rig.size_wh
    columns, rows = moved[:, 0], moved[:, 1]
    in_image = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    inside = np.flatnonzero(in_image)
    return MovedMasks(
        owner=owner[inside],
        rows=rows[inside],
        columns=columns[inside],
        pixels_each=np.array([s.pixels_each for s in samples]) * scale**2,
        total=total,
    )
