"""Objects from geometry alone: what stands on the ground or hangs before it, cut apart where the depth steps. No weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.geometry.ground import estimate_ground
from semantic_stereo_ros.geometry.points import ray_tables
from semantic_stereo_ros.options import option
from semantic_stereo_ros.segmentation import edges
from semantic_stereo_ros.types import Disparity, GroundPlane, Instance, LabelLayer, Segmentation, StereoFrame

_WORK_PIXELS = 110_000


@dataclass(frozen=True)
class Config:
    """Options of the geometric backend."""

    ground: bool = option(True, "look for a ground plane and take it out; off for views straight down or without a floor")
    min_pixels: int = option(150, "smallest object", unit="px", minimum=9)
    min_height_m: float = option(0.12, "an object must rise this far above the ground", unit="m", minimum=0.0, maximum=5.0)
    max_range_m: float = option(40.0, "ignore what is farther away", unit="m", minimum=0.1, maximum=1000.0)
    max_size_m: float = option(6.0, "anything larger is background: a wall, a building", unit="m", minimum=0.1, maximum=1000.0)
    edge_strength: float = option(3.0, "a depth step is an edge from this many sigmas on", unit="sigma", minimum=0.5, maximum=20.0)
    min_gap_m: float = option(0.10, "and only if it exceeds this gap", unit="m", minimum=0.0, maximum=5.0)


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
        labels = _segment(disparity, self._ground, config, stride)
        full = _to_full_size(labels, disparity, stride)
        return _records(full, config, self._ground)


def _segment(disparity: Disparity, ground: GroundPlane | None, config: Config, stride: int) -> np.ndarray:
    rig = disparity.rig
    d = disparity.disparity_px[::stride, ::stride] + np.float32(rig.doffs_px)
    sigma = disparity.sigma_px[::stride, ::stride]
    with np.errstate(invalid="ignore"):
        d = np.where(d > 0, d, np.float32(np.nan))
        d, sigma = edges.fill_small_gaps(d, 3.0), edges.fill_small_gaps(np.where(d > 0, sigma, np.float32(np.nan)), 3.0)
        candidate = d > rig.bf / config.max_range_m
        if ground is not None:
            height = _heights(d, ground, disparity, stride)
            noise = np.float32(ground.offset_m) * sigma / d
            candidate &= height > np.maximum(0.04, 2.0 * noise)
        else:
            height = None
    allowed = edges.allowed_step_px(d, sigma, rig, stride, config.edge_strength, config.min_gap_m)
    right, down = edges.links(d, allowed)
    count, labels = edges.linked_components(candidate, right, down)
    return _keep_objects(labels, count, d, height, disparity, config, stride)


def _heights(d: np.ndarray, ground: GroundPlane, disparity: Disparity, stride: int) -> np.ndarray:
    from semantic_stereo_ros.geometry.planes import coefficients_of_plane, plane_disparity

    on_ground = plane_disparity(coefficients_of_plane(ground, disparity.rig), disparity.rig, stride)
    return np.float32(ground.offset_m) * (1 - on_ground / d)


def _keep_objects(labels, count, d, height, disparity, config, stride) -> np.ndarray:
    rig = disparity.rig
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    big = np.flatnonzero(pixels * stride * stride >= config.min_pixels)
    big = big[big > 0]
    keep = np.zeros(count + 1, np.uint16)
    x_over_z, y_over_z = ray_tables(rig)
    next_label = 1
    order = np.argsort(labels.ravel(), kind="stable")
    starts = np.concatenate([[0], np.cumsum(pixels)])
    for label in big:
        where = order[starts[label] : starts[label + 1]]
        rows, columns = np.divmod(where, labels.shape[1])
        z = rig.bf / d.ravel()[where]
        x, y = z * x_over_z[columns * stride], z * y_over_z[rows * stride]
        size = [float(np.subtract(*np.percentile(c, (95, 5)))) for c in (x, y, z)]
        if max(size) > config.max_size_m:
            continue
        if height is not None and np.percentile(height.ravel()[where], 95) < config.min_height_m:
            continue
        keep[label] = next_label
        next_label += 1
    return keep[labels]


def _to_full_size(labels: np.ndarray, disparity: Disparity, stride: int) -> np.ndarray:
    height, width = disparity.rig.shape
    if stride == 1:
        return labels
    return np.ascontiguousarray(np.repeat(np.repeat(labels, stride, 0), stride, 1)[:height, :width])


def _records(labels: np.ndarray, config: Config, ground: GroundPlane | None) -> Segmentation:
    count = int(labels.max()) if labels.size else 0
    instances = tuple(Instance(label=i) for i in range(1, count + 1))
    return Segmentation((LabelLayer(labels),), instances, ground)
