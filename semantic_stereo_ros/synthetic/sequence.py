"""A scene, a rig and a sensor -> frames with exact truth, each rendered when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from semantic_stereo_ros.geometry.depth import depth_to_disparity, disparity_to_depth
from semantic_stereo_ros.synthetic.render import cast, place_bodies, render
from semantic_stereo_ros.synthetic.scene import SceneModel
from semantic_stereo_ros.synthetic.sensor import SyntheticMiscalibration, SyntheticSensor
from semantic_stereo_ros.synthetic.truth import TrueObject, true_objects
from semantic_stereo_ros.types import StereoFrame, StereoRig


@dataclass(frozen=True, eq=False)
class SyntheticFrame:
    """One rendered pair with its truth, all of it for pixel centres.

    disparity_px: (H, W) float32, exact raw x_left - x_right of the left pixels (-doffs_px where nothing is hit); disparity_right_px: the
    same of the right pixels. occluded: (H, W) bool, left pixels whose point the right camera does not see, hidden or outside its image.
    instance_ids, instance_ids_right: (H, W) uint16, 0 = no object (floor, walls). objects: every object of the scene, hidden ones
    (pixels == 0) too. With a miscalibration the right-view truths belong to the pixels of the right image as delivered.
    """

    frame: StereoFrame
    disparity_px: np.ndarray
    disparity_right_px: np.ndarray
    occluded: np.ndarray
    instance_ids: np.ndarray
    instance_ids_right: np.ndarray
    objects: tuple[TrueObject, ...]

    @property
    def rig(self) -> StereoRig:
        return self.frame.rig

    @property
    def depth_m(self) -> np.ndarray:
        """(H, W) float32 true Z of the left pixels, NaN where nothing is hit."""
        return disparity_to_depth(self.disparity_px, self.rig)

    @property
    def visible_objects(self) -> tuple[TrueObject, ...]:
        """The objects with at least one visible pixel."""
        return tuple(o for o in self.objects if o.visible)


@dataclass(frozen=True, eq=False)
class SyntheticSequence:
    """`len()` frames of a scene; frame i depends on (model, rig, sensor, seed, i) alone, whatever was rendered before.

    fps: frames per second; frame i is stamped start_ns + i / fps. antialias: silhouettes mix both sides, as a real sensor's do.
    """

    model: SceneModel
    rig: StereoRig
    frames: int = 1
    fps: float = 15.0
    seed: int = 0
    sensor: SyntheticSensor = field(default_factory=SyntheticSensor)
    miscalibration: SyntheticMiscalibration = field(default_factory=SyntheticMiscalibration)
    antialias: bool = True
    start_ns: int = 1_000_000_000

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[SyntheticFrame]:
        return (self[i] for i in range(self.frames))

    def time_s(self, index: int) -> float:
        """Scene time of frame `index`."""
        return index / self.fps

    def stamp_ns(self, index: int) -> int:
        """Stamp of frame `index`."""
        return self.start_ns + round(index * 1e9 / self.fps)

    def pose_world_camera(self, index: int) -> np.ndarray:
        """4x4 float64 pose of the left camera (optical frame) in the world at frame `index`."""
        return self.model.camera.pose(self.time_s(index))

    def __getitem__(self, index: int) -> SyntheticFrame:
        if not -self.frames <= index < self.frames:
            raise IndexError(f"frame {index} of a sequence of {self.frames}")
        index %= self.frames
        rig, time_s = self.rig, self.time_s(index)
        pose = self.pose_world_camera(index)
        right_pose = pose.copy()
        right_pose[:3, 3] += rig.baseline_m * pose[:3, 0]

        x, y = _left_rays(rig)
        depth, body, color = render(self.model, pose, time_s, x, y, rig.fx, self.antialias)
        x_right, y_right = self._right_rays()
        depth_right, body_right, color_right = render(self.model, right_pose, time_s, x_right, y_right, rig.fx, self.antialias)

        ids = np.array([b.object_id for b in self.model.bodies] + [0], np.uint16)  # the last one is index -1: nothing hit
        instance_ids = ids[body]
        frame = StereoFrame(
            left=self.sensor.expose(color, False, (self.seed, index, 0)),
            right_image=self.sensor.expose(color_right, True, (self.seed, index, 1)),
            rig=rig,
            stamp_ns=self.stamp_ns(index),
            pose_world_camera=pose,
        )
        return SyntheticFrame(
            frame=frame,
            disparity_px=depth_to_disparity(depth, rig).astype(np.float32),
            disparity_right_px=depth_to_disparity(depth_right, rig).astype(np.float32),
            occluded=self._occluded(depth, right_pose, time_s),
            instance_ids=instance_ids,
            instance_ids_right=ids[body_right],
            objects=true_objects(place_bodies(self.model, pose, time_s), depth, instance_ids, rig, self.model.camera.pose, time_s),
        )

    def view(self, index: int, x_over_z: np.ndarray, y_over_z: np.ndarray, right: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """What any other camera at the left or right camera's place sees: (image, (H, W) float32 Z in m along the rectified axis).

        x_over_z, y_over_z: (H, W) rays in the rectified camera's frame, such as cv2.undistortPoints(pixels, K, D, R=R_rectification)
        gives them: raw images of lenses with distortion, to test rectification with.
        """
        pose = self.pose_world_camera(index)
        pose[:3, 3] += float(right) * self.rig.baseline_m * pose[:3, 0]
        x, y = np.asarray(x_over_z, np.float64), np.asarray(y_over_z, np.float64)
        depth, _, color = render(self.model, pose, self.time_s(index), x, y, self.rig.fx, self.antialias)
        return self.sensor.expose(color, right, (self.seed, index, 2 + int(right))), depth.astype(np.float32)

    def _right_rays(self) -> tuple[np.ndarray, np.ndarray]:
        rig = self.rig
        u, v = np.arange(rig.size_wh[0], dtype=np.float64)[None], np.arange(rig.size_wh[1], dtype=np.float64)[:, None]
        u, v = self.miscalibration.ideal_pixels(u, v, (rig.cx_right, rig.cy))
        return (u - rig.cx_right) / rig.fx, (v - rig.cy) / rig.fy

    def _occluded(self, depth: np.ndarray, right_pose: np.ndarray, time_s: float) -> np.ndarray:
        """Cast the right camera's rays to every left pixel's own point: something nearer, or outside the image, hides it."""
        rig = self.rig
        x, y = _left_rays(rig)
        x_right = x - rig.baseline_m / depth
        u_right = x_right * rig.fx + rig.cx_right
        outside = (u_right < -0.5) | (u_right >= rig.size_wh[0] - 0.5)
        solids = tuple(p for p in place_bodies(self.model, right_pose, time_s) if p.body.shape != "plane")
        nearest, _ = cast(solids, x_right, np.broadcast_to(y, depth.shape))
        return outside | (nearest < depth * (1.0 - 1e-7) - 1e-7)


def _left_rays(rig: StereoRig) -> tuple[np.ndarray, np.ndarray]:
    u, v = np.arange(rig.size_wh[0], dtype=np.float64)[None], np.arange(rig.size_wh[1], dtype=np.float64)[:, None]
    return (u - rig.cx) / rig.fx, (v - rig.cy) / rig.fy
