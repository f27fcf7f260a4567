"""One frame's association on boards at known places: which track belongs to which mask is known by construction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import chi2

from semantic_stereo_ros.tracking.mask_memory import sample_masks
from semantic_stereo_ros.tracking.matching import Match
from semantic_stereo_ros.tracking.observation import observe
from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.tracking.tracking_config import Config
from semantic_stereo_ros.types import Instance, LabelLayer, Measurement, ObjectState, Segmentation, StereoFrame, StereoRig

RIG = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.12)
IMAGE = np.zeros(RIG.shape, np.uint8)
SIGMAS_M = np.array([0.005, 0.005, 0.02])
DT_S = 0.1


@dataclass(frozen=True)
class Board:
    """A board of side_m that faces the camera, its middle at position_m (camera frame)."""

    position_m: tuple[float, float, float]
    key: str | None = None
    known: bool = True
    side_m: float = 0.6


def seen(boards: list[Board]) -> tuple[np.ndarray, list[Instance], list[Measurement]]:
    """Labels 1.. in the order of the boards, painted far to near, their instances and exact measurements."""
    labels = np.zeros(RIG.shape, np.uint16)
    for label, board in sorted(enumerate(boards, 1), key=lambda item: -item[1].position_m[2]):
        x, y, z = board.position_m
        half, u, v = 0.5 * board.side_m * RIG.fx / z, x / z * RIG.fx + RIG.cx, y / z * RIG.fy + RIG.cy
        labels[max(round(v - half), 0) : round(v + half), max(round(u - half), 0) : round(u + half)] = label
    instances, measurements = [], []
    for label, board in enumerate(boards, 1):
        rows, columns = np.nonzero(labels == label)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        numbers = {}
        if board.known:
            numbers = {
                "depth_m": board.position_m[2],
                "position_m": np.array(board.position_m),
                "position_covariance_m2": np.diag(SIGMAS_M**2),
            }
        reason = "" if board.known else "too few known pixels"
        measurements.append(Measurement(label, rows.size, 1.0, box, reason=reason, **numbers))
        instances.append(Instance(label, source_key=board.key))
    return labels, instances, measurements


def tracked(boards: list[Board], *, speed_sigma_mps: float = 1.0) -> list[Track]:
    """Confirmed tracks of boards that were seen a moment ago at these very places."""
    labels, instances, measurements = seen(boards)
    samples = sample_masks(labels, len(boards))
    tracks = []
    for number, (board, instance, measurement) in enumerate(zip(boards, instances, measurements), 1):
        position = np.array(board.position_m) if board.known else np.full(3, np.nan)
        covariance = np.diag([*(SIGMAS_M**2 + (speed_sigma_mps * DT_S) ** 2), *np.full(3, speed_sigma_mps**2)])
        track = Track(np.concatenate([position, np.zeros(3)]), covariance, 0, 0, object_id=number)
        track.note_instance(instance, measurement, 0)
        track.samples, track.anchor_m = samples[number - 1], position
        if board.known:
            track.note_size(measurement, RIG)
        tracks.append(track)
    return tracks


def unseen(track: Track, state: ObjectState) -> Track:
    track.label, track.measurement, track.state = None, None, state
    return track


def pairs(tracks: list[Track], boards: list[Board], *, pose: np.ndarray | None = None, motion_known: bool = True) -> dict[int, int]:
    """{track: observation} of one frame, both by place in their list."""
    labels, instances, measurements = seen(boards)
    frame = StereoFrame(IMAGE, IMAGE, RIG)
    observations = observe(Segmentation((LabelLayer(labels),), tuple(instances)), tuple(measurements), frame, 0.05)
    gate = float(chi2.ppf(0.999, 3))
    return dict(Match(tracks, observations, labels, RIG, Config(), gate, DT_S, pose, motion_known).pairs())


STANDING = np.eye(4)
ROW = [Board((-1.2, 0.0, 4.0)), Board((0.0, 0.1, 5.0)), Board((1.3, 0.0, 4.5))]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_the_numbering_of_the_masks_does_not_matter(order):
    moved = [Board(tuple(np.add(ROW[i].position_m, (0.03, -0.02, 0.05)))) for i in order]
    assert pairs(tracked(ROW), moved, pose=STANDING) == {i: j for j, i in enumerate(order)}


def test_what_is_best_for_all_wins_over_what_is_nearest():
    """Two small boards moved right: where the first is now is nearest to where the second was, which has moved on itself."""
    before, after = (-0.3, 0.2), (0.42, 0.0)
    gaps = np.abs(np.subtract.outer(before, after))
    assert gaps.argmin() == 3 and gaps[0, 1] + gaps[1, 0] < gaps[0, 0] + gaps[1, 1]  # greedy would begin with (1, 1)
    tracks = tracked([Board((x, 0.0, 4.0), side_m=0.15) for x in before], speed_sigma_mps=3.0)
    assert pairs(tracks, [Board((x, 0.0, 4.0), side_m=0.15) for x in after], pose=STANDING) == {0: 1, 1: 0}


def test_a_newcomer_and_one_that_left_have_no_partner():
    assert pairs(tracked(ROW), [ROW[2], Board((0.2, -0.9, 3.0))], pose=STANDING) == {2: 0}
    assert pairs([], ROW, pose=STANDING) == {}
    assert pairs(tracked(ROW), [], pose=STANDING) == {}


def test_a_stable_key_decides_against_place_and_size():
    keyed = [Board((-0.5, 0.0, 4.0), key="a"), Board((0.5, 0.0, 4.0), key="b")]
    crossed = [Board((-0.5, 0.0, 4.0), key="b"), Board((0.5, 0.0, 4.0), key="a")]
    assert pairs(tracked(keyed, speed_sigma_mps=3.0), crossed, pose=STANDING) == {0: 1, 1: 0}


def test_a_key_that_turns_up_somewhere_else_altogether_has_broken():
    (track,) = tracked([Board((-1.5, 0.0, 3.0), key="a")])
    assert pairs([track], [Board((3.0, 0.0, 9.0), key="a")], pose=STANDING) == {}


def test_confirmed_objects_choose_before_tentative_ones():
    (confirmed,), (tentative,) = tracked([Board((0.0, 0.0, 4.0))]), tracked([Board((0.12, 0.0, 4.0))])
    tentative.object_id = None
    here = [Board((0.1, 0.0, 4.0))]
    assert pairs([tentative, confirmed], here, pose=STANDING) == {1: 0}
    assert pairs([tentative], here, pose=STANDING) == {0: 0}


@pytest.mark.parametrize(("state", "sizes_off", "found"), [
    (ObjectState.OCCLUDED, 2.0, True), (ObjectState.OCCLUDED, 4.0, False), (ObjectState.LOST, 0.5, True), (ObjectState.LOST, 2.0, False),
])  # fmt: skip
def test_how_far_an_object_without_a_mask_is_looked_for(state, sizes_off, found):
    """Its prediction is so wide that it would explain any place: its own size says how far is too far."""
    (track,) = tracked([Board((-0.8, 0.0, 4.0))])
    track.covariance[:3, :3] = np.eye(3) * 4.0
    unseen(track, state)
    here = Board((-0.8 + 0.6 * sizes_off, 0.0, 4.0))
    assert pairs([track], [here], pose=STANDING) == ({0: 0} if found else {})


def test_without_a_known_distance_the_mask_identifies_an_object():
    tracks = tracked([Board((-0.8, 0.0, 4.0), known=False), Board((0.8, 0.0, 4.0), known=False)])
    after = [Board((0.85, 0.0, 4.0), known=False), Board((-0.75, 0.0, 4.0), known=False)]
    assert pairs(tracks, after, pose=STANDING) == {0: 1, 1: 0}


def test_a_turn_of_the_camera_that_nobody_foresaw_carries_the_unseen_along():
    """All boards shift by the same 0.25 m, as from a camera that moved: the hidden one is moved too, where nobody saw it."""
    boards = [Board((x, y, 4.0), side_m=0.5) for x, y in ((-1.5, -0.8), (-0.6, 0.7), (0.4, -0.7), (1.2, 0.6), (0.0, 0.0))]
    shift = np.array([0.25, 0.0, 0.0])
    tracks = tracked(boards, speed_sigma_mps=4.0)
    hidden = unseen(tracks[4], ObjectState.OCCLUDED)
    after = [Board(tuple(np.add(b.position_m, shift)), side_m=0.5) for b in boards[:4]]
    assert pairs(tracks, after, pose=None, motion_known=False) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert hidden.mean[:3] == pytest.approx(np.add(boards[4].position_m, shift), abs=0.03)
    assert tracks[0].mean[:3] == pytest.approx(boards[0].position_m)  # the seen ones learn it from their measurement
