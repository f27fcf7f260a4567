"""Distance per instance with its uncertainty: a label map and a disparity map in, one Measurement per object out.

From every mask the same number of pixels is drawn (label_statistics), so that all objects are rows of one matrix and 100 cost little more
than 20. Definitions: types.Measurement.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.fusion import boxes as box_fitting
from semantic_stereo_ros.fusion.label_statistics import (
    LabelRuns,
    draw_pixels,
    either,
    inside_rim,
    label_runs,
    pick,
    row_counts,
    row_quantiles,
)
from semantic_stereo_ros.fusion.sigma import ObjectSpread, sigmas_px
from semantic_stereo_ros.fusion.smoothing import fit_surfaces, smooth
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, Measurement, OrientedBox, Segmentation, StereoRig

SAMPLES, MIN_SAMPLES, MAX_SAMPLES = 16384, 160, 640  # pixels drawn: of all objects together; at least and at most of each
SIGMA_SAMPLES = 20  # pixels read for the mean of sigma
LATERAL_STRIDE = 2  # every so many drawn pixels tell the median of X and Y, which hardly depends on the disparity

# with fewer known pixels inside the rim, or a smaller share of them, the whole mask is measured
MIN_INTERIOR_PIXELS, MIN_INTERIOR_FRACTION = 24, 0.15
UNSEEN_STRIDE = 16
RIM_MARGIN_PX = 0.3
RANGE_MARGIN_PX = 4.0
VIEW_MARGIN_PX = 4.0


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
    wanted = np.array([i.label for i in instances])
    runs = label_runs(labels, wanted)
    if not runs.label.size:
        return _measurements(wanted, None, None, config)
    stats = _statistics(disparity, labels, runs, config)
    fitted = box_fitting.fit(_points(stats, disparity.rig), stats.kept, segmentation.ground) if boxes and config.boxes else None
    return _measurements(wanted, stats, fitted, config)


@dataclass(frozen=True, eq=False)
class _Statistics:
    """Arrays by mask, of those that have pixels; metres, camera frame.

    Of the drawn pixels: shifted (n, K) float32 disparity with doffs, 0 where unknown; rays (2, n, K) float32 X and Y per Z; kept (n, K)
    bool, which of them count.
    """

    runs: LabelRuns
    valid_fraction: np.ndarray
    usable: np.ndarray
    depth: np.ndarray
    depth_sigma: np.ndarray
    position: np.ndarray
    covariance: np.ndarray
    distance: np.ndarray
    distance_sigma: np.ndarray
    nearest: np.ndarray
    nearest_sigma: np.ndarray
    shifted: np.ndarray
    rays: np.ndarray
    kept: np.ndarray
    spread: ObjectSpread


def _statistics(disparity: Disparity, labels: np.ndarray, runs: LabelRuns, config: Config) -> _Statistics:
    rig = disparity.rig
    drawn = draw_pixels(runs, labels.shape[1], samples_per_object(len(runs.label)))
    shifted = pick(disparity.disparity_px, drawn.index)
    if rig.doffs_px:
        shifted += np.float32(rig.doffs_px)
    np.fmax(shifted, np.float32(0.0), out=shifted)  # NaN becomes 0, too
    known = shifted > 0
    if drawn.real is not None:
        known &= drawn.real
    valid = row_counts(known)
    valid_fraction = valid / drawn.count
    usable = (np.rint(valid_fraction * runs.pixels) >= max(config.min_valid_pixels, 1)) & (valid_fraction >= config.min_valid_fraction)
    core, core_count, fallback = _core(inside_rim(labels, runs, drawn, config.erode_px), known, valid)
    first, low, middle, high, last = row_quantiles(shifted, core, core_count, (0.1, 0.25, 0.5, 0.75, 0.9)).T
    iqr = high - low
    # the rim of the mask counts where its disparities are the interior's: along the object it is no depth edge
    margin = RIM_MARGIN_PX + 0.3 * iqr
    least, most = (first - margin).astype(np.float32)[:, None], (last + margin).astype(np.float32)[:, None]
    agrees = shifted >= least
    agrees &= shifted <= most
    agrees &= known
    kept = agrees | core
    # sigma varies so little that a part of the pixels tells it
    some = slice(None, None, max(1, kept.shape[1] // SIGMA_SAMPLES))
    sigma = _mean(pick(disparity.sigma_px, drawn.index[:, some]), kept[:, some])
    place = np.empty((2, *shifted.shape), np.float32)
    place[0], place[1] = drawn.column, drawn.row
    surface, surface_spread = fit_surfaces(place, runs, shifted, agrees, middle)
    # what is unknown in a mask is not missing at random: it is filled, but not beyond what was seen
    filled = np.minimum(np.maximum(surface, least), most)
    complete = np.empty((2, *shifted.shape), np.float32)
    either(kept, shifted, filled, out=complete[0])
    smoothed = smooth(shifted, known, surface, surface_spread, sigma, filled, out=complete[1])
    x, y = rays = place
    x -= np.float32(rig.cx)
    x *= np.float32(1.0 / rig.fx)
    y -= np.float32(rig.cy)
    y *= np.float32(1.0 / rig.fy)
    smoothed /= np.sqrt(x * x + y * y + np.float32(1.0))
    q = 1.0 - config.nearest_percentile / 100.0
    (median, _), (center, near) = row_quantiles(complete, drawn.real, drawn.count, (0.5, q)).transpose(0, 2, 1)
    used = core_count * runs.pixels / drawn.count
    spread = ObjectSpread(
        count=used,
        sigma_px=sigma,
        iqr_px=iqr,
        width_px=median * np.sqrt(runs.pixels) / rig.fx,
        near_tail_px=np.maximum(near - center - iqr, 0.0),
        rim_shift_px=np.abs(median - middle),
        valid_fraction=valid_fraction,
        unseen=_unseen_share(disparity.disparity_px, labels, runs),
        fallback=fallback,
        beyond_view=_share_beyond_view(runs, last - rig.doffs_px),
        beyond_range_px=(1.0 - valid_fraction) * disparity.max_px * (last - rig.doffs_px > disparity.max_px - RANGE_MARGIN_PX),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        depth, nearest = metres = rig.bf / np.array([median, near])
        depth_sigma, nearest_sigma = metres**2 * sigmas_px(spread) * (config.sigma_scale / rig.bf)
        position = np.empty((len(depth), 3))
        position[:, :2] = _lateral_medians(shifted, rays, kept, rig)
        position[:, 2] = depth
        covariance = _covariance(position, depth, depth_sigma, runs.size_wh, used, rig)
        distance = np.sqrt((position * position).sum(axis=1))
        direction = position / distance[:, None]
        distance_sigma = np.sqrt(((covariance @ direction[:, :, None])[:, :, 0] * direction).sum(axis=1))
    return _Statistics(
        runs,
        valid_fraction,
        usable,
        depth,
        depth_sigma,
        position,
        covariance,
        distance,
        distance_sigma,
        nearest,
        nearest_sigma,
        shifted,
        rays,
        kept,
        spread,
    )


def samples_per_object(objects: int) -> int:
    """How many pixels of each mask are drawn: neighbouring pixels of a matcher err alike, so that more add little."""
    return min(max(SAMPLES // objects, MIN_SAMPLES), MAX_SAMPLES)


def _core(inside: np.ndarray, known: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, K) bool: the known pixels inside the rim, all known pixels of a mask that has hardly any; (n,) their count; (n,) bool which masks
    those are."""
    core = inside & known
    count = row_counts(core)
    fallback = count < np.maximum(MIN_INTERIOR_FRACTION * valid, MIN_INTERIOR_PIXELS)
    if fallback.any():
        core |= known & fallback[:, None]
        count = np.where(fallback, valid, count)
    return core, count, fallback


def _mean(value: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(n,) mean of the chosen ones of each row, 0 where none is."""
    return value.sum(axis=1, where=chosen) / np.maximum(row_counts(chosen), 1)


def _lateral_medians(shifted: np.ndarray, rays: np.ndarray, kept: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(n, 2) median X and Y of the kept ones of some of the drawn pixels."""
    chosen = np.ascontiguousarray(kept[:, ::LATERAL_STRIDE])
    lateral = rays[:, :, ::LATERAL_STRIDE] * (np.float32(rig.bf) / shifted[:, ::LATERAL_STRIDE])
    return row_quantiles(lateral, chosen, row_counts(chosen), (0.5,))[:, :, 0].T


def _points(stats: _Statistics, rig: StereoRig) -> np.ndarray:
    """(3, n, K) float32 m of all drawn pixels, camera frame; not finite where unknown."""
    points = np.empty((3, *stats.shifted.shape), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.divide(np.float32(rig.bf), stats.shifted, out=points[2])
        np.multiply(stats.rays, points[2], out=points[:2])
    return points


def _share_beyond_view(runs: LabelRuns, near_px: np.ndarray) -> np.ndarray:
    """(n,) 0..1: how far an object may go on to the left of its mask, per its width, where the right camera's view begins with it."""
    left = runs.box_xyxy[:, 0]
    starts_there = left <= near_px + VIEW_MARGIN_PX
    return starts_there * np.minimum(left / runs.size_wh[:, 0], 1.0)


def _unseen_share(disparity_px: np.ndarray, labels: np.ndarray, runs: LabelRuns) -> np.ndarray:
    """(n,) unknown pixels of no label in and around each box, per pixel of the object: there it may go on unseen."""
    coarse = np.isnan(disparity_px[::UNSEEN_STRIDE, ::UNSEEN_STRIDE])
    coarse &= labels[::UNSEEN_STRIDE, ::UNSEEN_STRIDE] == 0
    total = cv2.integral(coarse.view(np.uint8))
    around = runs.box_xyxy / UNSEEN_STRIDE
    margin = runs.size_wh * (0.25 / UNSEEN_STRIDE)
    around[:, :2] -= margin
    around[:, 2:] += margin
    height, width = coarse.shape
    x0, y0, x1, y1 = np.minimum(np.maximum(np.rint(around), 0.0), (width, height, width, height)).astype(np.intp).T
    unknown = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return unknown * UNSEEN_STRIDE**2 / runs.pixels


def _covariance(position, depth, depth_sigma, size_wh, used, rig: StereoRig) -> np.ndarray:
    """(n, 3, 3): depth error along the ray, and a lateral one of a mask border's pixel and of sampling."""
    ray = position / depth[:, None]
    along = depth_sigma[:, None] * ray
    covariance = along[:, :, None] * along[:, None, :]
    lateral_px = 0.1 + size_wh * (0.002 + 0.36 / np.sqrt(np.maximum(used, 1)))[:, None]
    lateral = lateral_px * (depth / rig.fx)[:, None]
    covariance[:, 0, 0] += lateral[:, 0] ** 2
    covariance[:, 1, 1] += lateral[:, 1] ** 2
    return covariance


def _measurements(
    wanted: np.ndarray, stats: _Statistics | None, fitted: list[OrientedBox] | None, config: Config
) -> tuple[Measurement, ...]:
    present = [] if stats is None else _present(stats, fitted, config)
    if len(present) == len(wanted):
        return tuple(present)
    known = {m.label: m for m in present}
    return tuple(
        known.get(label) or Measurement(label, 0, 0.0, (0, 0, 0, 0), reason="no pixel carries its label") for label in wanted.tolist()
    )


def _present(stats: _Statistics, fitted: list[OrientedBox] | None, config: Config) -> list[Measurement]:
    columns = zip(
        stats.runs.label.tolist(),
        stats.runs.pixels.tolist(),
        stats.valid_fraction.tolist(),
        zip(*stats.runs.box_xyxy.T.tolist()),
        stats.depth.tolist(),
        stats.depth_sigma.tolist(),
        stats.distance.tolist(),
        stats.distance_sigma.tolist(),
        stats.nearest.tolist(),
        stats.nearest_sigma.tolist(),
        stats.position,
        stats.covariance,
        itertools.repeat(None) if fitted is None else fitted,
    )
    records = []
    new, assign = object.__new__, object.__setattr__
    for label, pixels, fraction, box_xyxy, z, z_sigma, distance, distance_sigma, nearest, nearest_sigma, place, spread, box in columns:
        record = new(Measurement)
        # what a frozen dataclass's constructor does, but not field by field: a third of the time (test_measure guards it)
        fields = {
            "label": label,
            "pixels": pixels,
            "valid_fraction": fraction,
            "box_xyxy": box_xyxy,
            "depth_m": z,
            "depth_sigma_m": z_sigma,
            "distance_m": distance,
            "distance_sigma_m": distance_sigma,
            "nearest_m": nearest,
            "nearest_sigma_m": nearest_sigma,
            "position_m": place,
            "position_covariance_m2": spread,
            "box": box,
            "reason": "",
        }
        assign(record, "__dict__", fields)
        records.append(record)
    for i in (~stats.usable).nonzero()[0].tolist():
        m = records[i]
        reason = _reason(m.pixels, m.valid_fraction, config)
        records[i] = Measurement(m.label, m.pixels, m.valid_fraction, m.box_xyxy, reason=reason)
    return records


def _reason(pixels: int, fraction: float, config: Config) -> str:
    return (
        f"only {round(pixels * fraction)} of {pixels} pixels have a known disparity "
        f"(at least {config.min_valid_pixels} and {config.min_valid_fraction:.0%} are needed)"
    )
