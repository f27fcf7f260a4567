"""A frame's instances with their measurements as arrays, ready to be matched and filtered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.tracking import filter as kalman
from semantic_stereo_ros.tracking.track import area_of, extent_of
from semantic_stereo_ros.types import Instance, Measurement, Segmentation, StereoFrame

GATE_SHAPE_SHARE = 0.15
"""Share of an object's size that its measured middle may jump from frame to frame as its mask changes, one sigma."""

CUT_SHARE = 1.0
"""Sigma of the measured middle, as a share of the size, when next to nothing of the object is seen; in between, in proportion."""


@dataclass(frozen=True, eq=False)
class Observations:
    """n instances of the object layer. labels: (n,) intp; pixels: (n,) float; known: (n,) bool, has a measured position.

    positions_m: (n, 3) camera frame, NaN unknown; covariances_m2: (n, 3, 3) of the visible surface's middle, with its wandering on the
    object; gate_covariances_m2: the same with room for masks that change. extents_m, areas_m2: (n,) as
    seen, NaN unknown. max_label: largest label of the map.
    """

    instances: tuple[Instance, ...]
    measurements: tuple[Measurement, ...]
    labels: np.ndarray
    pixels: np.ndarray
    known: np.ndarray
    positions_m: np.ndarray
    covariances_m2: np.ndarray
    gate_covariances_m2: np.ndarray
    extents_m: np.ndarray
    areas_m2: np.ndarray
    max_label: int

    def __len__(self) -> int:
        return len(self.instances)

    def in_filter_frame(self, pose: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions and covariances through `pose` (camera -> filters' frame; None = the camera's)."""
        if pose is None:
            return self.positions_m, self.covariances_m2
        rotation = pose[:3, :3]
        return self.positions_m @ rotation.T + pose[:3, 3], kalman.rotated(self.covariances_m2, rotation)

    def cut_variance(self, columns: list[int], full_m2: np.ndarray, full_extents_m: np.ndarray) -> np.ndarray:
        """(k,) variance in m^2 to add to the positions of `columns`: the middle of a mask that shows a part is not the object's.

        full_m2, full_extents_m: (k,) area and size of the object as far as it has been seen whole.
        """
        share = self.areas_m2[columns] / full_m2
        cut = 1.0 - np.minimum(share, 1.0 / np.maximum(share, 1e-9))
        extent_m = np.fmax(full_extents_m, self.extents_m[columns])
        return np.nan_to_num(CUT_SHARE * cut * extent_m) ** 2


def observe(segmentation: Segmentation, measurements: tuple[Measurement, ...], frame: StereoFrame, surface_share: float) -> Observations:
    """Collect the object layer's instances; one without a measurement counts as unmeasured, one without pixels is left out."""
    by_label = {m.label: m for m in measurements}
    labels = segmentation.labels
    max_label = int(labels.max()) if labels.size else 0
    instances, found = [], []
    for instance in segmentation.object_instances:
        measurement = by_label.get(instance.label)
        if measurement is None:
            measurement = _unmeasured(instance.label, labels) if instance.label <= max_label else None
        if measurement is not None and measurement.pixels > 0 and instance.label <= max_label:
            instances.append(instance)
            found.append(measurement)
    n = len(found)
    positions, covariances, extents = np.full((n, 3), np.nan), np.full((n, 3, 3), np.nan), np.full(n, np.nan)
    for j, m in enumerate(found):
        covariance = kalman.usable_covariance(m.position_covariance_m2) if m.known else None
        if covariance is not None and np.isfinite(m.position_m).all():
            positions[j], covariances[j], extents[j] = m.position_m, covariance, extent_of(m, frame.rig)
    known = np.isfinite(positions[:, 0])
    spread = np.nan_to_num(extents)[:, None, None] ** 2 * np.eye(3)
    return Observations(
        instances=tuple(instances),
        measurements=tuple(found),
        labels=np.array([i.label for i in instances], dtype=np.intp),
        pixels=np.array([m.pixels for m in found], dtype=float),
        known=known,
        positions_m=positions,
        covariances_m2=covariances + surface_share**2 * spread,
        gate_covariances_m2=covariances + (surface_share**2 + GATE_SHAPE_SHARE**2) * spread,
        extents_m=extents,
        areas_m2=np.array([area_of(m, frame.rig) for m in found]),
        max_label=max_label,
    )


def _unmeasured(label: int, labels: np.ndarray) -> Measurement | None:
    """The measurement of a label that none was given for, or None if it has no pixels."""
    rows, columns = np.nonzero(labels == label)
    if rows.size == 0:
        return None
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Measurement(label=label, pixels=rows.size, valid_fraction=0.0, box_xyxy=box, reason="no measurement was given")
