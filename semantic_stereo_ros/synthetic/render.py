"""Ray casting: the scene at one instant, seen by one camera, to depth, body and colour per pixel.

Exact up to float64: every pixel's depth is the analytic intersection of its centre ray with the nearest body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.synthetic.scene import Body, SceneModel
from semantic_stereo_ros.synthetic.shapes import Triple, intersect, surface
from semantic_stereo_ros.synthetic.texture import albedo

_SKY = np.array([0.62, 0.70, 0.80], np.float32)
_SUBRAYS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))  # rotated grid, px
_BLOCK = 32768


@dataclass(frozen=True, eq=False)
class PlacedBody:
    """A body in one camera's frame: point_camera = rotation @ point_shape + translation."""

    body: Body
    rotation: np.ndarray
    translation: np.ndarray
    bounds: tuple[float, float, float, float]  # of its rays: x/z min, y/z min, x/z max, y/z max

    def to_shape(self, x: np.ndarray, y: np.ndarray) -> Triple:
        """Directions (x, y, 1) of camera rays in the shape's coordinates."""
        r = self.rotation
        return tuple(r[0, k] * x + (r[1, k] * y + r[2, k]) for k in range(3))  # type: ignore[return-value]

    @property
    def origin(self) -> np.ndarray:
        """The camera's centre in the shape's coordinates."""
        return -self.rotation.T @ self.translation


def place_bodies(model: SceneModel, pose_world_camera: np.ndarray, time_s: float) -> tuple[PlacedBody, ...]:
    """The model's bodies at `time_s` in the frame of the camera with the given pose (4x4, camera -> world)."""
    world_to_camera = np.linalg.inv(pose_world_camera)
    placed = []
    for body in model.bodies:
        pose = world_to_camera @ body.pose(time_s)
        placed.append(PlacedBody(body, pose[:3, :3], pose[:3, 3], _ray_bounds(body, pose)))
    return tuple(placed)


def _ray_bounds(body: Body, pose: np.ndarray) -> tuple[float, float, float, float]:
    """Bounds of x/z and y/z of the body's bounding box; infinite when it reaches behind the camera."""
    half = 0.5 * np.asarray(body.size_m)
    if not np.isfinite(half).all():
        return -np.inf, -np.inf, np.inf, np.inf
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    corners = (signs * half) @ pose[:3, :3].T + pose[:3, 3]
    if corners[:, 2].max() <= 0.01:
        return np.inf, np.inf, -np.inf, -np.inf
    if corners[:, 2].min() <= 0.01:
        return -np.inf, -np.inf, np.inf, np.inf
    rays = corners[:, :2] / corners[:, 2:]
    return rays[:, 0].min(), rays[:, 1].min(), rays[:, 0].max(), rays[:, 1].max()


def cast(placed: tuple[PlacedBody, ...], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera rays x/z and y/z, two arrays that broadcast to (h, w) -> (depth (h, w) float64, inf = nothing; index of the body, -1)."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    depth = np.full(shape, np.inf)
    index = np.full(shape, -1, np.int16)
    for number, item in enumerate(placed):
        rows, columns = _window(item, x, y)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            continue
        direction = item.to_shape(_cut(x, rows, columns), _cut(y, rows, columns))
        hit = intersect(item.body.shape, np.asarray(item.body.size_m), item.origin, direction)
        view, owner = depth[rows, columns], index[rows, columns]
        nearer = hit < view
        np.copyto(view, hit, where=nearer)
        owner[nearer] = number
    return depth, index


def _window(item: PlacedBody, x: np.ndarray, y: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the ray grid that can hit the body."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    x_min, y_min, x_max, y_max = item.bounds
    inside_x, inside_y = (x >= x_min) & (x <= x_max), (y >= y_min) & (y <= y_max)
    if x.shape[0] == 1 and y.shape[1] == 1:
        return _span(np.asarray(inside_y)[:, 0]), _span(np.asarray(inside_x)[0])
    inside = np.asarray(np.broadcast_to(inside_x & inside_y, shape))
    return _span(inside.any(axis=1)), _span(inside.any(axis=0))


def _span(flags) -> slice:
    hits = np.flatnonzero(flags)
    return slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 0)


def _cut(array: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    return array[rows if array.shape[0] > 1 else slice(None), columns if array.shape[1] > 1 else slice(None)]


def shade(
    model: SceneModel,
    placed: tuple[PlacedBody, ...],
    light_camera: np.ndarray,
    rays: tuple[np.ndarray, np.ndarray],
    depth: np.ndarray,
    index: np.ndarray,
    focal_px: float,
) -> np.ndarray:
    """(N,) rays with their depth and body -> (N, 3) float32 RGB in 0..1, Lambert's law plus ambient light."""
    color = np.empty((depth.size, 3), np.float32)
    color[:] = _SKY
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index + 1, minlength=len(placed) + 1)
    start = int(counts[0])
    for number, item in enumerate(placed):
        mine = order[start : start + int(counts[number + 1])]
        start += mine.size
        for begin in range(0, mine.size, _BLOCK):
            part = mine[begin : begin + _BLOCK]
            x, y, z = rays[0][part], rays[1][part], depth[part]
            color[part] = _shade_body(model, placed, item, light_camera, x, y, z, focal_px)
    return color


def _shade_body(model, placed, item, light_camera, x, y, z, focal_px) -> np.ndarray:
    body, origin = item.body, item.origin
    direction = item.to_shape(x, y)
    point = (origin[0] + z * direction[0], origin[1] + z * direction[1], origin[2] + z * direction[2])
    u, v, normal = surface(body.shape, np.asarray(body.size_m), point)
    length = np.sqrt(x * x + y * y + 1.0)
    cosine = np.abs(normal[0] * direction[0] + normal[1] * direction[1] + normal[2] * direction[2]) / length
    footprint = z / focal_px / np.sqrt(np.maximum(cosine, 0.02))
    light = item.rotation.T @ light_camera
    lambert = np.maximum(normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2], 0.0)
    if model.shadows:
        lambert = lambert * _lit(placed, item, light_camera, np.stack([x * z, y * z, z]))
    brightness = (model.ambient + (1.0 - model.ambient) * lambert).astype(np.float32)
    return albedo(body.texture, u, v, footprint) * brightness[:, None]


def _lit(placed: tuple[PlacedBody, ...], receiver: PlacedBody, light_camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(3, N) points -> (N,) 1 where the lamp reaches, 0 in the shadow of another solid."""
    lit = np.ones(points.shape[1])
    for item in placed:
        if item is receiver or item.body.shape == "plane":
            continue
        offset = points - item.translation[:, None]
        along = light_camera @ offset
        distance2 = (offset * offset).sum(axis=0) - along * along
        radius = 0.5 * float(np.linalg.norm(item.body.size_m))
        near = np.flatnonzero((distance2 < radius * radius) & (along < radius))
        if not near.size:
            continue
        origin = item.rotation.T @ offset[:, near]
        direction = tuple(np.full(1, c) for c in item.rotation.T @ light_camera)
        hit = intersect(item.body.shape, np.asarray(item.body.size_m), origin, direction)  # type: ignore[arg-type]
        lit[near[np.isfinite(hit)]] = 0.0
    return lit


def render(
    model: SceneModel,
    pose_world_camera: np.ndarray,
    time_s: float,
    x: np.ndarray,
    y: np.ndarray,
    focal_px: float,
    antialias: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(depth (H, W) float64 m, index of the body (H, W) int16, colour (H, W, 3) float32 in 0..1) of the rays x/z, y/z.

    Depth and body are those of the pixel's centre. With `antialias`, pixels on a silhouette get the mean colour of four more rays.
    """
    placed = place_bodies(model, pose_world_camera, time_s)
    light = np.asarray(model.light, np.float64)
    light_camera = pose_world_camera[:3, :3].T @ (light / np.linalg.norm(light))
    depth, index = cast(placed, x, y)
    full_x, full_y = (np.broadcast_to(a, depth.shape).ravel() for a in (x, y))
    color = shade(model, placed, light_camera, (full_x, full_y), depth.ravel(), index.ravel(), focal_px)
    if antialias:
        edge = np.flatnonzero(silhouettes(index))
        if edge.size:
            step = 1.0 / focal_px
            sub_x = np.concatenate([full_x[edge] + dx * step for dx, _ in _SUBRAYS])
            sub_y = np.concatenate([full_y[edge] + dy * step for _, dy in _SUBRAYS])
            sub_depth, sub_index = cast(placed, sub_x[None], sub_y[None])
            sub_color = shade(model, placed, light_camera, (sub_x, sub_y), sub_depth[0], sub_index[0], focal_px)
            color[edge] = sub_color.reshape(len(_SUBRAYS), edge.size, 3).mean(axis=0)
    return depth, index, color.reshape(*depth.shape, 3)


def silhouettes(index: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right, left, upper or lower neighbour belongs to another body."""
    edge = np.zeros(index.shape, bool)
    across = index[:, 1:] != index[:, :-1]
    down = index[1:] != index[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge
