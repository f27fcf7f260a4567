"""Distance per instance with its uncertainty: a label map and a disparity map in, one Measurement per object out.

From every mask the same number of pixels is drawn (label_statistics), so that all objects are rows of one matrix and 100 cost little more
than 20. Definitions: types.Measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.fusion import boxes as box_fitting
from semantic_stereo_ros.fusion.label_statistics import label_runs
from semantic_stereo_ros.fusion.object_statistics import ObjectStatistics, object_statistics
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, Measurement, OrientedBox, Segmentation

MOST_RELATIVE_SIGMA = 1 / 3


@dataclass(frozen=True)
class Config:
    """How masks become distances."""

    erode_px: int = option(
        2, "mask rim left out of the measurement, because stereo bleeds at silhouettes", unit="px", minimum=0, maximum=15
    )
    min_valid_pixels: int = option(8, "with fewer known pixels an object's distance is unknown", unit="px", minimum=1)
    min_valid_fraction: float = option(
        0.1, "with a smaller share of known pixels an object's distance is unknown", minimum=0.0, maximum=1.0
    )
    nearest_percentile: float = option(5.0, "percentile of the range that counts as the nearest point", unit="%", minimum=0.1, maximum=50.0)
    boxes: bool = option(True, "fit an oriented box to every object")
    hidden_size_m: float = option(
        0.3, "where an unknown part of the view could hide an object of this width and height, it is not free", unit="m", minimum=0.01
    )
    hidden_range_m: float = option(10.0, "and only this near: the way ahead that must be known", unit="m", minimum=0.1)
    calibration_sigma_px: float = option(
        0.0,
        "standard deviation of an offset that all disparities of the rig may share: set it where doffs or the principal points are nominal",
        unit="px",
        minimum=0.0,
        maximum=20.0,
    )
    sigma_scale: float = option(1.0, "factor on every reported sigma: above 1 is more cautious", minimum=0.01, maximum=100.0)


def measure(
    disparity: Disparity, segmentation: Segmentation, config: Config | None = None, *, boxes: bool = True
) -> tuple[Measurement, ...]:
    """One Measurement per instance of the object layer, in order of label.

    disparity and segmentation share the left image's pixels. boxes=False leaves the oriented boxes out (config.boxes does too).
    Raises ImageError when the label map has another size than the disparity.
    """
    config = Config() if config is None else config
    labels = np.ascontiguousarray(segmentation.labels)
    if labels.shape != disparity.disparity_px.shape:
        raise ImageError(f"the label map is {labels.shape} but the disparity {disparity.disparity_px.shape} (rows, columns)")
    instances = segmentation.object_instances
    if not instances:
        return ()
    wanted = [i.label for i in instances]
    runs = label_runs(labels, np.array(wanted))
    known: dict[int, Measurement] = {}
    if runs.label.size:
        stats = object_statistics(
            disparity,
            labels,
            runs,
            erode_px=config.erode_px,
            nearest_percentile=config.nearest_percentile,
            sigma_scale=config.sigma_scale,
            calibration_sigma_px=config.calibration_sigma_px,
        )
        usable = _usable(stats.valid_fraction, runs.pixels, config)
        with_boxes = boxes and config.boxes
        fitted = box_fitting.fit(stats.points, stats.kept, segmentation.ground) if with_boxes else [None] * len(runs.label)
        known = {
            int(label): _measurement(stats, i, fitted[i]) if usable[i] else _unmeasured(stats, i, _too_few(stats, i, config))
            for i, label in enumerate(runs.label)
        }
    return tuple(known.get(label) or Measurement(label, 0, 0.0, (0, 0, 0, 0), reason="no pixel carries its label") for label in wanted)


def _usable(valid_fraction: np.ndarray, pixels: np.ndarray, config: Config) -> np.ndarray:
    """(n,) bool: enough of a mask's pixels are known to measure it."""
    enough = np.rint(valid_fraction * pixels) >= max(config.min_valid_pixels, 1)
    return enough & (valid_fraction >= config.min_valid_fraction)


def _measurement(stats: ObjectStatistics, i: int, box: OrientedBox | None) -> Measurement:
    """The record of the i-th mask that has pixels; a distance that might as well be twice as large is none."""
    distance, sigma = float(stats.distance[i]), float(stats.distance_sigma[i])
    if not sigma <= MOST_RELATIVE_SIGMA * distance:
        return _unmeasured(stats, i, f"its distance would be {distance:.3g} +- {sigma:.3g} m: too uncertain to be a measurement")
    left, top, right, bottom = stats.runs.box_xyxy[i].tolist()
    return Measurement(
        label=int(stats.runs.label[i]),
        pixels=int(stats.runs.pixels[i]),
        valid_fraction=float(stats.valid_fraction[i]),
        box_xyxy=(left, top, right, bottom),
        depth_m=float(stats.depth[i]),
        depth_sigma_m=float(stats.depth_sigma[i]),
        distance_m=float(stats.distance[i]),
        distance_sigma_m=float(stats.distance_sigma[i]),
        nearest_m=float(stats.nearest[i]),
        nearest_sigma_m=float(stats.nearest_sigma[i]),
        position_m=stats.position[i],
        position_covariance_m2=stats.covariance[i],
        box=box,
    )


def _too_few(stats: ObjectStatistics, i: int, config: Config) -> str:
    return (
        f"only {round(int(stats.runs.pixels[i]) * float(stats.valid_fraction[i]))} of {stats.runs.pixels[i]} pixels have a known disparity "
        f"(at least {config.min_valid_pixels} and {config.min_valid_fraction:.0%} are needed)"
    )


def _unmeasured(stats: ObjectStatistics, i: int, reason: str) -> Measurement:
    """The record of a mask whose distance cannot be told."""
    left, top, right, bottom = stats.runs.box_xyxy[i].tolist()
    pixels, fraction = int(stats.runs.pixels[i]), float(stats.valid_fraction[i])
    return Measurement(int(stats.runs.label[i]), pixels, fraction, (left, top, right, bottom), reason=reason)
