"""True numbers of the objects of one frame, by the definitions of types.Measurement, over the exactly known visible pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from semantic_stereo_ros.geometry.points import ray_tables
from semantic_stereo_ros.synthetic.render import PlacedBody
from semantic_stereo_ros.types import NAN3, OrientedBox, StereoRig


@dataclass(frozen=True, eq=False)
class TrueObject:
    """One object of a frame, camera frame (left optical). Pixel-based numbers are NaN when no pixel is visible (pixels == 0).

    depth_m: median Z of the visible pixels; position_m (3,): component-wise median of their points; distance_m: norm of the position;
    nearest_m: 5th percentile of the range; box_xyxy: image box, maximum exclusive. center_m, size_m, orientation_xyzw: the whole body,
    hidden parts included. velocity_world_mps: motion of the centre relative to the world, velocity_camera_mps: change of center_m per
    second (the camera's own motion included); both along camera axes. moving: it moves in the world.
    """

    object_id: int
    name: str
    pixels: int
    moving: bool
    center_m: np.ndarray
    size_m: np.ndarray
    orientation_xyzw: np.ndarray
    velocity_world_mps: np.ndarray
    velocity_camera_mps: np.ndarray
    box_xyxy: tuple[int, int, int, int] = (0, 0, 0, 0)
    depth_m: float = float("nan")
    distance_m: float = float("nan")
    nearest_m: float = float("nan")
    position_m: np.ndarray = field(default_factory=lambda: NAN3)

    @property
    def visible(self) -> bool:
        """True when at least one pixel of the left image shows it."""
        return self.pixels > 0

    @property
    def box(self) -> OrientedBox:
        """The whole body's oriented box."""
        return OrientedBox(self.center_m, self.size_m, self.orientation_xyzw)


def measure_visible(depth_m: np.ndarray, instance_ids: np.ndarray, object_id: int, rig: StereoRig) -> dict:
    """The pixel-based fields of TrueObject for one id: (H, W) float64 depth in m and (H, W) ids."""
    rows, columns = np.nonzero(instance_ids == object_id)
    if not rows.size:
        return {"pixels": 0}
    x_over_z, y_over_z = ray_tables(rig)
    z = depth_m[rows, columns]
    x, y = z * x_over_z[columns], z * y_over_z[rows]
    position = np.array([np.median(x), np.median(y), np.median(z)])
    return {
        "pixels": int(rows.size),
        "box_xyxy": (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1),
        "depth_m": float(position[2]),
        "position_m": position,
        "distance_m": float(np.linalg.norm(position)),
        "nearest_m": float(np.percentile(np.sqrt(x * x + y * y + z * z), 5)),
    }


def true_objects(
    placed: tuple[PlacedBody, ...],
    depth_m: np.ndarray,
    instance_ids: np.ndarray,
    rig: StereoRig,
    pose_at,
    time_s: float,
) -> tuple[TrueObject, ...]:
    """All objects of the scene in order of id, those without a visible pixel included. pose_at(time_s) is the camera's 4x4 pose."""
    result = []
    for item in placed:
        body = item.body
        if body.object_id == 0:
            continue
        world, camera = _velocities(body, pose_at, time_s)
        result.append(
            TrueObject(
                object_id=body.object_id,
                name=body.name,
                moving=body.moving,
                center_m=item.translation.copy(),
                size_m=np.asarray(body.size_m, np.float64),
                orientation_xyzw=quaternion_xyzw(item.rotation),
                velocity_world_mps=world,
                velocity_camera_mps=camera,
                **measure_visible(depth_m, instance_ids, body.object_id, rig),
            )
        )
    return tuple(sorted(result, key=lambda o: o.object_id))


def _velocities(body, pose_at, time_s: float, step_s: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    """(relative to the world, relative to the moving camera) of the body's centre, camera axes, by central differences."""
    rotation = pose_at(time_s)[:3, :3]
    before, after = (body.pose(time_s + sign * step_s)[:3, 3] for sign in (-1, 1))
    in_camera = []
    for sign, center in ((-1, before), (1, after)):
        pose = pose_at(time_s + sign * step_s)
        in_camera.append(pose[:3, :3].T @ (center - pose[:3, 3]))
    return rotation.T @ (after - before) / (2 * step_s), (in_camera[1] - in_camera[0]) / (2 * step_s)


def quaternion_xyzw(rotation: np.ndarray) -> np.ndarray:
    """(4,) unit quaternion x, y, z, w of a 3x3 rotation, w >= 0. I. Y. Bar-Itzhack, "New method for extracting the quaternion", 2000."""
    r = rotation
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    q = np.linalg.eigh(k)[1][:, -1]
    return q if q[3] >= 0 else -q
