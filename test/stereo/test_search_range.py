"""The range that sgbm searches: found from the images, kept over a stream, and honest about what lies outside."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.io.sequences import open_pairs
from semantic_stereo_ros.metrics import disparity_metrics
from semantic_stereo_ros.options import build
from semantic_stereo_ros.stereo.backends.sgbm import Backend, Config
from semantic_stereo_ros.synthetic import plane, random_sequence
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig

SIZE_WH = (640, 480)
PATCH = (slice(150, 350), slice(300, 500))
RIG = StereoRig(SIZE_WH, 544.0, 544.0, 319.5, 239.5, 0.2)


def backend(**options) -> Backend:
    result = Backend(build(Config, options))
    result.load()
    return result


def layered(wall_px: int, patch_px: int | None, rig: StereoRig = RIG, seed: int = 0) -> StereoFrame:
    """A frontal textured wall, and before it a textured square that covers PATCH of the left image; whole disparities."""
    rng = np.random.default_rng(seed)
    width, height = rig.size_wh

    def texture(columns: int) -> np.ndarray:
        fine = rng.integers(0, 255, (height, columns)).astype(np.float32)
        return np.clip(128 + 3 * (cv2.GaussianBlur(fine, (0, 0), 3) - 128) + 0.3 * (fine - 128), 0, 255).astype(np.uint8)

    reach = abs(wall_px)
    wall = texture(width + 2 * reach)
    left = wall[:, reach : reach + width].copy()
    right = wall[:, reach + wall_px : reach + wall_px + width].copy()
    if patch_px is not None:
        rows, columns = PATCH
        square = texture(width)[PATCH]
        left[PATCH] = square
        right[rows, columns.start - patch_px : columns.stop - patch_px] = square
    return StereoFrame(left, right, rig)


def inner(mask: np.ndarray, border: int = 20) -> np.ndarray:
    rows, columns = PATCH
    return mask[rows.start + border : rows.stop - border, columns.start + border : columns.stop - border]


def searched(result: Disparity) -> tuple[float, float]:
    return result.min_px, result.max_px


@pytest.mark.parametrize(("wall_px", "patch_px"), [(10, 30), (20, 155), (60, 100), (100, 250)])
def test_the_range_holds_what_is_seen_and_little_more(wall_px, patch_px):
    result = backend()(layered(wall_px, patch_px))
    assert result.min_px < wall_px and patch_px < result.max_px
    assert result.max_px - result.min_px <= 1.5 * (patch_px - wall_px) + 20
    assert np.nanmedian(inner(result.disparity_px)) == pytest.approx(patch_px, abs=0.05)
    assert np.nanmedian(result.disparity_px[20:-20, 510:620]) == pytest.approx(wall_px, abs=0.05)
    assert result.beyond is not None and not result.beyond.any()


def test_a_large_offset_of_the_principal_points_moves_the_range():
    rig = StereoRig(SIZE_WH, 1870.0, 1870.0, 319.5, 239.5, 0.16, doffs_px=270.0)
    result = backend()(layered(43, 211, rig))
    assert 0 < result.min_px < 43 and 211 < result.max_px < 300
    assert np.nanmedian(inner(result.disparity_px)) == pytest.approx(211, abs=0.05)


def test_a_random_scene_with_a_large_offset_is_measured():
    scene = random_sequence(seed=31, doffs_px=270.0)[0]
    result = backend()(scene.frame)
    against = disparity_metrics(result.disparity_px, scene.disparity_px, ~scene.occluded)
    assert against.density > 0.88 and against.bad_2_answered < 0.04
    assert result.max_px - result.min_px <= 128


def test_what_is_nearer_than_a_fixed_range_is_marked_and_unknown():
    fixed = backend(num_disparities=128)
    result = fixed(layered(20, 155))
    assert searched(result) == (0.0, 128.0)
    assert result.beyond is not None
    assert inner(result.beyond).mean() > 0.95 and np.isnan(inner(result.disparity_px)).mean() > 0.98
    outside = result.beyond.copy()
    outside[PATCH[0].start - 10 : PATCH[0].stop + 10, PATCH[1].start - 20 : PATCH[1].stop + 20] = False
    assert not outside.any()
    assert np.nanmedian(result.disparity_px[20:-20, 510:620]) == pytest.approx(20, abs=0.05)
    (note,) = fixed.notes()
    assert "0 to 128 px" in note and "nearer" in note and "num_disparities to 0 (automatic)" in note


def test_a_fixed_range_before_the_whole_scene_answers_nothing():
    fixed = backend(min_disparity_px=100, num_disparities=64)
    result = fixed(layered(20, 60))
    assert np.isnan(result.disparity_px).mean() > 0.95
    assert result.beyond is not None and not result.beyond.any()
    assert "farther" in fixed.notes()[0]


def test_a_fixed_range_that_holds_the_scene_has_nothing_to_say():
    fixed = backend(num_disparities=128)
    result = fixed(layered(20, 90))
    assert fixed.notes() == () and result.beyond is not None and not result.beyond.any()


def test_the_nearest_range_limits_the_search_and_what_is_nearer_is_marked():
    result = backend(min_range_m=0.9)(layered(20, 155))  # 544 * 0.2 / 0.9 = 121 px
    assert 121 <= result.max_px < 121 + 16
    assert result.beyond is not None and inner(result.beyond).mean() > 0.95


def test_what_is_farther_than_the_farthest_range_is_unknown():
    scene = plane(40.0, size_wh=(320, 240))  # 1.36 px
    assert np.isfinite(backend()(scene.frame).disparity_px[20:-20, 40:-40]).mean() > 0.95
    assert np.isnan(backend(max_range_m=20.0)(scene.frame).disparity_px).mean() > 0.98


def test_the_range_of_a_stream_grows_at_once_and_shrinks_late():
    stream = backend()
    far, near = layered(10, 40), layered(10, 155)
    first = searched(stream(far))
    assert [searched(stream(far)) for _ in range(5)] == [first] * 5
    grown = stream(near)
    assert grown.max_px > 155 and np.nanmedian(inner(grown.disparity_px)) == pytest.approx(155, abs=0.05)
    after = [searched(stream(far)) for _ in range(40)]
    assert after[:20] == [searched(grown)] * 20, "an object that leaves may come back"
    assert after[-1] == first
    assert len(set(after)) == 2


def test_a_range_of_alternating_frames_does_not_flicker():
    stream = backend()
    ranges = [searched(stream(layered(10, 40 if i % 2 else 100))) for i in range(12)]
    assert len(set(ranges)) == 1


def test_reset_forgets_the_range():
    stream = backend()
    stream(layered(10, 155))
    stream.reset("another place")
    assert searched(stream(layered(10, 40))) == searched(backend()(layered(10, 40)))


def test_the_same_frames_give_the_same_ranges():
    frames = [sequence.frame for sequence in random_sequence(seed=8, frames=4)]
    streams = [[searched(stream(frame)) for frame in frames] for stream in (backend(), backend())]
    assert streams[0] == streams[1]


def test_a_calibration_that_knows_its_range_is_heard():
    hinted = StereoRig(SIZE_WH, 544.0, 544.0, 319.5, 239.5, 0.2, disparity_hint_px=(5.0, 180.0))
    result = backend()(layered(20, 60, hinted))
    assert result.min_px <= 5 and result.max_px >= 180
    assert np.nanmedian(inner(result.disparity_px)) == pytest.approx(60, abs=0.05)


def test_a_pair_without_matches_says_nothing_of_the_range():
    rng = np.random.default_rng(2)
    left, right = (rng.integers(100, 104, (480, 640), np.uint8) for _ in range(2))
    result = backend()(StereoFrame(left, right, RIG))
    assert result.beyond is None and np.isnan(result.disparity_px).mean() > 0.95


@pytest.mark.parametrize("true_px", [3, 24, 90])
def test_every_border_of_a_textured_pair_is_right_or_unknown(true_px):
    for seed in range(3):
        result = backend()(layered(true_px, None, seed=seed)).disparity_px
        for border in (result[:, -3:], result[:, true_px + 1 : true_px + 4], result[:3, true_px:], result[-3:, true_px:]):
            assert np.nanmean(np.abs(border - true_px) > 1) < 0.02
        assert np.isfinite(result[:, :true_px]).mean() < 0.02, "the right camera does not see these"
        assert np.isfinite(result[:, -3:]).mean() > 0.5


REAL = (
    *("eth3d_playground", "kitti15_000003", "kitti15_000008", "kitti15_000029", "midd05_art_h", "midd05_laundry_t"),
    *("midd05_reindeer_h", "midd06_plastic_t", "midd06_wood2_h", "midd14_motorcycle_q"),
)


@pytest.fixture(scope="module", params=REAL)
def real(request, real_data):
    return (request.param, *real_pair(real_data("real") / request.param))


def real_pair(folder: Path) -> tuple[StereoFrame, np.ndarray]:
    calib = json.loads((folder / "calib.json").read_text())
    rig = StereoRig(tuple(calib["size_wh"]), calib["f_px"], calib["f_px"], calib["cx"], calib["cy"], calib["baseline_m"], calib["doffs_px"])
    images = [cv2.imread(str(folder / f"{side}.png"), cv2.IMREAD_COLOR) for side in ("left", "right")]
    left, right = (np.ascontiguousarray(image[..., ::-1]) for image in images if image is not None)
    return StereoFrame(left, right, rig), np.load(folder / "disp_left.npz")["disp"]


def test_the_range_of_a_real_pair_holds_its_truth(real):
    name, frame, truth = real
    result = backend()(frame)
    known = truth[np.isfinite(truth)]
    assert np.mean((known > result.min_px) & (known < result.max_px - 1)) >= 0.995
    # KITTI's truth leaves out what is near (the car at the left of 000008) and all that lies beyond the lidar's reach
    needed = np.ptp(np.percentile(known, (0.25, 99.75)))
    assert result.max_px - result.min_px <= max((1.9 if name.startswith("kitti") else 1.5) * needed, 32)


def test_a_range_that_misses_a_real_scene_gives_no_false_answers(real):
    _, frame, truth = real
    least = int(np.percentile(truth[np.isfinite(truth)], 1))
    missing = backend(min_disparity_px=least - 140, num_disparities=64)
    result = missing(frame)
    assert np.isfinite(result.disparity_px).mean() < 0.06
    assert result.beyond is not None and result.beyond.mean() > 0.4
    assert "nearer" in missing.notes()[0]


def test_the_right_columns_of_a_real_pair_are_no_worse_than_their_neighbours(real):
    _, frame, truth = real
    result = backend()(frame).disparity_px
    error = np.abs(result - truth)
    wrong, beside = (np.nanmean(np.where(np.isfinite(part), part > 2, np.nan)) for part in (error[:, -3:], error[:, -40:-3]))
    if np.isfinite(error[:, -3:]).sum() > 50:
        assert wrong < beside + 0.12


def test_the_range_of_a_real_drive_changes_seldom(real_data):
    folder = real_data("street")
    stream = backend()
    ranges = [searched(stream(frame)) for frame, _ in open_pairs(folder / "image_l", folder / "image_r", folder / "calib.txt")]
    assert sum(a != b for a, b in itertools.pairwise(ranges)) <= 3


def test_the_log_says_which_range_is_searched(caplog):
    caplog.set_level("INFO", logger="semantic_stereo_ros")
    scene = plane(2.0, size_wh=(320, 240))
    backend = Backend(Config())
    backend(scene.frame)
    backend(scene.frame)
    (said,) = [record.getMessage() for record in caplog.records if "are searched" in record.getMessage()]
    least, most = (int(word) for word in said.split() if word.lstrip("-").isdigit())
    assert least < scene.disparity_px.min() and scene.disparity_px.max() < most
