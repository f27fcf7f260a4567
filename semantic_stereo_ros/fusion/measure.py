"""Distance per instance with its uncertainty: a label map and a disparity map in, one Measurement per object out.

One pass over the labelled pixels builds a histogram of disparity per label, for rim and interior apart; all medians and percentiles are
read from histograms, so 100 objects cost little more than 20. Definitions: types.Measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.fusion import boxes as box_fitting
from semantic_stereo_ros.fusion.label_statistics import RowHistogram, bins_for, histogram, label_runs, quantiles, run_pixels
from semantic_stereo_ros.fusion.sigma import ObjectSpread, median_sigma_px, near_without_noise, nearest_sigma_px
from semantic_stereo_ros.geometry.points import ray_tables
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import Disparity, Measurement, Segmentation, StereoRig

# Neighbouring pixels of a matcher err alike, so a large object is sampled.
ROW_STRIDE, COLUMN_STRIDE = 3, 2
THINNING = 2  # of position and sigma, on top of that
SMALL_PIXELS = 1024  # an object of fewer pixels is measured with all of them

UNSEEN_STRIDE = 8
RIM_MARGIN_PX = 0.3
POSITION_BINS = 256


@dataclass(frozen=True)
class Config:
    """How masks become distances."""

    erode_px: int = option(
        2, "mask rim left out of the measurement, because stereo bleeds at silhouettes", unit="px", minimum=0, maximum=15
    )
    min_interior_pixels: int = option(24, "with fewer known pixels inside the rim the whole mask is used", unit="px", minimum=1)
    min_interior_fraction: float = option(
        0.15, "with a smaller share of known pixels inside the rim the whole mask is used", minimum=0.0, maximum=1.0
    )
    min_valid_pixels: int = option(8, "with fewer known pixels an object's distance is unknown", unit="px", minimum=1)
    min_valid_fraction: float = option(
        0.1, "with a smaller share of known pixels an object's distance is unknown", minimum=0.0, maximum=1.0
    )
    nearest_percentile: float = option(5.0, "percentile of the range that counts as the nearest point", unit="%", minimum=0.1, maximum=50.0)
    boxes: bool = option(True, "fit an oriented box to every object")
    sigma_floor_px: float = option(0.02, "error of the median disparity that all objects have", unit="px", minimum=0.0)
    sigma_correlated: float = option(0.32, "share of the pixels' own sigma that does not average out over an object", minimum=0.0)
    sigma_fallback: float = option(7.0, "growth of that share where the mask is too thin to leave out its rim", minimum=0.0)
    sigma_extent: float = option(0.007, "shift of the median by wrong mask pixels, per interquartile range of the disparity", minimum=0.0)
    sigma_unseen: float = option(0.1, "the same, more per share of unknown pixels around the object", minimum=0.0)
    sigma_unknown: float = option(1.08, "the same, more per share of unknown pixels in the mask", minimum=0.0)
    sigma_patch_px: float = option(1.6, "side of a patch of pixels whose errors go together", unit="px", minimum=0.0)
    near_bias: float = option(0.85, "noise that draws the nearest point nearer, in sigmas of a pixel; taken out", minimum=0.0)
    near_floor_px: float = option(0.01, "as sigma_floor_px, of the nearest point", unit="px", minimum=0.0)
    near_correlated: float = option(0.07, "as sigma_correlated, of the nearest point", minimum=0.0)
    near_fallback: float = option(4.7, "as sigma_fallback, of the nearest point", minimum=0.0)
    near_slope: float = option(0.005, "error of the nearest point per spread of disparity around it", minimum=0.0)
    near_tail: float = option(0.9, "error of the nearest point per length of the near tail beyond a smooth surface's", minimum=0.0)
    near_shift: float = option(1.2, "error of the nearest point per noise taken out of it", minimum=0.0)
    near_unseen: float = option(
        0.3, "shift of the nearest point per interquartile range and squared share of unknown pixels around the object", minimum=0.0
    )
    near_unknown: float = option(0.27, "as sigma_unknown, of the nearest point", minimum=0.0)
    near_deep: float = option(5.0, "the same, per square of the object's relative depth: a very deep mask may hold two things", minimum=0.0)
    near_patch_px: float = option(0.9, "as sigma_patch_px, of the nearest point", unit="px", minimum=0.0)


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
    stats = _statistics(disparity, np.ascontiguousarray(labels), int(wanted[-1]), config)
    fitted = None
    if boxes and config.boxes:
        fitted = box_fitting.fit(stats.points.T, stats.point_label, stats.usable, segmentation.ground)
    return _measurements(stats, wanted, fitted, config)


@dataclass(frozen=True, eq=False)
class _Statistics:
    """Arrays indexed by label 0..n (row 0 unused); metres, camera frame. points (3, N) with point_label are the thinned pixels."""

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
    point_label: np.ndarray
    spread: ObjectSpread


def _statistics(disparity: Disparity, labels: np.ndarray, count: int, config: Config) -> _Statistics:
    rig = disparity.rig
    runs = label_runs(labels, count)
    small = (runs.pixels > 0) & (runs.pixels < SMALL_PIXELS)
    chosen, step = runs.row % ROW_STRIDE == 0, COLUMN_STRIDE
    if small.any():
        chosen, step = chosen | small.take(runs.label), np.where(small, 1, COLUMN_STRIDE)
    found = run_pixels(labels, runs, chosen, step, config.erode_px)
    shifted = disparity.disparity_px.reshape(-1).take(found.index)
    if rig.doffs_px:
        shifted += np.float32(rig.doffs_px)
    if np.fmin.reduce(shifted, initial=1.0) <= 0:
        shifted = np.where(shifted > 0, shifted, np.float32(np.nan))

    # depth: rows 2 l (rim) and 2 l + 1 (interior) of one histogram
    rows = 2 * (count + 1)
    table = histogram(found.label * 2 + found.interior, shifted, rows, bins_for(count + 1))
    known = (table.total - table.nan).reshape(-1, 2)
    valid = known.sum(axis=1)
    sampled = table.total.reshape(-1, 2).sum(axis=1)
    valid_fraction = valid / np.maximum(sampled, 1)
    usable = (valid >= config.min_valid_pixels) & (valid_fraction >= config.min_valid_fraction)
    fallback = (known[:, 1] < config.min_interior_pixels) | (known[:, 1] < config.min_interior_fraction * valid)
    fallback &= valid > 0
    rim, inside = table.counts.reshape(count + 1, 2, -1).swapaxes(0, 1)
    inside = np.where(fallback[:, None], rim + inside, inside) if fallback.any() else inside
    first, low, high, last = quantiles(inside, (0.1, 0.25, 0.75, 0.9), table.low, table.width).T
    margin = RIM_MARGIN_PX + 0.3 * (high - low)
    least, most = np.nan_to_num(first - margin, nan=np.inf), np.nan_to_num(last + margin, nan=-np.inf)
    inside = inside + _agreeing_rim(rim, least, np.where(fallback, -np.inf, most), table)
    median = quantiles(inside, (0.5,), table.low, table.width)[:, 0]

    # everything else: from the pixels that the median stands on
    keep = found.interior | (shifted >= least.astype(np.float32).take(found.label))
    keep &= found.interior | (shifted <= most.astype(np.float32).take(found.label))
    if fallback.any():
        keep |= fallback.take(found.label)
    keep &= shifted > 0
    chosen = np.flatnonzero(keep)
    pixel, label_of, shifted_of = found.index.take(chosen), found.label.take(chosen), shifted.take(chosen)
    x_over_z, y_over_z = ray_tables(rig)
    row, column = np.divmod(pixel, rig.size_wh[0])
    ray_x, ray_y = x_over_z.take(column), y_over_z.take(row)
    points = np.empty((3, pixel.size), np.float32)
    np.divide(np.float32(rig.bf), shifted_of, out=points[2])
    np.multiply(points[2], ray_x, out=points[0])
    np.multiply(points[2], ray_y, out=points[1])
    inverse_range = shifted_of / np.sqrt(1.0 + ray_x * ray_x + ray_y * ray_y)
    near_table = histogram(label_of, inverse_range, count + 1, bins_for(count + 1))
    q = 1.0 - config.nearest_percentile / 100.0
    middle, near, near_low, near_high = near_table.quantiles((0.5, q, q - 0.04, min(q + 0.04, 1.0))).T
    used = np.where(fallback, valid, known[:, 1]) * runs.pixels / np.maximum(sampled, 1)
    some = slice(None, None, 1 if small.any() else THINNING)
    own = np.bincount(label_of[some], disparity.sigma_px.reshape(-1).take(pixel[some]), count + 1)
    sigma = own / np.maximum(np.bincount(label_of[some], minlength=count + 1), 1)

    noisy_near, near = near, near_without_noise(near, middle, sigma, config)
    unseen = _unseen_share(disparity.disparity_px, labels, runs.box_xyxy, runs.pixels)
    tail = np.maximum(near - middle - 1.3 * (high - low), 0.0)
    spread = ObjectSpread(
        used, sigma, high - low, (high - low) / median, near_high - near_low, noisy_near - near, tail, valid_fraction, unseen, fallback
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = rig.bf / median
        depth_sigma = depth * depth / rig.bf * median_sigma_px(spread, config)
        nearest = rig.bf / near
        nearest_sigma = nearest * nearest / rig.bf * nearest_sigma_px(spread, config)
        position = _position(points[:, some], label_of[some], depth, runs.box_xyxy, rig)
        covariance = _covariance(position, depth, depth_sigma, runs.box_xyxy, used, rig)
        distance = np.linalg.norm(position, axis=1)
        direction = position / distance[:, None]
        distance_sigma = np.sqrt(np.einsum("ni,nij,nj->n", direction, covariance, direction))
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
        label_of,
        spread,
    )


def _agreeing_rim(rim: np.ndarray, least: np.ndarray, most: np.ndarray, table: RowHistogram) -> np.ndarray:
    """The (rows, bins) rim counts at disparities least..most, which the interior has too: along the object the rim is no depth edge."""
    bins = np.arange(rim.shape[1], dtype=np.float32)
    agrees = bins >= ((least - table.low) / table.width).astype(np.float32)[:, None]
    agrees &= bins <= ((most - table.low) / table.width).astype(np.float32)[:, None]
    return rim * agrees


def _unseen_share(disparity_px: np.ndarray, labels: np.ndarray, box_xyxy: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """(n,) unknown pixels of no label in and around each box, per pixel of the object: there it may go on unseen."""
    coarse = np.isnan(disparity_px[::UNSEEN_STRIDE, ::UNSEEN_STRIDE])
    coarse &= labels[::UNSEEN_STRIDE, ::UNSEEN_STRIDE] == 0
    total = cv2.integral(coarse.view(np.uint8))
    margin = 0.25 * np.tile(box_xyxy[:, 2:] - box_xyxy[:, :2], 2) * (-1, -1, 1, 1)
    corner = np.rint((box_xyxy + margin) / UNSEEN_STRIDE).astype(np.intp)
    x0, y0, x1, y1 = np.clip(corner, 0, np.tile((coarse.shape[1], coarse.shape[0]), 2)).T
    unknown = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    return unknown * UNSEEN_STRIDE**2 / np.maximum(pixels, 1)


def _position(points: np.ndarray, label: np.ndarray, depth: np.ndarray, box_xyxy: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(n, 3): medians of X and Y beside the median depth. X * fx / depth + cx, a column, is histogrammed over twice the image box."""
    position = np.stack([depth, depth, depth], axis=1)
    for axis, focal, principal in ((0, rig.fx, rig.cx), (1, rig.fy, rig.cy)):
        size = np.maximum(box_xyxy[:, axis + 2] - box_xyxy[:, axis], 1)
        start = box_xyxy[:, axis] - 0.5 * size - 0.5  # a pixel covers half a pixel to either side of its centre
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.nan_to_num(focal / depth / (2.0 * size)).astype(np.float32)
        offset = ((principal - start) / (2.0 * size)).astype(np.float32)
        share = points[axis] * scale.take(label)
        share += offset.take(label)
        table = histogram(label, share, len(depth), POSITION_BINS, (0.0, 1.0))
        pixel = start + 2.0 * size * table.quantiles((0.5,))[:, 0]
        position[:, axis] *= (pixel - principal) / focal
    return position


def _covariance(position, depth, depth_sigma, box_xyxy, used, rig: StereoRig) -> np.ndarray:
    """(n, 3, 3): depth error along the ray, and a lateral one of a mask border's pixel and of sampling."""
    ray = position / depth[:, None]
    covariance = (depth_sigma**2)[:, None, None] * ray[:, :, None] * ray[:, None, :]
    extent = (box_xyxy[:, 2:] - box_xyxy[:, :2]).astype(np.float64)
    lateral_px = 0.1 + 0.003 * extent + 0.36 * extent / np.sqrt(np.maximum(used, 1))[:, None]
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
