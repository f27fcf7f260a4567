"""Distance per instance with its uncertainty: a label map and a disparity map in, one Measurement per object out.

All pixels are handled at once, sorted by label (label_statistics), so 100 objects cost little more than 20. Definitions:
types.Measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.fusion import boxes as box_fitting
from semantic_stereo_ros.fusion.label_statistics import LabelPixels, label_runs, run_pixels, segment_quantiles, segment_sums
from semantic_stereo_ros.fusion.sigma import ObjectSpread, median_sigma_px, nearest_sigma_px
from semantic_stereo_ros.fusion.smoothing import fit_planes
from semantic_stereo_ros.geometry.points import inverse_ray_table, ray_tables
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, Measurement, Segmentation, StereoRig

SMALL_PIXELS, LARGE_PIXELS = 1024, 4096  # from here on every second row and third column; every fourth row and third column

# with fewer known pixels inside the rim, or a smaller share of them, the whole mask is measured
MIN_INTERIOR_PIXELS, MIN_INTERIOR_FRACTION = 24, 0.15
UNSEEN_STRIDE = 8
THINNING = 3
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
    labels = segmentation.labels
    if labels.shape != disparity.disparity_px.shape:
        raise ImageError(f"the label map is {labels.shape} but the disparity {disparity.disparity_px.shape} (rows, columns)")
    instances = segmentation.object_instances
    if not instances:
        return ()
    wanted = np.array([i.label for i in instances])
    fit_boxes = boxes and config.boxes
    stats = _statistics(disparity, np.ascontiguousarray(labels), int(wanted[-1]), config, fit_boxes)
    fitted = None
    if fit_boxes:
        fitted = box_fitting.fit(stats.points, stats.bounds, stats.usable, segmentation.ground)
    return _measurements(stats, wanted, fitted, config)


@dataclass(frozen=True, eq=False)
class _Statistics:
    """Arrays indexed by label 0..n (row 0 unused); metres, camera frame. points (3, N) are sampled pixels, see label_statistics."""

    pixels: np.ndarray
    box_xyxy: np.ndarray
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
    points: np.ndarray
    bounds: np.ndarray
    spread: ObjectSpread


def _statistics(disparity: Disparity, labels: np.ndarray, count: int, config: Config, all_points: bool) -> _Statistics:
    rig = disparity.rig
    runs = label_runs(labels, count)
    found = run_pixels(labels, runs, _sampling_step(runs.pixels), config.erode_px)
    sampled = np.diff(found.bounds)
    known = _select(disparity, found)
    valid = np.diff(known.bounds)
    valid_fraction = valid / np.maximum(sampled, 1)
    usable = (valid >= config.min_valid_pixels) & (valid_fraction >= config.min_valid_fraction)
    core, fallback = _core(known)
    first, low, middle, high, last = segment_quantiles(known.shifted.take(core.index), core.bounds, (0.1, 0.25, 0.5, 0.75, 0.9))
    iqr = high - low
    # the rim of the mask counts where its disparities are the interior's: along the object it is no depth edge
    least, most = first - RIM_MARGIN_PX - 0.3 * iqr, last + RIM_MARGIN_PX + 0.3 * iqr
    agrees = known.shifted >= np.repeat(least.astype(np.float32), valid)
    agrees &= known.shifted <= np.repeat(most.astype(np.float32), valid)
    kept = np.flatnonzero(agrees | known.interior | np.repeat(fallback, valid))
    kept_bounds = np.searchsorted(kept, known.bounds)
    median = segment_quantiles(known.shifted.take(kept), kept_bounds, (0.5,))[0]
    trusted = np.zeros(found.index.size, np.float32)
    trusted[known.place] = agrees
    # sigma, planes and points vary so little that a part of the pixels tells them
    thinning = 1 if small_objects(runs.pixels) else THINNING
    chosen = kept[::thinning]
    bounds = (kept_bounds + thinning - 1) // thinning
    place = known.place.take(chosen)
    pixel, row = found.index.take(place), found.row.take(place)
    sigma = segment_sums(disparity.sigma_px.reshape(-1).take(pixel), bounds) / np.maximum(np.diff(bounds), 1)
    smooth = fit_planes(found, rig.size_wh[0], known.all_shifted, trusted, sigma, thinning)
    inverse_range = smooth * inverse_ray_table(rig).take(found.index)
    q = 1.0 - config.nearest_percentile / 100.0
    center, near = segment_quantiles(inverse_range, found.bounds, (0.5, q))
    used = np.where(fallback, valid, np.diff(core.bounds)) * runs.pixels / np.maximum(sampled, 1)
    spread = ObjectSpread(
        count=used,
        sigma_px=sigma,
        iqr_px=iqr,
        width_px=median * np.sqrt(runs.pixels) / rig.fx,
        near_tail_px=np.maximum(near - center - iqr, 0.0),
        rim_shift_px=np.abs(median - middle),
        valid_fraction=valid_fraction,
        unseen=_unseen_share(disparity.disparity_px, labels, runs.box_xyxy, runs.pixels),
        fallback=fallback,
        beyond_view=_share_beyond_view(runs.box_xyxy, last - rig.doffs_px),
        beyond_range_px=(1.0 - valid_fraction) * disparity.max_px * (last - rig.doffs_px > disparity.max_px - RANGE_MARGIN_PX),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = rig.bf / median
        depth_sigma = depth * depth / rig.bf * median_sigma_px(spread) * config.sigma_scale
        nearest = rig.bf / near
        nearest_sigma = nearest * nearest / rig.bf * nearest_sigma_px(spread) * config.sigma_scale
        points = _points(pixel, row, known.shifted.take(chosen), rig)
        position = _position(points, bounds, depth)
        covariance = _covariance(position, depth, depth_sigma, runs.box_xyxy, used, rig)
        distance = np.sqrt((position * position).sum(axis=1))
        direction = position / distance[:, None]
        distance_sigma = np.sqrt(((covariance @ direction[:, :, None])[:, :, 0] * direction).sum(axis=1))
    if all_points and thinning > 1:
        place, bounds = known.place.take(kept), kept_bounds
        points = _points(found.index.take(place), found.row.take(place), known.shifted.take(kept), rig)
    return _Statistics(
        runs.pixels,
        runs.box_xyxy,
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
        points,
        bounds,
        spread,
    )


def _sampling_step(pixels: np.ndarray) -> np.ndarray:
    """(n + 1, 2) row and column step by label: neighbouring pixels of a matcher err alike, so a large object is sampled."""
    step = np.ones((pixels.size, 2), np.intp)
    step[pixels >= SMALL_PIXELS] = 2, 3
    step[pixels >= LARGE_PIXELS] = 4, 3
    return step


def small_objects(pixels: np.ndarray) -> bool:
    """Whether a label has so few pixels that all of them are needed."""
    return bool(((pixels > 0) & (pixels < SMALL_PIXELS)).any())


@dataclass(frozen=True, eq=False)
class _Known:
    """Sampled pixels with a disparity, sorted by label: place among all sampled ones, disparity + doffs in px, interior flag.

    bounds: as of LabelPixels; all_shifted: of all sampled pixels, NaN or below zero where unknown.
    """

    place: np.ndarray
    shifted: np.ndarray
    interior: np.ndarray
    bounds: np.ndarray
    all_shifted: np.ndarray


def _select(disparity: Disparity, found: LabelPixels) -> _Known:
    shifted = disparity.disparity_px.reshape(-1).take(found.index)
    if disparity.rig.doffs_px:
        shifted += np.float32(disparity.rig.doffs_px)
    place = np.flatnonzero(shifted > 0)
    return _Known(place, shifted.take(place), found.interior.take(place), np.searchsorted(place, found.bounds), shifted)


@dataclass(frozen=True, eq=False)
class _Core:
    index: np.ndarray
    bounds: np.ndarray


def _core(known: _Known) -> tuple[_Core, np.ndarray]:
    """The interior pixels as places in `known`, all pixels of a mask that has hardly any; and (n + 1,) bool which masks those are."""
    valid = np.diff(known.bounds)
    index = np.flatnonzero(known.interior)
    bounds = np.searchsorted(index, known.bounds)
    inside = np.diff(bounds)
    fallback = ((inside < MIN_INTERIOR_PIXELS) | (inside < MIN_INTERIOR_FRACTION * valid)) & (valid > 0)
    if fallback.any():
        index = np.flatnonzero(known.interior | np.repeat(fallback, valid))
        bounds = np.searchsorted(index, known.bounds)
    return _Core(index, bounds), fallback


def _points(pixel: np.ndarray, row: np.ndarray, shifted: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(3, N) float32 m of (N,) flat pixel indices with their rows and disparities + doffs."""
    x_over_z, y_over_z = ray_tables(rig)
    points = np.empty((3, pixel.size), np.float32)
    np.divide(np.float32(rig.bf), shifted, out=points[2])
    np.multiply(points[2], x_over_z.take(pixel - row * rig.size_wh[0]), out=points[0])
    np.multiply(points[2], y_over_z.take(row), out=points[1])
    return points


def _position(points: np.ndarray, bounds: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(n, 3): medians of X and Y beside the median depth."""
    x, y = (segment_quantiles(points[k], bounds, (0.5,))[0] for k in range(2))
    return np.stack([x, y, depth], axis=1)


def _share_beyond_view(box_xyxy: np.ndarray, near_px: np.ndarray) -> np.ndarray:
    """(n + 1,) 0..1: how far an object may go on to the left of its mask, per its width, where the right camera's view begins with it."""
    left, right = box_xyxy[:, 0], box_xyxy[:, 2]
    starts_there = left <= near_px + VIEW_MARGIN_PX
    return starts_there * np.minimum(left / np.maximum(right - left, 1), 1.0)


def _unseen_share(disparity_px: np.ndarray, labels: np.ndarray, box_xyxy: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(n,) unknown pixels of no label in and around each box, per pixel of the object: there it may go on unseen."""
    coarse = np.isnan(disparity_px[::UNSEEN_STRIDE, ::UNSEEN_STRIDE])
    coarse &= labels[::UNSEEN_STRIDE, ::UNSEEN_STRIDE] == 0
    total = cv2.integral(coarse.view(np.uint8))
    size = box_xyxy[:, 2:] - box_xyxy[:, :2]
    low = np.rint((box_xyxy[:, :2] - 0.25 * size) / UNSEEN_STRIDE).astype(np.intp)
    high = np.rint((box_xyxy[:, 2:] + 0.25 * size) / UNSEEN_STRIDE).astype(np.intp)
    height, width = coarse.shape
    x0, x1 = np.maximum(low[:, 0], 0), np.minimum(high[:, 0], width)
    y0, y1 = np.maximum(low[:, 1], 0), np.minimum(high[:, 1], height)
    unknown = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return unknown * UNSEEN_STRIDE**2 / np.maximum(pixels, 1)


def _covariance(position, depth, depth_sigma, box_xyxy, used, rig: StereoRig) -> np.ndarray:
    """(n, 3, 3): depth error along the ray, and a lateral one of a mask border's pixel and of sampling."""
    ray = position / depth[:, None]
    covariance = (depth_sigma**2)[:, None, None] * ray[:, :, None] * ray[:, None, :]
    extent = (box_xyxy[:, 2:] - box_xyxy[:, :2]).astype(np.float64)
    lateral_px = 0.1 + 0.002 * extent + 0.36 * extent / np.sqrt(np.maximum(used, 1))[:, None]
    lateral = lateral_px * (depth / rig.fx)[:, None]
    covariance[:, 0, 0] += lateral[:, 0] ** 2
    covariance[:, 1, 1] += lateral[:, 1] ** 2
    return covariance


def _measurements(stats: _Statistics, wanted: np.ndarray, fitted, config: Config) -> tuple[Measurement, ...]:
    names = ("depth", "depth_sigma", "distance", "distance_sigma", "nearest", "nearest_sigma")
    numbers = np.stack([getattr(stats, name) for name in names], axis=1)[wanted].tolist()
    pixels, fraction = stats.pixels[wanted].tolist(), stats.valid_fraction[wanted].tolist()
    box_xyxy, usable = stats.box_xyxy[wanted].tolist(), stats.usable[wanted].tolist()
    result = []
    for i, label in enumerate(wanted.tolist()):
        x0, y0, x1, y1 = box_xyxy[i]
        if not usable[i]:
            reason = _reason(pixels[i], fraction[i], config)
            result.append(Measurement(label, pixels[i], fraction[i], (x0, y0, x1, y1), reason=reason))
            continue
        box = fitted[label] if fitted is not None else None
        depth, depth_sigma, distance, distance_sigma, nearest, nearest_sigma = numbers[i]
        result.append(
            Measurement(
                label,
                pixels[i],
                fraction[i],
                (x0, y0, x1, y1),
                depth,
                depth_sigma,
                distance,
                distance_sigma,
                nearest,
                nearest_sigma,
                stats.position[label],
                stats.covariance[label],
                box,
            )
        )
    return tuple(result)


def _reason(pixels: int, fraction: float, config: Config) -> str:
    if pixels == 0:
        return "no pixel carries its label"
    return (
        f"only {round(pixels * fraction)} of {pixels} pixels have a known disparity "
        f"(at least {config.min_valid_pixels} and {config.min_valid_fraction:.0%} are needed)"
    )
