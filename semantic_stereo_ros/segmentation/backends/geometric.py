"""Objects from geometry alone: what stands on the ground or hangs before it, cut apart where the depth steps. No weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.geometry.ground import estimate_ground
from semantic_stereo_ros.geometry.points import ray_tables
from semantic_stereo_ros.options import option
from semantic_stereo_ros.segmentation import edges
from semantic_stereo_ros.segmentation.geometric import background, mask_filling, region_merging, region_shape, silhouettes
from semantic_stereo_ros.segmentation.geometric.slanted_merging import join_slants
from semantic_stereo_ros.types import (
    CLASS_STRUCTURE,
    LEVEL_STRUCTURE,
    Disparity,
    GroundPlane,
    Instance,
    LabelLayer,
    Segmentation,
    StereoFrame,
)

_WORK_PIXELS = 110_000
_WIDEST_BRIDGE_M = 0.4
_WIDEST_FILL_PIXELS = 3.0
_WALL_PX = np.float32(1.2)  # noise of neighbours is alike: it makes patches that a tolerance per pixel lets through
_HIGHEST_TERRAIN_M = 0.4
_FLAT_M = 0.08
_CONTACT_M = 0.015
_LARGEST_HOLE = 0.1
_USUAL_RANGE_M = 4.0
_KNOWN_SHARE, _KNOWN_SIZE = 0.5, 1.6  # what was an object in the last frame, by this share of it, stays one up to so much the largest size


@dataclass(frozen=True)
class Config:
    """Options of the geometric backend."""

    ground: bool = option(True, "look for a ground plane and take it out; off for views straight down or without a floor")
    min_pixels: int = option(150, "smallest object", unit="px", minimum=9)
    min_height_m: float = option(
        0.12, "an object must rise this far above the ground; less in a scene nearer than 4 m", unit="m", minimum=0.0, maximum=5.0
    )
    min_score: float = option(0.45, "drop objects with a lower score: outline, share of known pixels, confidence", minimum=0.0, maximum=1.0)
    max_range_m: float = option(40.0, "ignore what is farther away", unit="m", minimum=0.1, maximum=1000.0)
    max_size_m: float = option(5.0, "anything larger is a structure: a wall, a building, a hedge", unit="m", minimum=0.1, maximum=1000.0)
    edge_strength: float = option(3.0, "a depth step is an edge from this many sigmas on", unit="sigma", minimum=0.5, maximum=20.0)
    min_gap_m: float = option(0.1, "and only if it exceeds this gap; less in a scene nearer than 4 m", unit="m", minimum=0.0, maximum=5.0)


class Backend:
    """Serves one stream; keeps the last ground plane as a hint, and the last objects so that a size near the limit does not flicker."""

    stateful = True
    needs_disparity = True
    accepts_prompts = False

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Config()
        self._ground: GroundPlane | None = None
        self._before: np.ndarray | None = None

    def check(self) -> None:
        """No option can be wrong by itself."""

    def load(self) -> None:
        """Import what the first frame would else wait for."""
        from scipy import ndimage  # noqa: F401
        from scipy.sparse import csgraph  # noqa: F401

    def reset(self, reason: str) -> None:
        """Forget the last ground plane and the last objects."""
        self._ground = self._before = None

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
        config = _of_this_range(config, disparity, 4 * stride)
        view = _look(disparity, self._ground, config, stride)
        if view is None:
            self._before = None
            return Segmentation((LabelLayer(np.zeros(frame.shape, np.uint16)),), (), self._ground)
        if self._before is not None and self._before.shape != view.d.shape:
            self._before = None
        labels, stands_out, structures = _objects(view, disparity, self._ground, config, self._before)
        self._before = labels > 0
        labels = mask_filling.to_full_size(
            labels, view.d, view.allowed, disparity.disparity_px + np.float32(disparity.rig.doffs_px), stride
        )
        labels = silhouettes.trim(labels, silhouettes.grey8(frame), stride)
        objects = _records(labels, stands_out, disparity, config, self._ground, stride)
        return _with_structures(objects, structures, disparity, stride)


def _of_this_range(config: Config, disparity: Disparity, stride: int) -> Config:
    """The thresholds for a scene as near as this one, by its median depth: from 4 m on they are the config's. Nearer, heights go with the
    depth, as what stands on a table goes with a room, and gaps with its square, as the depth of one pixel of disparity does."""
    shifted = disparity.disparity_px[::stride, ::stride] + np.float32(disparity.rig.doffs_px)
    known = shifted[shifted > 0]
    if not known.size:
        return config
    share = min(1.0, disparity.rig.bf / float(np.median(known)) / _USUAL_RANGE_M)
    return replace(config, min_height_m=config.min_height_m * share, min_gap_m=config.min_gap_m * share**2)


@dataclass(frozen=True, eq=False)
class _View:
    """Every stride-th pixel of a frame, all (h, w). known: bool. d: d + doffs, px, and sigma, px: gaps filled from the nearest known pixel.
    allowed: largest step within one surface, px. xyz: points, m. height: above the ground, m (-y without one). near: in range, neither
    wall nor uneven ground; core: near and clearly above the ground."""

    stride: int
    known: np.ndarray
    d: np.ndarray
    sigma: np.ndarray
    allowed: np.ndarray
    xyz: tuple[np.ndarray, np.ndarray, np.ndarray]
    height: np.ndarray
    near: np.ndarray
    core: np.ndarray


def _look(disparity: Disparity, ground: GroundPlane | None, config: Config, stride: int) -> _View | None:
    """The view without what is no object; None when nothing is known."""
    rig = disparity.rig
    d = disparity.disparity_px[::stride, ::stride] + np.float32(rig.doffs_px)
    sigma = disparity.sigma_px[::stride, ::stride]
    with np.errstate(invalid="ignore"):
        known = (d > 0) & (sigma >= 0)
    if not known.any():
        return None
    distance, (d, sigma) = edges.fill_from_nearest(known, d, sigma)
    allowed = edges.allowed_step_px(d, sigma, rig, stride, config.edge_strength, config.min_gap_m)
    near = (distance <= _WIDEST_FILL_PIXELS) & (d > rig.bf / config.max_range_m)
    tolerance = np.float32(config.edge_strength) * sigma
    for abc in background.background_planes(planes.sample_grid(disparity), rig, ground):
        on_plane = np.abs(d - planes.plane_disparity(abc, rig, stride)) < np.maximum(tolerance, _WALL_PX)
        if not background.stands_out(on_plane, d, allowed):
            near &= ~on_plane
    x_over_z, y_over_z = ray_tables(rig)
    z = np.float32(rig.bf) / d
    xyz = (z * x_over_z[::stride], z * y_over_z[::stride, None], z)
    if ground is None:
        return _View(stride, known, d, sigma, allowed, xyz, -xyz[1], near, near)
    on_ground = planes.plane_disparity(planes.coefficients_of_plane(ground, rig), rig, stride)
    height = np.float32(ground.offset_m) * (1 - on_ground / d)
    near &= ~background.terrain(d, height, near & (np.abs(height) < _HIGHEST_TERRAIN_M), ground, rig, stride)
    # Pixels just above the ground are left out at first: noise there would join everything that stands on it.
    core = near & (height > 0.6 * config.min_height_m) & (d - on_ground > tolerance)
    return _View(stride, known, d, sigma, allowed, xyz, height, near, core)


def _objects(
    view: _View, disparity: Disparity, ground: GroundPlane | None, config: Config, before: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(h, w) uint16 labels; by label the share of the outline that is nearer than what lies beside; (h, w) uint16 labels of structures.
    before: (h, w) bool, what was an object in the last frame."""
    rig, d, allowed = disparity.rig, view.d, view.allowed
    count, labels, d_inside = region_merging.cut_into_pieces(view.core, d, 0.7 * allowed)
    count, labels = region_merging.join_pieces(labels, count, d_inside, allowed)
    count, labels = region_merging.bridge_pieces(labels, count, d, allowed, np.float32(_WIDEST_BRIDGE_M / rig.baseline_m / view.stride) * d)
    smallest = max(1, config.min_pixels // view.stride**2)

    def describe(labels: np.ndarray, count: int) -> region_shape.Regions:
        return region_shape.describe(labels, count, max(1, smallest // 4), view.xyz, view.height, d, allowed)

    joined, with_sides = join_slants(labels, count, d, allowed)
    if joined < count:
        too_large = describe(with_sides, joined).size_m.max(axis=1) > config.max_size_m
        count, labels = region_merging.join_unless(too_large, labels, with_sides)
    measured = describe(labels, count)
    if ground is not None:
        flat = (measured.pixels > 0) & (measured.high_m - measured.low_m < _FLAT_M) & (measured.high_m > config.min_height_m)
        joined, with_tops = region_merging.join_tops(labels, count, d, allowed, flat)
        if joined < count:
            count, labels = joined, with_tops
            measured = describe(labels, count)
    depth_noise = float(np.median(view.sigma[view.core])) / rig.bf if view.core.any() else 0.0
    largest_m = np.full(count + 1, config.max_size_m)
    if before is not None:
        known = np.bincount(labels[before], minlength=count + 1)
        largest_m[known > _KNOWN_SHARE * measured.pixels] *= _KNOWN_SIZE
    keep, large = region_shape.worth_keeping(measured, smallest, largest_m, depth_noise, d.size, ground, config.min_height_m)
    structures = _renumbered(labels, large) * view.known
    labels = _renumbered(labels, keep)
    if ground is not None:
        reach = np.float32(1.5 * config.min_height_m * rig.fy / (rig.bf * view.stride)) * d
        labels = mask_filling.grow_to_contact(labels, view.near & (labels == 0) & (view.height > _CONTACT_M), d, allowed, reach)
    labels = mask_filling.fill_holes(mask_filling.keep_enclosed(labels, view.known, d.shape[1] // 16), int(labels.max()), _LARGEST_HOLE)
    stands_out = measured.outline_front / np.maximum(measured.outline, 1)
    return labels, np.concatenate([[0.0], stands_out[keep]]), structures


def _renumbered(labels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """uint16 labels 1..N of what is kept in order, 0 for the rest."""
    number = np.zeros(len(keep), np.uint16)
    number[keep] = np.arange(1, np.count_nonzero(keep) + 1)
    return number[labels]


def _with_structures(objects: Segmentation, structures: np.ndarray, disparity: Disparity, stride: int) -> Segmentation:
    """The objects, and in a layer of its own what is too large for one. structures: (h, w) uint16 labels of every stride-th pixel."""
    found = range(1, int(structures.max()) + 1)
    if not found:
        return objects
    labels = mask_filling.enlarge(structures, stride, disparity.rig.shape) * (disparity.valid & (objects.labels == 0))
    instances = (Instance(label=i, layer=1, class_id=CLASS_STRUCTURE, class_name=LEVEL_STRUCTURE) for i in found)
    return Segmentation((*objects.layers, LabelLayer(labels, LEVEL_STRUCTURE)), (*objects.instances, *instances), objects.ground)


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
    kept = (pixels >= config.min_pixels) & (scores >= config.min_score)
    kept[0] = False
    instances = tuple(Instance(label=i, score=round(float(score), 3)) for i, score in enumerate(scores[kept], start=1))
    return Segmentation((LabelLayer(_renumbered(labels, kept)),), instances, ground)
