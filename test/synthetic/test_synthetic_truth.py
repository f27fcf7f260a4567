"""The truth of random scenes, checked by other ways than the one that made it: warping, reprojection, recomputation from pixels."""

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.geometry.points import depth_to_points, project, transform
from semantic_stereo_ros.synthetic import Body, CameraPath, SceneModel, SyntheticMiscalibration, Texture, default_rig, random_sequence
from semantic_stereo_ros.synthetic.render import cast, place_bodies, silhouettes
from semantic_stereo_ros.types import StereoRig

SIZE = (320, 240)
SEEDS = (0, 3, 4)


def clean(seed, **options):
    """A scene without sensor: what is left between the views is geometry."""
    return random_sequence(seed, size_wh=SIZE, noise_sigma=0.0, blur_px=0.0, antialias=False, **options)[0]


def warp(image, frame):
    """The right view's `image` brought to the left pixels by the true disparity, linear in x."""
    columns = np.arange(SIZE[0], dtype=np.float32)[None] - frame.disparity_px
    rows = np.repeat(np.arange(SIZE[1], dtype=np.float32)[:, None], SIZE[0], axis=1)
    return cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def smooth_surroundings(frame):
    """Left pixels whose right neighbours in the warp belong to one surface: not near a silhouette of either view."""
    wide = np.ones((3, 5), np.uint8)
    left = cv2.dilate(silhouettes(frame.instance_ids).astype(np.uint8), wide)
    jump = np.abs(np.diff(frame.disparity_right_px, axis=1, prepend=frame.disparity_right_px[:, :1])) > 0.25
    right = cv2.dilate((jump | silhouettes(frame.instance_ids_right)).astype(np.uint8), wide)
    inside = np.arange(SIZE[0]) - frame.disparity_px >= 1
    return (left == 0) & (warp(right, frame) == 0) & ~frame.occluded & inside


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("doffs_px", [0.0, 12.5])
def test_right_image_warped_by_the_true_disparity_is_the_left_image(seed, doffs_px):
    frame = clean(seed, doffs_px=doffs_px)
    use = smooth_surroundings(frame)
    assert use.mean() > 0.75
    error = np.abs(warp(frame.frame.right.astype(np.float32), frame) - frame.frame.left)[use]
    assert np.median(error) <= 1.0
    assert np.mean(error) < 1.6
    rows = np.repeat(np.arange(SIZE[1], dtype=np.float32)[:, None], SIZE[0], axis=1)
    wrong = np.arange(SIZE[0], dtype=np.float32)[None] - frame.disparity_px + 1.0  # one pixel off must be visibly worse
    shifted = cv2.remap(frame.frame.right.astype(np.float32), wrong, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    assert np.mean(np.abs(shifted - frame.frame.left)[use]) > 2.0 * np.mean(error)


@pytest.mark.parametrize("seed", SEEDS)
def test_right_disparity_and_ids_agree_with_the_left_under_the_warp(seed):
    frame = clean(seed)
    use = smooth_surroundings(frame)
    difference = np.abs(warp(frame.disparity_right_px, frame) - frame.disparity_px)[use]
    assert np.quantile(difference, 0.99) < 0.02
    assert difference.max() < 0.5
    columns = np.clip(np.rint(np.arange(SIZE[0]) - frame.disparity_px).astype(int), 0, SIZE[0] - 1)
    warped_ids = np.take_along_axis(frame.instance_ids_right, columns, axis=1)
    np.testing.assert_array_equal(warped_ids[use], frame.instance_ids[use])


@pytest.mark.parametrize("seed", SEEDS)
def test_occlusion_is_what_a_depth_test_against_the_right_view_says(seed):
    frame = clean(seed)
    columns = np.arange(SIZE[0]) - frame.disparity_px
    outside = (columns < -0.5) | (columns >= SIZE[0] - 0.5)
    assert frame.occluded[outside].all()
    low = np.clip(np.floor(columns).astype(int), 0, SIZE[0] - 1)
    high = np.clip(low + 1, 0, SIZE[0] - 1)
    neighbours = np.stack([np.take_along_axis(frame.disparity_right_px, c, axis=1) for c in (low, high)])
    slack = 0.05 + 0.02 * frame.disparity_px
    surely_hidden = (neighbours > frame.disparity_px + slack + 0.5).all(axis=0)
    surely_seen = (np.abs(neighbours - frame.disparity_px) < slack).all(axis=0) & ~outside
    assert surely_hidden.sum() > 200
    assert (surely_hidden | surely_seen | outside).mean() > 0.95
    assert frame.occluded[surely_hidden].mean() > 0.995
    assert frame.occluded[surely_seen].mean() < 0.002


@pytest.mark.parametrize("seed", SEEDS)
def test_object_truths_follow_from_the_pixels_by_their_definitions(seed):
    frame = clean(seed)
    rig = frame.rig
    assert set(np.unique(frame.instance_ids)) - {0} == {o.object_id for o in frame.visible_objects}
    for truth in frame.objects:
        mask = frame.instance_ids == truth.object_id
        assert truth.pixels == mask.sum()
        if not truth.visible:
            assert np.isnan([truth.depth_m, truth.distance_m, truth.nearest_m, *truth.position_m]).all()
            continue
        rows, columns = np.nonzero(mask)
        z = rig.fx * rig.baseline_m / (frame.disparity_px[mask].astype(np.float64) + rig.doffs_px)
        points = np.stack([(columns - rig.cx) * z / rig.fx, (rows - rig.cy) * z / rig.fy, z])
        assert truth.depth_m == pytest.approx(np.median(z), rel=1e-5)
        np.testing.assert_allclose(truth.position_m, np.median(points, axis=1), rtol=1e-4, atol=1e-5)
        assert truth.distance_m == pytest.approx(np.linalg.norm(np.median(points, axis=1)), rel=1e-5)
        assert truth.nearest_m == pytest.approx(np.percentile(np.linalg.norm(points, axis=0), 5), rel=1e-5)
        assert truth.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_visible_points_lie_on_the_surface_of_the_true_box(seed):
    frame = clean(seed)
    depth = frame.rig.bf / (frame.disparity_px.astype(np.float64) + frame.rig.doffs_px)
    points = depth_to_points(depth, frame.rig)
    for truth in frame.visible_objects:
        x, y, z, w = truth.orientation_xyzw
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        local = (points[frame.instance_ids == truth.object_id] - truth.center_m) @ rotation / (0.5 * truth.size_m)
        assert np.abs(local).max() < 1.0 + 1e-3
        if truth.name == "box":
            np.testing.assert_allclose(np.abs(local).max(axis=1), 1.0, atol=2e-3)
        if truth.name == "ball":
            np.testing.assert_allclose(np.linalg.norm(local, axis=1), 1.0, atol=2e-3)


def test_static_surfaces_reproject_between_frames_by_the_poses():
    sequence = random_sequence(5, frames=31, size_wh=SIZE, moving_share=0.0, noise_sigma=0.0)
    first, later = sequence[0], sequence[30]
    poses = sequence.pose_world_camera(0), sequence.pose_world_camera(30)
    np.testing.assert_array_equal(later.frame.pose_world_camera, poses[1])
    assert np.linalg.norm(poses[0][:3, 3] - poses[1][:3, 3]) > 0.05
    points = depth_to_points(first.rig.bf / (first.disparity_px.astype(np.float64) + first.rig.doffs_px), first.rig).astype(np.float64)
    moved = transform(np.linalg.inv(poses[1]) @ poses[0], points)
    u, v = np.moveaxis(project(moved, later.rig).astype(np.float32), -1, 0)
    inside = (u >= 0) & (u <= SIZE[0] - 1) & (v >= 0) & (v <= SIZE[1] - 1)
    assert inside.mean() > 0.7

    there = cv2.remap(later.disparity_px, u, v, cv2.INTER_LINEAR)  # exact on planes: disparity is affine there
    excess = (there - later.rig.bf / moved[..., 2] + later.rig.doffs_px)[inside]
    assert (np.abs(excess) < 0.05).mean() > 0.8
    assert (excess < -0.5).mean() < 0.02  # seen through: only where the interpolation mixes a silhouette

    seen = sequence.view(30, moved[..., 0] / moved[..., 2], moved[..., 1] / moved[..., 2])[1]  # along the exact rays
    ratio = (seen / moved[..., 2])[inside]
    assert (ratio < 1 + 1e-5).mean() > 0.9995  # nothing is seen through; grazing rays at the silhouettes may just miss
    assert (np.abs(ratio - 1) < 1e-5).mean() > 0.8  # the rest is covered by something nearer


def test_velocities_are_the_change_of_the_centres():
    sequence = random_sequence(6, frames=3, size_wh=(64, 48), moving_share=1.0, fps=200.0)
    before, now, after = sequence[0], sequence[1], sequence[2]
    pose = now.frame.pose_world_camera
    assert pose is not None
    assert any(np.linalg.norm(o.velocity_world_mps) > 0.1 for o in now.objects)
    for past, truth, future in zip(before.objects, now.objects, after.objects):
        assert past.object_id == truth.object_id == future.object_id
        assert truth.moving
        np.testing.assert_allclose(truth.velocity_camera_mps, (future.center_m - past.center_m) * 100.0, atol=2e-4)
        centers = [f.frame.pose_world_camera @ np.append(o.center_m, 1.0) for f, o in ((before, past), (after, future))]
        np.testing.assert_allclose(pose[:3, :3] @ truth.velocity_world_mps, (centers[1] - centers[0])[:3] * 100.0, atol=2e-4)


@pytest.mark.parametrize(
    "miscalibration", [SyntheticMiscalibration(vertical_px=2.0), SyntheticMiscalibration(vertical_px=-1.0, horizontal_px=3.0)]
)
def test_a_shift_miscalibration_moves_the_right_image_by_that_much(miscalibration):
    options = {"size_wh": SIZE, "noise_sigma": 0.0, "blur_px": 0.0, "antialias": False}
    straight = random_sequence(3, **options)[0]
    shifted = random_sequence(3, miscalibration=miscalibration, **options)[0]
    np.testing.assert_array_equal(straight.frame.left, shifted.frame.left)
    np.testing.assert_array_equal(straight.disparity_px, shifted.disparity_px)
    down, across = int(miscalibration.vertical_px), int(miscalibration.horizontal_px)
    moved = np.roll(straight.frame.right, (down, across), axis=(0, 1))
    np.testing.assert_array_equal(moved[5:-5, 5:-5], shifted.frame.right[5:-5, 5:-5])


def test_a_roll_miscalibration_turns_the_right_image_about_its_principal_point():
    options = {"size_wh": SIZE, "noise_sigma": 0.0, "blur_px": 0.0, "antialias": False, "color": False}
    straight = random_sequence(3, **options)[0]
    rolled = random_sequence(3, miscalibration=SyntheticMiscalibration(roll_deg=2.0), **options)[0]
    center = (straight.rig.cx_right, straight.rig.cy)
    turn = cv2.getRotationMatrix2D(center, -2.0, 1.0)  # OpenCV: positive is counter-clockwise
    expected = cv2.warpAffine(straight.frame.right, turn, SIZE, flags=cv2.INTER_CUBIC)
    error = np.abs(expected.astype(float) - rolled.frame.right)[20:-20, 20:-20]
    other = np.abs(straight.frame.right.astype(float) - rolled.frame.right)[20:-20, 20:-20]
    assert error.mean() < 2.5
    assert error.mean() < 0.4 * other.mean()


def test_a_given_rig_is_used():
    rig = StereoRig(size_wh=(200, 100), fx=180.0, fy=180.0, cx=90.0, cy=55.0, baseline_m=0.1, doffs_px=4.0)
    frame = random_sequence(1, rig=rig)[0]
    assert frame.rig is rig
    assert frame.disparity_px.shape == (100, 200)
    assert default_rig((640, 480)).size_wh == (640, 480)


@pytest.mark.parametrize("right", [False, True])
def test_a_view_through_a_distorting_lens_undistorts_to_the_rectified_image(right):
    sequence = random_sequence(3, size_wh=SIZE, noise_sigma=0.0, blur_px=0.0, antialias=False)
    rig, frame = sequence.rig, sequence[0].frame
    camera = np.array([[rig.fx * 0.97, 0, rig.cx + 3], [0, rig.fx * 0.98, rig.cy - 2], [0, 0, 1]])
    distortion = np.array([-0.2, 0.06, 0.001, -0.002, 0.0])
    rotation = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]
    grid = np.stack(np.meshgrid(np.arange(SIZE[0], dtype=np.float64), np.arange(SIZE[1], dtype=np.float64)), axis=-1)
    rays = cv2.undistortPoints(grid.reshape(-1, 1, 2), camera, distortion, R=rotation).reshape(SIZE[1], SIZE[0], 2)
    raw, depth = sequence.view(0, rays[..., 0], rays[..., 1], right=right)
    assert depth.shape == (SIZE[1], SIZE[0])
    maps = cv2.initUndistortRectifyMap(camera, distortion, rotation, rig.matrix, SIZE, cv2.CV_32FC1)
    rectified = cv2.remap(raw, *maps, cv2.INTER_LINEAR).astype(float)
    expected = (frame.right if right else frame.left).astype(float)
    middle = (slice(20, -20), slice(20, -20))
    assert np.median(np.abs(rectified - expected)[middle]) <= 2.0
    assert np.abs(rectified - expected)[middle].mean() < 0.3 * np.abs(raw - expected)[middle].mean()


@pytest.mark.parametrize("near_first", [True, False])
def test_of_two_bodies_on_a_ray_the_nearer_is_seen(near_first):
    """Cubes of 1 m and 4 m, their front faces 1.5 m and 3 m before a camera at the origin, whatever their order in the scene."""
    texture, near_pose, far_pose = Texture((0.2, 0.2, 0.2), (0.8, 0.8, 0.8)), np.eye(4), np.eye(4)
    near_pose[2, 3], far_pose[2, 3] = 2.0, 5.0
    near, far = Body("near", "box", (1.0, 1.0, 1.0), texture, near_pose, 1), Body("far", "box", (4.0, 4.0, 4.0), texture, far_pose, 2)
    model = SceneModel((near, far) if near_first else (far, near), CameraPath((0.0, 0.0, 0.0)))
    depth_m, index = cast(place_bodies(model, np.eye(4), 0.0), np.array([[0.0, 0.4, 2.0]]), np.array([[0.0]]))
    np.testing.assert_allclose(depth_m, [[1.5, 3.0, np.inf]])
    assert [model.bodies[i].name if i >= 0 else "" for i in index[0]] == ["near", "far", ""]
