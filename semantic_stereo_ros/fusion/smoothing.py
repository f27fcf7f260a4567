"""Disparity without its pixel noise: a plane per object, and what is left over it shrunk by the share that noise explains.

Disparity is linear in the pixel coordinates on every plane of the scene. A percentile of noisy values lies too far out; of the smoothed
ones it does not.
"""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.fusion.label_statistics import LabelPixels, segment_sums

NOISE_PER_SIGMA2, MOST_NOISE = 2.3, 0.9  # what a pixel's neighbours do not share: per px of sigma squared, at most this share of sigma
OUTLIER = 2.5  # standard deviations
MIN_ROUGHNESS_PX = 0.05


def fit_planes(
    pixels: LabelPixels, width: int, shifted: np.ndarray, trusted: np.ndarray, sigma_px: np.ndarray, thinning: int = 1
) -> np.ndarray:
    """(N,) float32 smoothed values of all pixels, the unknown ones too.

    width: of the image; shifted: (N,) float32 px, NaN or below zero where unknown; trusted: (N,) float32 0 or 1, what to begin with;
    sigma_px: (rows,) the pixels' mean sigma; thinning: fit to every so manieth pixel.
    """
    each = np.diff(pixels.bounds)
    place = np.empty((2, shifted.size), np.float32)
    place[1] = pixels.row
    place[0] = pixels.index - pixels.row * width
    present = shifted > 0
    known = np.where(present, shifted, np.float32(0.0))
    fewer, bounds = (slice(None, None, thinning)), (pixels.bounds + thinning - 1) // thinning
    some, value, weight = np.ascontiguousarray(place[:, fewer]), np.ascontiguousarray(known[fewer]), trusted[fewer]
    coefficients, limit = _plane(some, value, weight, bounds)
    residual = np.abs(value - _at(coefficients, some, np.diff(bounds)))
    weight = (residual <= np.repeat(limit.astype(np.float32), np.diff(bounds))).astype(np.float32)
    weight *= present[fewer]
    coefficients, limit = _plane(some, value, weight, bounds)
    spread = limit / OUTLIER
    noise_px = np.minimum(NOISE_PER_SIGMA2 * sigma_px, MOST_NOISE) * sigma_px
    rough = np.sqrt(np.maximum(spread**2 - noise_px**2, 0.0))
    shrink = np.repeat((rough / np.maximum(spread, 1e-9)).astype(np.float32), each)
    smooth = _at(coefficients, place, each)
    residual = known - smooth
    shrink *= (np.abs(residual) <= np.repeat(limit.astype(np.float32), each)) & present
    residual *= shrink
    smooth += residual
    return smooth


def _at(coefficients: np.ndarray, place: np.ndarray, each: np.ndarray) -> np.ndarray:
    a, b, c = (np.repeat(x.astype(np.float32), each) for x in coefficients)
    a *= place[0]
    b *= place[1]
    a += b
    a += c
    return a


def _plane(place: np.ndarray, value: np.ndarray, weight: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3, rows) slopes along column and row and the offset of each slice's weighted least squares plane; (rows,) limit of an outlier."""
    each = np.diff(bounds)
    terms = np.empty((6, value.size), np.float32)
    terms[:2], terms[2], terms[3] = place, value, 1.0
    terms[:4] *= weight
    sums = segment_sums(terms[:4], bounds)
    total = np.maximum(sums[3], 1e-9)
    mean = sums[:3] / total
    shift = np.repeat(mean.astype(np.float32), each, axis=1)
    x, y, z = place[0] - shift[0], place[1] - shift[1], value - shift[2]
    wx, wy, wz = weight * x, weight * y, weight * z
    for k, (left, right) in enumerate(((wx, x), (wx, y), (wy, y), (wx, z), (wy, z), (wz, z))):
        np.multiply(left, right, out=terms[k])
    xx, xy, yy, xz, yz, zz = segment_sums(terms, bounds)
    # a pixel's own extent keeps lines and single pixels solvable
    xx, yy = xx + total / 12.0, yy + total / 12.0
    determinant = xx * yy - xy * xy
    a, b = (yy * xz - xy * yz) / determinant, (xx * yz - xy * xz) / determinant
    energy = np.maximum(zz - a * xz - b * yz, 0.0)
    limit = np.maximum(OUTLIER * np.sqrt(energy / total), MIN_ROUGHNESS_PX)
    return np.stack([a, b, mean[2] - a * mean[0] - b * mean[1]]), limit
