"""What the drawn pixels of every mask say of its object: depth, distance, nearest point, position, and how far off each may be."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.fusion.label_statistics import LabelRuns, Samples, draw_pixels, inside_rim, row_counts, row_quantiles
from semantic_stereo_ros.fusion.sigma import ObjectSpread, calibration_error_px, rig_doubt, sigmas_px
from semantic_stereo_ros.fusion.smoothing import fit_surfaces, smooth
from semantic_stereo_ros.types import Disparity, StereoRig

SAMPLES, MIN_SAMPLES, MAX_SAMPLES = 16384, 160, 640  # pixels drawn: of all objects together; at least and at most of each
SIGMA_SAMPLES = 20  # pixels read for the mean of sigma
LATERAL_STRIDE = 2  # every so many drawn pixels tell the median of X and Y, which hardly depends on the disparity

# with fewer known pixels inside the rim, or a smaller share of them, the whole mask is measured
MIN_INTERIOR_PIXELS, MIN_INTERIOR_FRACTION = 24, 0.15
UNSEEN_STRIDE = 16
RIM_MARGIN_PX = 0.3
RANGE_MARGIN_PX = 4.0
VIEW_MARGIN_PX = 4.0


@dataclass(frozen=True, eq=False)
class _Pixels:
    """What is drawn of n masks.

    (n, K): shifted float32 px, disparity with doffs, 0 where unknown; known bool; core bool, the known pixels inside the rim, all known
    ones of a mask that has hardly any. (n,): valid_fraction; core_count; fallback bool, which masks those are.
    """

    samples: Samples
    shifted: np.ndarray
    known: np.ndarray
    core: np.ndarray
    valid_fraction: np.ndarray
    core_count: np.ndarray
    fallback: np.ndarray


@dataclass(frozen=True, eq=False)
class _Agreement:
    """Which pixels of n masks count.

    (n,) px: median, iqr and near_end (90th percentile) of the core's disparity with doffs. (n, 1) float32 px: least and most of what
    agrees with it. (n, K) bool: agrees, those in between; kept, these and the core.
    """

    median_px: np.ndarray
    iqr_px: np.ndarray
    near_end_px: np.ndarray
    least_px: np.ndarray
    most_px: np.ndarray
    agrees: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True, eq=False)
class _Quantiles:
    """(n,) px of disparity with doffs: median, unknown pixels filled; of the smoothed range, middle and near percentile."""

    median_px: np.ndarray
    middle_px: np.ndarray
    near_px: np.ndarray


@dataclass(frozen=True, eq=False)
class ObjectStatistics:
    """Arrays by mask, of those that have pixels; metres, camera frame. points (3, n, K) float32 of the drawn pixels, not finite where
    unknown; kept (n, K) bool, which of them count."""

    runs: LabelRuns
    valid_fraction: np.ndarray
    depth: np.ndarray
    depth_sigma: np.ndarray
    position: np.ndarray
    covariance: np.ndarray
    distance: np.ndarray
    distance_sigma: np.ndarray
    nearest: np.ndarray
    nearest_sigma: np.ndarray
    points: np.ndarray
    kept: np.ndarray


def object_statistics(
    disparity: Disparity,
    labels: np.ndarray,
    runs: LabelRuns,
    *,
    erode_px: int,
    nearest_percentile: float,
    sigma_scale: float,
    calibration_sigma_px: float,
) -> ObjectStatistics:
    """Distances of n masks with their sigmas. labels: (H, W) uint16, C-contiguous; the numbers: see measure.Config."""
    rig = disparity.rig
    pixels = _draw(disparity, labels, runs, erode_px)
    agreement = _agreement(pixels)
    sigma_px = _mean_sigma(disparity.sigma_px, pixels.samples, agreement.kept)
    rays = _rays(pixels.samples, rig)
    quantiles = _quantiles(pixels, agreement, runs, rays, sigma_px, 1.0 - nearest_percentile / 100.0)
    used = pixels.core_count * runs.pixels / pixels.samples.count
    spread = _spread(disparity, labels, runs, pixels, agreement, quantiles, sigma_px, used, calibration_sigma_px)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth, nearest = rig.bf / quantiles.median_px, rig.bf / quantiles.near_px
        sigma_of_median_px, sigma_of_near_px = sigmas_px(spread)
        depth_sigma, nearest_sigma = (
            z**2 * sigma * (sigma_scale / rig.bf) for z, sigma in ((depth, sigma_of_median_px), (nearest, sigma_of_near_px))
        )
        points = _points(pixels.shifted, rays, rig)
        position = np.column_stack([_lateral_medians(points, agreement.kept), depth])
        covariance = _covariance(position, depth, depth_sigma, runs.size_wh, used, rig)
        distance = np.linalg.norm(position, axis=1)
        direction = position / distance[:, None]
        distance_sigma = np.sqrt(np.einsum("ni,nij,nj->n", direction, covariance, direction))
    return ObjectStatistics(
        runs=runs,
        valid_fraction=pixels.valid_fraction,
        depth=depth,
        depth_sigma=depth_sigma,
        position=position,
        covariance=covariance,
        distance=distance,
        distance_sigma=distance_sigma,
        nearest=nearest,
        nearest_sigma=nearest_sigma,
        points=points,
        kept=agreement.kept,
    )


def samples_per_object(objects: int) -> int:
    """How many pixels of each mask are drawn: neighbouring pixels of a matcher err alike, so that more add little."""
    return min(max(SAMPLES // objects, MIN_SAMPLES), MAX_SAMPLES)


def _draw(disparity: Disparity, labels: np.ndarray, runs: LabelRuns, erode_px: int) -> _Pixels:
    samples = draw_pixels(runs, labels.shape[1], samples_per_object(len(runs.label)))
    shifted = disparity.disparity_px[samples.row, samples.column] + np.float32(disparity.rig.doffs_px)
    shifted = np.fmax(shifted, np.float32(0.0))  # NaN becomes 0, too
    known = samples.real & (shifted > 0)
    valid = row_counts(known)
    core = known & inside_rim(labels, runs, samples, erode_px)
    count = row_counts(core)
    fallback = count < np.maximum(MIN_INTERIOR_FRACTION * valid, MIN_INTERIOR_PIXELS)
    core = np.where(fallback[:, None], known, core)
    return _Pixels(samples, shifted, known, core, valid / samples.count, np.where(fallback, valid, count), fallback)


def _agreement(pixels: _Pixels) -> _Agreement:
    """The rim of the mask counts where its disparities are the interior's: along the object it is no depth edge."""
    tenth, low, median, high, last = row_quantiles(pixels.shifted, pixels.core, pixels.core_count, (0.1, 0.25, 0.5, 0.75, 0.9)).T
    iqr = high - low
    margin = RIM_MARGIN_PX + 0.3 * iqr
    least, most = (tenth - margin).astype(np.float32)[:, None], (last + margin).astype(np.float32)[:, None]
    agrees = pixels.known & (pixels.shifted >= least) & (pixels.shifted <= most)
    return _Agreement(median, iqr, last, least, most, agrees, agrees | pixels.core)


def _mean_sigma(sigma_px: np.ndarray, samples: Samples, kept: np.ndarray) -> np.ndarray:
    """(n,) mean sigma in px of some of the kept pixels, 0 where none is: sigma varies so little that a part of them tells it."""
    some = slice(None, None, max(1, kept.shape[1] // SIGMA_SAMPLES))
    value = sigma_px[samples.row[:, some], samples.column[:, some]]
    return value.sum(axis=1, where=kept[:, some]) / np.maximum(row_counts(kept[:, some]), 1)


def _rays(samples: Samples, rig: StereoRig) -> np.ndarray:
    """(2, n, K) float32 X and Y per Z of the drawn pixels."""
    x = (samples.column.astype(np.float32) - np.float32(rig.cx)) * np.float32(1.0 / rig.fx)
    y = (samples.row.astype(np.float32) - np.float32(rig.cy)) * np.float32(1.0 / rig.fy)
    return np.stack([x, y])


def _quantiles(
    pixels: _Pixels, agreement: _Agreement, runs: LabelRuns, rays: np.ndarray, sigma_px: np.ndarray, near_share: float
) -> _Quantiles:
    """What is unknown in a mask is not missing at random: it is filled from a smooth surface, but not beyond what was seen."""
    samples = pixels.samples
    place = np.stack([samples.column, samples.row]).astype(np.float32)
    surface, surface_spread_px = fit_surfaces(place, runs, pixels.shifted, agreement.agrees, agreement.median_px)
    filled = np.clip(surface, agreement.least_px, agreement.most_px)
    smoothed = smooth(pixels.shifted, pixels.known, surface, surface_spread_px, sigma_px, filled)
    x, y = rays
    per_range = smoothed / np.sqrt(x * x + y * y + np.float32(1.0))  # bf / range, as disparity is bf / Z
    complete = np.stack([np.where(agreement.kept, pixels.shifted, filled), per_range])
    (median, _), (middle, near) = row_quantiles(complete, samples.real, samples.count, (0.5, near_share)).transpose(0, 2, 1)
    return _Quantiles(median, middle, near)


def _spread(
    disparity: Disparity,
    labels: np.ndarray,
    runs: LabelRuns,
    pixels: _Pixels,
    agreement: _Agreement,
    quantiles: _Quantiles,
    sigma_px: np.ndarray,
    used: np.ndarray,
    calibration_sigma_px: float,
) -> ObjectSpread:
    near_px = agreement.near_end_px - disparity.rig.doffs_px
    reaches_end = near_px > disparity.max_px - RANGE_MARGIN_PX
    return ObjectSpread(
        count=used,
        sigma_px=sigma_px,
        iqr_px=agreement.iqr_px,
        width_px=quantiles.median_px * np.sqrt(runs.pixels) / disparity.rig.fx,
        near_tail_px=np.maximum(quantiles.near_px - quantiles.middle_px - agreement.iqr_px, 0.0),
        rim_shift_px=np.abs(quantiles.median_px - agreement.median_px),
        valid_fraction=pixels.valid_fraction,
        unseen=_unseen_share(disparity.disparity_px, labels, runs),
        fallback=pixels.fallback,
        beyond_view=_share_beyond_view(runs, near_px),
        beyond_range_px=(1.0 - pixels.valid_fraction) * disparity.max_px * reaches_end,
        rig_doubt=np.full(len(used), rig_doubt(disparity.row_error_px)),
        calibration_px=np.full(len(used), calibration_error_px(disparity.row_error_px, calibration_sigma_px)),
    )


def _points(shifted: np.ndarray, rays: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(3, n, K) float32 m of all drawn pixels, camera frame; not finite where unknown."""
    depth = np.float32(rig.bf) / shifted
    return np.stack([*(rays * depth), depth])


def _lateral_medians(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(n, 2) median X and Y of some of the kept pixels."""
    chosen = kept[:, ::LATERAL_STRIDE]
    return row_quantiles(points[:2, :, ::LATERAL_STRIDE], chosen, row_counts(chosen), (0.5,))[:, :, 0].T


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
