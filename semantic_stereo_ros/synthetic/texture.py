"""Surface textures: a grey value as a continuous function of surface coordinates, blended between two colours.

Both cameras evaluate the same function at their own hit points, so the right image is a true subpixel shift of the left one.
Noise comes from one periodic tile with a mip pyramid (L. Williams, "Pyramidal Parametrics", SIGGRAPH 1983): the level follows the
footprint of a pixel on the surface, so that far surfaces do not alias. A second, coarser sample at an incommensurate scale keeps
the tile's period from showing as repeated texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_TILE = 512
_COARSE = 0.1618


@dataclass(frozen=True)
class Texture:
    """What covers a surface. Colours are RGB albedos in 0..1; metres are measured along the surface.

    pattern: 'plain' (noise only), 'checker', 'stripes', or 'cells' (planks, tiles, bricks: rows of width pattern_m, each cell
    cell_length_m long and shifted by stagger_m times the row's number, with joints of joint_m).
    contrast: share of the noise in the blend of the colours; pattern_contrast: that of the pattern. grain_m: size of the finest noise;
    grain_stretch: how much longer the grain is along u (wood). offset_m: shift that sets one surface's noise apart from another's.
    """

    color_a: tuple[float, float, float]
    color_b: tuple[float, float, float]
    pattern: str = "plain"
    contrast: float = 1.0
    pattern_contrast: float = 0.5
    grain_m: float = 0.004
    grain_stretch: float = 1.0
    pattern_m: float = 0.1
    cell_length_m: float = 0.1
    stagger_m: float = 0.0
    joint_m: float = 0.0
    offset_m: tuple[float, float] = (0.0, 0.0)


def albedo(texture: Texture, u_m: np.ndarray, v_m: np.ndarray, footprint_m: np.ndarray) -> np.ndarray:
    """(N,) surface coordinates and pixel footprints in m -> (N, 3) float32 RGB albedo in 0..1."""
    u_m, v_m, footprint_m = (np.asarray(a, np.float32) for a in (u_m, v_m, footprint_m))
    value = np.full(u_m.shape, 0.5, np.float32)
    joint = None
    if texture.contrast:
        shift_u, shift_v = texture.offset_m
        scale_u, scale_v = 1.0 / (texture.grain_m * texture.grain_stretch), 1.0 / texture.grain_m
        u, v = (u_m + np.float32(shift_u)) * np.float32(scale_u), (v_m + np.float32(shift_v)) * np.float32(scale_v)
        size = footprint_m * np.float32(1.0 / (texture.grain_m * np.sqrt(texture.grain_stretch)))
        noise = 0.65 * _noise(u, v, size, blend=True)
        noise += 0.55 * _noise(u * np.float32(_COARSE), v * np.float32(_COARSE), size * np.float32(_COARSE), blend=False)
        value += np.float32(texture.contrast) * noise
    if texture.pattern == "checker":
        wave = _square_wave(u_m, texture.pattern_m, footprint_m) * _square_wave(v_m, texture.pattern_m, footprint_m)
        value += np.float32(0.5 * texture.pattern_contrast) * wave
    elif texture.pattern == "stripes":
        value += np.float32(0.5 * texture.pattern_contrast) * _square_wave(v_m, texture.pattern_m, footprint_m)
    elif texture.pattern == "cells":
        tone, joint = _cells(texture, u_m, v_m, footprint_m)
        value += np.float32(texture.pattern_contrast) * tone
    elif texture.pattern != "plain":
        raise ValueError(f"pattern must be plain, checker, stripes or cells, got {texture.pattern!r}")
    np.clip(value, 0.0, 1.0, out=value)
    first, second = np.asarray(texture.color_a, np.float32), np.asarray(texture.color_b, np.float32)
    color = value[:, None] * (second - first) + first
    if joint is not None:
        color *= (1.0 - 0.65 * joint)[:, None]
    return color


def _square_wave(x_m: np.ndarray, half_period_m: float, footprint_m: np.ndarray) -> np.ndarray:
    """-1..1, changing sign every `half_period_m`, with edges as wide as the footprint and fading when the footprint outgrows it."""
    phase = x_m * np.float32(1.0 / (2.0 * half_period_m))
    phase -= np.floor(phase)
    to_edge = (np.float32(0.25) - np.abs(phase - np.float32(0.5))) * np.float32(2.0 * half_period_m)
    soft = np.maximum(footprint_m, np.float32(1e-4))
    return np.clip(to_edge / (0.5 * soft), -1.0, 1.0) * np.clip(1.5 - soft / np.float32(half_period_m), 0.0, 1.0)


def _cells(texture: Texture, u_m: np.ndarray, v_m: np.ndarray, footprint_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(tone in -0.5..0.5 of each cell, share of the pixel that is joint in 0..1)."""
    row = np.floor(v_m * np.float32(1.0 / texture.pattern_m))
    u_shifted = u_m + row * np.float32(texture.stagger_m)
    column = np.floor(u_shifted * np.float32(1.0 / texture.cell_length_m))
    key = (row.astype(np.int64) * 73 + column.astype(np.int64) * 151) & 4095
    smallest = np.float32(min(texture.pattern_m, texture.cell_length_m))
    fade = np.clip(1.5 - 2.0 * footprint_m / smallest, 0.0, 1.0)
    tone = _cell_tones()[key] * fade
    if not texture.joint_m:
        return tone, np.zeros_like(tone)
    inside_v = v_m - row * np.float32(texture.pattern_m)
    inside_u = u_shifted - column * np.float32(texture.cell_length_m)
    to_joint = np.minimum(
        np.minimum(inside_v, np.float32(texture.pattern_m) - inside_v), np.minimum(inside_u, np.float32(texture.cell_length_m) - inside_u)
    )
    width = np.maximum(footprint_m, np.float32(1e-4))
    half_joint = np.float32(0.5 * texture.joint_m)
    return tone, np.clip((half_joint - to_joint) / width + 0.5, 0.0, 1.0) * np.minimum(texture.joint_m / width, 1.0)


def _noise(u: np.ndarray, v: np.ndarray, footprint: np.ndarray, blend: bool) -> np.ndarray:
    """Band-limited noise, roughly -0.5..0.5, at texel coordinates; `blend` mixes two pyramid levels (trilinear)."""
    pixels, starts, top = _pyramid()
    level = np.log2(np.maximum(footprint, np.float32(1.0)))
    np.minimum(level, np.float32(top), out=level)
    if not blend:
        return _bilinear(pixels, starts, u, v, np.rint(level).astype(np.int32))
    low = np.minimum(level.astype(np.int32), top - 1)
    share = level - low
    coarse = np.flatnonzero(share > 0)
    result = _bilinear(pixels, starts, u, v, low)
    if coarse.size == share.size:
        result += share * (_bilinear(pixels, starts, u, v, low + 1) - result)
    elif coarse.size:
        upper = _bilinear(pixels, starts, u[coarse], v[coarse], low[coarse] + 1)
        result[coarse] += share[coarse] * (upper - result[coarse])
    return result


def _bilinear(pixels: np.ndarray, starts: np.ndarray, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Periodic bilinear sample of the given pyramid level; texel centres of level k lie at (i + 0.5) * 2^k."""
    shrink = np.ldexp(np.float32(1.0), -level)
    x, y = u * shrink, v * shrink
    x -= np.float32(0.5)
    y -= np.float32(0.5)
    x0, y0 = np.floor(x), np.floor(y)
    x -= x0
    y -= y0
    size = np.int32(_TILE) >> level
    mask = size - 1
    column, row = x0.astype(np.int32), y0.astype(np.int32)
    left, right = column & mask, (column + 1) & mask
    start = starts[level]
    upper, lower = start + (row & mask) * size, start + ((row + 1) & mask) * size
    first = pixels[upper + left]
    first += x * (pixels[upper + right] - first)
    second = pixels[lower + left]
    second += x * (pixels[lower + right] - second)
    first += y * (second - first)
    return first


@lru_cache(maxsize=1)
def _pyramid() -> tuple[np.ndarray, np.ndarray, int]:
    """(all levels of the noise tile in one flat float32 array, where each level starts, number of the last level)."""
    rng = np.random.default_rng(20260101)
    tile = np.zeros((_TILE, _TILE))
    for octave in range(7):
        cells = _TILE >> octave
        coarse = rng.standard_normal((cells, cells))
        tile += _enlarge_periodic(coarse, octave) * 1.12**octave
    tile = np.clip(tile / (5.0 * tile.std()), -0.5, 0.5)
    levels = [tile]
    while levels[-1].shape[0] > 4:
        t = levels[-1]
        levels.append(0.25 * (t[::2, ::2] + t[1::2, ::2] + t[::2, 1::2] + t[1::2, 1::2]))
    starts = np.cumsum([0] + [t.size for t in levels[:-1]]).astype(np.int32)
    return np.concatenate([t.ravel() for t in levels]).astype(np.float32), starts, len(levels) - 1


def _enlarge_periodic(lattice: np.ndarray, octave: int) -> np.ndarray:
    """Lattice values at every 2^octave texels, joined by smoothstep (value noise), periodic."""
    step = 1 << octave
    position = np.arange(lattice.shape[0] * step)
    low = position // step
    high = (low + 1) % lattice.shape[0]
    share = (position % step) / step
    share = share * share * (3.0 - 2.0 * share)
    rows = lattice[low] + share[:, None] * (lattice[high] - lattice[low])
    return rows[:, low] + share[None, :] * (rows[:, high] - rows[:, low])


@lru_cache(maxsize=1)
def _cell_tones() -> np.ndarray:
    """Tones of the cells, by hash of row and column."""
    return np.random.default_rng(20260102).uniform(-0.5, 0.5, 4096).astype(np.float32)
