"""3D boxes as a camera sees them, and prompts brought into its image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from semantic_stereo_ros.cameras import PinholeCamera
from semantic_stereo_ros.prompts import Box3dPrompt, BoxPrompt, Prompt, PromptError, PromptSet
from semantic_stereo_ros.types import OrientedBox

NEAR_M = 0.05


def prompts_in_image(prompts: PromptSet, camera: PinholeCamera) -> PromptSet:
    """The same prompts with every 3D box projected. Raises PromptError for one that does not touch the image."""
    return replace(prompts, prompts=tuple(prompt_in_image(prompt, camera) for prompt in prompts.prompts))


def prompt_in_image(prompt: Prompt, camera: PinholeCamera) -> Prompt:
    """The prompt, a 3D box as the 2D box around its part in view. Raises PromptError for what does not touch the image."""
    if not isinstance(prompt, Box3dPrompt):
        prompt.check_fits(camera.size_wh)
        return prompt
    box_xyxy = project_box(prompt.box, camera)
    if box_xyxy is None:
        center = ", ".join(f"{value:g}" for value in prompt.box.center_m)
        raise PromptError(
            f"the 3D box of object {prompt.object_id} around ({center}) m lies behind the camera or outside its image: "
            "are its frame and units (m) right?"
        )
    return BoxPrompt(prompt.object_id, box_xyxy, class_name=prompt.class_name)


def project_box(box: OrientedBox, camera: PinholeCamera, near_m: float = NEAR_M) -> tuple[float, float, float, float] | None:
    """The exact 2D bounds of a 3D box's part that a camera sees, (x_min, y_min, x_max, y_max) px, maxima exclusive; None = unseen.

    Each face is clipped by the near plane and the four sides of the view (Sutherland & Hodgman 1974), then projected: a box partly
    behind the camera or beside the image gives what is really in view. Every ray that meets a convex box ends in a face, so faces do.
    """
    planes = _view_planes(camera, near_m)
    seen = [points for face in _faces(box) if len(points := _clipped(face, planes))]
    if not seen:
        return None
    xyz = np.concatenate(seen)
    u = camera.fx * xyz[:, 0] / xyz[:, 2] + camera.cx + 0.5
    v = camera.fy * xyz[:, 1] / xyz[:, 2] + camera.cy + 0.5
    width, height = camera.size_wh
    bounds = np.clip([u.min(), v.min(), u.max(), v.max()], 0, [width, height, width, height])
    x_min, y_min, x_max, y_max = (float(value) for value in bounds)
    return (x_min, y_min, x_max, y_max) if x_min < x_max and y_min < y_max else None


def _view_planes(camera: PinholeCamera, near_m: float) -> np.ndarray:
    """(5, 4) float64: a point is in view where normal . X + offset >= 0 for all rows. With pixel centres at integers, u is -0.5..W-0.5."""
    width, height = camera.size_wh
    return np.array(
        [
            [0, 0, 1, -near_m],
            [camera.fx, 0, camera.cx + 0.5, 0],
            [-camera.fx, 0, width - 0.5 - camera.cx, 0],
            [0, camera.fy, camera.cy + 0.5, 0],
            [0, -camera.fy, height - 0.5 - camera.cy, 0],
        ]
    )


def _faces(box: OrientedBox) -> np.ndarray:
    """(6, 4, 3) float64 corners of the six faces, camera frame, in order around each face."""
    from scipy.spatial.transform import Rotation

    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    faces = np.empty((6, 4, 3))
    for index in range(6):
        axis, side = index // 2, 2 * (index % 2) - 1
        faces[index] = np.insert(square, axis, side, axis=1)
    turn = Rotation.from_quat(np.asarray(box.orientation_xyzw, np.float64))
    return turn.apply((faces * (np.asarray(box.size_m) / 2)).reshape(-1, 3)).reshape(6, 4, 3) + box.center_m


def _clipped(polygon: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """(N, 3) corners of a convex polygon's part inside all planes; (0, 3) when nothing is left."""
    for plane in planes:
        if not len(polygon):
            break
        height = polygon @ plane[:3] + plane[3]
        after, height_after = np.roll(polygon, -1, axis=0), np.roll(height, -1)
        crosses = (height >= 0) != (height_after >= 0)
        share = height[crosses] / (height[crosses] - height_after[crosses])
        cuts = polygon[crosses] + share[:, None] * (after[crosses] - polygon[crosses])
        # Order matters for the next plane: each cut stands behind the corner whose edge it cuts.
        position = np.concatenate([np.flatnonzero(height >= 0), np.flatnonzero(crosses) + 0.5])
        polygon = np.concatenate([polygon[height >= 0], cuts])[np.argsort(position)]
    return polygon
