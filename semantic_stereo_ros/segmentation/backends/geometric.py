"""Objects from geometry alone: what stands on the ground or hangs before it, cut apart where the depth steps. No weights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.geometry.ground import estimate_ground
from semantic_stereo_ros.geometry.points import ray_tables
from semantic_stereo_ros.options import option
from semantic_stereo_ros.segmentation import edges, masks, pieces, regions, silhouettes
from semantic_stereo_ros.segmentation.background import background_planes, terrain
from semantic_stereo_ros.types import Disparity, GroundPlane, Instance, LabelLayer, Segmentation, StereoFrame

_WORK_PIXELS = 110_000
_WIDEST_BRIDGE_M = 0.4
_HIGHEST_TERRAIN_M = 0.4


@dataclass(frozen=True)
class Config:
    """Options of the geometric backend."""

    ground: bool = option(True, "look for a ground plane and take it out; off for views straight down or without a floor")
    min_pixels: int = option(150, "smallest object", unit="px", minimum=9)
    min_height_m: float = option(0.12, "an object must rise this far above the ground", unit="m", minimum=0.0, maximum=5.0)
    min_score: float = option(0.45, "drop objects with a lower score: outline, share of known pixels, confidence", minimum=0.0, maximum=1.0)
    max_range_m: float = option(40.0, "ignore what is farther away", unit="m", minimum=0.1, maximum=1000.0)
    max_size_m: float = option(5.0, "anything larger is background: a wall, a building", unit="m", minimum=0.1, maximum=1000.0)
    edge_strength: float = option(3.0, "a depth step is an edge from this many sigmas on", unit="sigma", minimum=0.5, maximum=20.0)
    min_gap_m: float = option(0.1, "and only if it exceeds this gap", unit="m", minimum=0.0, maximum=5.0)


class Backend:
    """Serves one stream; keeps the last ground plane as a hint for the next frame."""

    stateful = True
    needs_disparity = True
    accepts_prompts = False
    max_batch = 1

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Config()
        self._ground: GroundPlane | None = None

    def load(self) -> None:
        """Nothing to load."""

    def reset(self, reason: str) -> None:
        """Forget the last ground plane."""
        self._ground = None

    def close(self) -> None:
        """Nothing to free."""

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        """Objects of one frame, layer 'object'. Raises ImageError without a disparity or with one of another size."""
        if disparity is None:
            raise ImageError(
                "the geometric segmentation needs a disparity map, got None: set the backend's needs_disparity or choose another"
            )
        if disparity.rig.shape != frame.shape:
            raise ImageError(f"the disparity is for shape {disparity.rig.shape} but the image has {frame.shape}: match the two")
        config = self._config
        if config.ground:
            self._ground = estimate_ground(disparity, prior=self._ground)
        stride = max(1, round((frame.shape[0] * frame.shape[1] / _WORK_PIXELS) ** 0.5))
        labels, scores = _segment(disparity, self._ground, config, stride)
        labels = silhouettes.trim(labels, silhouettes.grey8(frame), stride)
        return _records(labels, scores, disparity, config, self._ground, stride)


def _segment(disparity: Disparity, ground: GroundPlane | None, config: Config, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) uint16 labels and, by label, how much of each outline stands out."""
    rig = disparity.rig
    d_full = disparity.disparity_px + np.float32(rig.doffs_px)
    d = d_full[::stride, ::stride]
    sigma = disparity.sigma_px[::stride, ::stride]
    with np.errstate(invalid="ignore"):
        known = (d > 0) & (sigma >= 0)
    if not known.any():
        return np.zeros(d_full.shape, np.uint16), np.zeros(1)
    distance, (d, sigma) = edges.fill_from_nearest(known, d, sigma)
    allowed = edges.allowed_step_px(d, sigma, rig, stride, config.edge_strength, config.min_gap_m)
    near = (distance <= 3.0) & (d > rig.bf / config.max_range_m)
    tolerance = np.float32(config.edge_strength) * sigma
    for abc in background_planes(planes.sample_grid(disparity), rig, ground):
        on_plane = np.abs(d - planes.plane_disparity(abc, rig, stride)) < tolerance
        if not _stands_out(on_plane, d, allowed):
            near &= ~on_plane
    x_over_z, y_over_z = ray_tables(rig)
    z = rig.bf / d
    y = z * y_over_z[::stride, None]
    if ground is None:
        height, core = -y, near
    else:
        on_ground = planes.plane_disparity(planes.coefficients_of_plane(ground, rig), rig, stride)
        height = np.float32(ground.offset_m) * (1 - on_ground / d)
        near &= ~terrain(d, height, near & (np.abs(height) < _HIGHEST_TERRAIN_M), ground, rig, stride)
        core = near & (height > 0.6 * config.min_height_m) & (d - on_ground > tolerance)
    count, labels, d_inside = pieces.cut_into_pieces(core, d, 0.7 * allowed)
    count, labels = pieces.join_pieces(labels, count, d_inside, allowed)
    count, labels = pieces.bridge_pieces(labels, count, d, allowed, np.float32(_WIDEST_BRIDGE_M / rig.baseline_m / stride) * d)
    xyz = (z * x_over_z[::stride], y, z)
    smallest = max(1, config.min_pixels // (stride * stride))
    measured = regions.describe(labels, count, max(1, smallest // 4), xyz, height, d, allowed)
    if ground is not None:
        flat = (measured.pixels > 0) & (measured.high_m - measured.low_m < 0.08) & (measured.high_m > config.min_height_m)
        joined, labels_joined = pieces.join_tops(labels, count, d, allowed, flat)
        if joined < count:
            count, labels = joined, labels_joined
            measured = regions.describe(labels, count, smallest, xyz, height, d, allowed)
    size = measured.size_m.copy()
    noise = np.float32(4.0 / rig.bf) * np.square(measured.center_m[:, 2]) * np.float32(np.median(sigma[core])) if core.any() else 0.0
    size[:, 2] = np.maximum(0.0, size[:, 2] - noise)
    keep = (measured.pixels >= smallest) & (size.max(axis=1) <= config.max_size_m)
    keep &= measured.outline_front >= 0.15 * measured.outline
    keep &= (measured.pixels < 0.2 * d.size) | (measured.front_share > 0.7)
    if ground is not None:
        keep &= measured.high_m >= config.min_height_m + 3 * ground.sigma_m
        keep &= (measured.high_m > 0.4) | (measured.size_m.max(axis=1) < 5 * measured.high_m)
    keep[0] = False
    renumber = np.zeros(count + 1, np.uint16)
    renumber[keep] = np.arange(1, np.count_nonzero(keep) + 1)
    labels = renumber[labels]
    if ground is not None:
        reach = np.float32(1.5 * config.min_height_m * rig.fy / (rig.bf * stride)) * d
        labels = _grow_to_contact(labels, near & (labels == 0) & (height > 0.015), d, allowed, reach)
    labels = masks.fill_holes(masks.keep_enclosed(labels, known, d.shape[1] // 16), int(labels.max()), 0.1)
    scores = np.concatenate([[0.0], (measured.outline_front / np.maximum(measured.outline, 1))[keep]])
    return masks.to_full_size(labels, d, allowed, d_full, stride), scores


def _stands_out(mask: np.ndarray, d: np.ndarray, allowed: np.ndarray) -> bool:
    """True when much of the outline of (h, w) `mask` is nearer than what is beside it: the face of an object, not a wall."""
    smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    front, _, outline = regions.outlines(smooth.astype(np.int32), 1, d, allowed)
    return bool(front[1] > 0.3 * max(int(outline[1]), 1))


def _grow_to_contact(labels: np.ndarray, band: np.ndarray, d: np.ndarray, allowed: np.ndarray, reach_px: np.ndarray) -> np.ndarray:
    """Give the pixels just above the ground to the object straight above them, where the depth goes on; `reach_px` rows at most."""
    rows = np.arange(labels.shape[0], dtype=np.int16)[:, None]
    last = np.maximum.accumulate(np.where(labels > 0, rows, np.int16(-1)), axis=0)
    above = np.maximum(last, 0)
    broken = np.maximum.accumulate(np.where(band | (labels > 0), np.int16(-1), rows), axis=0)
    joined = band & (last > broken) & (rows - last <= reach_px)
    joined &= np.abs(np.take_along_axis(d, above, axis=0) - d) < allowed
    return np.where(joined, np.take_along_axis(labels, above, axis=0), labels)


def _records(
    labels: np.ndarray, stands_out: np.ndarray, disparity: Disparity, config: Config, ground: GroundPlane | None, stride: int
) -> Segmentation:
    """Number the labels that are left 1..N. The score is high for an object whose outline stands out, that was measured and is not tiny."""
    count = len(stands_out)
    pixels = cv2.calcHist([labels], [0], None, [count], [0, count]).ravel()
    sparse = labels[::stride, ::stride].ravel()
    sampled = np.maximum(np.bincount(sparse, minlength=count), 1)
    known = np.bincount(sparse, weights=disparity.valid[::stride, ::stride].ravel(), minlength=count) / sampled
    sure = np.bincount(sparse, weights=disparity.confidence[::stride, ::stride].ravel(), minlength=count) / sampled
    scores = np.minimum(1.0, 0.4 + 1.2 * stands_out) * np.minimum(known, sure / 0.8)
    scores *= pixels / (pixels + 0.5 * config.min_pixels)
    kept = np.flatnonzero((pixels >= config.min_pixels) & (scores >= config.min_score))
    kept = kept[kept > 0]
    renumbered = np.zeros(count, np.uint16)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    instances = tuple(Instance(label=i, score=round(float(score), 3)) for i, score in enumerate(scores[kept], start=1))
    return Segmentation((LabelLayer(renumbered[labels]),), instances, ground)
