"""Rays against planes, boxes, spheres and cylinders, in the coordinates of the shape (centre at the origin, z up).

A ray is origin + s * direction. Directions come from camera rays (x/z, y/z, 1), so that the smallest positive s of a hit is its depth Z.
`size_m` is the shape's extent along x, y, z: a plane lies in z = 0 (infinite extents allowed), a sphere's is its diameter three times,
a cylinder stands along z with diameter size_m[0].
Slab and quadratic tests as in P. Shirley, R. K. Morley, "Realistic Ray Tracing" (2003).
"""

from __future__ import annotations

import numpy as np

SHAPES = ("plane", "box", "sphere", "cylinder")
_NEAR = 1e-3
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def intersect(shape: str, size_m: np.ndarray, origin: Triple | np.ndarray, direction: Triple) -> np.ndarray:
    """s of the first hit with s > 1 mm, float64, inf where the ray misses. Origins inside a solid do not hit it."""
    half = 0.5 * np.asarray(size_m, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if shape == "plane":
            return _plane(half, origin, direction)
        if shape == "box":
            return _slabs(half, origin, direction)
        if shape == "sphere":
            return _sphere(half[0], origin, direction)
        if shape == "cylinder":
            return _cylinder(half, origin, direction)
    raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")


def _plane(half, origin, direction):
    s = -origin[2] / direction[2]
    hit = s > _NEAR
    for axis in (0, 1):
        if np.isfinite(half[axis]):
            hit &= np.abs(origin[axis] + s * direction[axis]) <= half[axis]
    return np.where(hit, s, np.inf)


def _slabs(half, origin, direction):
    enter, leave = _slab(half[0], origin[0], direction[0])
    for axis in (1, 2):
        near, far = _slab(half[axis], origin[axis], direction[axis])
        enter, leave = np.maximum(enter, near), np.minimum(leave, far)
    return np.where((enter <= leave) & (enter > _NEAR), enter, np.inf)


def _slab(half, origin, direction):
    inverse = 1.0 / direction
    one, two = (-half - origin) * inverse, (half - origin) * inverse
    return np.fmin(one, two), np.fmax(one, two)


def _sphere(radius, origin, direction):
    a = direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2
    b = origin[0] * direction[0] + origin[1] * direction[1] + origin[2] * direction[2]
    c = origin[0] ** 2 + origin[1] ** 2 + origin[2] ** 2 - radius * radius
    root = np.sqrt(b * b - a * c)
    s = c / (root - b)
    return np.where((b < 0) & (s > _NEAR), s, np.inf)


def _cylinder(half, origin, direction):
    a = direction[0] ** 2 + direction[1] ** 2
    b = origin[0] * direction[0] + origin[1] * direction[1]
    c = origin[0] ** 2 + origin[1] ** 2 - half[0] ** 2
    root = np.sqrt(b * b - a * c)
    inside, outside = c / (root - b), (root - b) / a
    enter, leave = np.minimum(inside, outside), np.maximum(inside, outside)
    near, far = _slab(half[2], origin[2], direction[2])
    enter, leave = np.maximum(enter, near), np.minimum(leave, far)
    return np.where((enter <= leave) & (enter > _NEAR), enter, np.inf)


def surface(shape: str, size_m: np.ndarray, point: Triple) -> tuple[np.ndarray, np.ndarray, Triple]:
    """(u_m, v_m, unit normal) of (N,) points on the shape. Coordinates are lengths along the surface, up to a sphere's cube map."""
    x, y, z = point
    if shape == "plane":
        return x, y, (np.zeros_like(x), np.zeros_like(x), np.ones_like(x))
    half = 0.5 * np.asarray(size_m, np.float64)
    if shape == "sphere":
        normal = (x / half[0], y / half[0], z / half[0])
        u, v, _ = _faces(normal)
        return u * half[0], v * half[0], normal
    if shape == "cylinder":
        cap = np.abs(z) >= half[2] * (1.0 - 1e-9)
        angle = np.arctan2(y, x)
        u, v = np.where(cap, x + 7.0, angle * half[0]), np.where(cap, y, z)
        side = np.where(cap, 0.0, 1.0 / half[0])
        return u, v, (x * side, y * side, np.where(cap, np.sign(z), 0.0))
    u, v, axis = _faces((x / half[0], y / half[1], z / half[2]), point)
    normal = tuple(np.where(axis == k, np.sign(point[k]), 0.0) for k in range(3))
    return u, v, (normal[0], normal[1], normal[2])


def _faces(unit: Triple, point: Triple | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face coordinates of a cube: of `point` (a box), or of `unit` pushed out to the cube (a sphere). Faces get their own offset."""
    size = np.abs(np.stack(unit))
    axis = np.argmax(size, axis=0)
    if point is None:
        scale = 1.0 / np.max(size, axis=0)
        point = (unit[0] * scale, unit[1] * scale, unit[2] * scale)
    negative = np.choose(axis, unit) < 0
    u = np.where(axis == 0, point[1], point[0]) + 3.7 * (axis + 3 * negative)
    v = np.where(axis == 2, point[1], point[2])
    return u, v, axis
