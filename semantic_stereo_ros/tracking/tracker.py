"""Stable ids: one constant-velocity filter for every object, fed with the measurements of its masks.

A frame passes through predict -> associate -> update -> begin new tracks -> judge the unseen -> drop the old.
With a camera pose the filters run in the world; without one in the camera's frame, where all standing objects share one motion.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.options import option
from semantic_stereo_ros.tracking import filter as kalman
from semantic_stereo_ros.tracking import frames
from semantic_stereo_ros.tracking.association import Candidates, assign, overlap_scores, position_distances
from semantic_stereo_ros.tracking.masks import move_masks, sample_masks
from semantic_stereo_ros.tracking.motion import CommonMotion, fit_common_motion
from semantic_stereo_ros.tracking.observation import Observations, observe
from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.tracking.visibility import hidden, out_of_view
from semantic_stereo_ros.types import Disparity, Measurement, ObjectState, SceneObject, Segmentation, StereoFrame

logger = logging.getLogger(__name__)

EGO_SPEED_SIGMA_MPS = 20.0
EGO_TURN_SIGMA_RPS = 0.5

REACH_SEEN, REACH_HIDDEN, REACH_LOST = 1.0, 3.0, 1.0
"""How many of its own sizes from its prediction an object may be found that was seen in the last frame, hidden, or lost."""

UNSEEN_GATE_SHARE = 0.25
"""Objects without a mask have wide predictions; a narrower gate keeps them from taking what is not theirs."""


@dataclass(frozen=True)
class Config:
    """Options of the tracking stage."""

    acceleration: float = option(
        2.0, "process noise: how much an object's speed may change in one second", unit="m/s^2", minimum=0.0, maximum=100.0
    )
    ego_acceleration: float = option(
        4.0, "additional process noise when the camera's pose is unknown: its own manoeuvres", unit="m/s^2", minimum=0.0, maximum=100.0
    )
    initial_speed_sigma: float = option(
        3.0, "standard deviation of a new object's own speed, per axis", unit="m/s", minimum=0.01, maximum=100.0
    )
    surface_sigma: float = option(
        0.05, "how much the visible surface's middle wanders on an object, as a share of its size", minimum=0.0, maximum=1.0
    )
    gate_probability: float = option(0.999, "share of true matches that the distance gate lets through", minimum=0.5, maximum=0.999999)
    min_overlap: float = option(0.2, "mask overlap that identifies an object without a measured position", minimum=0.0, maximum=1.0)
    max_size_ratio: float = option(4.0, "largest change of an object's area from one sight to the next", minimum=1.1, maximum=100.0)
    confirm_hits: int = option(
        2, "frames in which a new object must be seen before it gets an id; the first frame's, and keyed ones, get it at once", minimum=1
    )
    occluded_timeout_s: float = option(6.0, "a hidden object is kept for so long", unit="s", minimum=0.0, maximum=3600.0)
    lost_timeout_s: float = option(
        1.0, "an object that is not found is kept for so long, but no longer than it was seen", unit="s", minimum=0.0, maximum=3600.0
    )
    max_gap_s: float = option(5.0, "a longer pause between frames starts afresh", unit="s", minimum=0.01, maximum=3600.0)


class Tracker:
    """One stream's objects. Call it once per frame, in order of time; not thread-safe."""

    def __init__(self, config: Config | None = None) -> None:
        from scipy.optimize import linear_sum_assignment  # noqa: F401  (imported here, so that the first frame does not wait)

        self.reconfigure(config if config is not None else Config())
        self._forget()

    def reconfigure(self, config: Config) -> None:
        """Take other options between two frames; the objects and their ids stay."""
        from scipy.special import chdtri

        self.config = config
        self._gate = float(chdtri(3, 1.0 - config.gate_probability))

    def reset(self, reason: str) -> None:
        """Forget every object; ids begin at 1 again."""
        logger.info("tracker reset: %s", reason)
        self._forget()

    def __call__(
        self, frame: StereoFrame, disparity: Disparity, segmentation: Segmentation, measurements: tuple[Measurement, ...]
    ) -> tuple[SceneObject, ...]:
        """The objects at the frame's stamp, in order of id: every confirmed one, seen or predicted.

        measurements: those of the segmentation's object layer; a label without one counts as unmeasured. A frame older than the last
        one, a pause above max_gap_s or another rig starts afresh; a repeated stamp (stamps unknown) is taken as no time passed.
        """
        dt_s, predicted = self._begin(frame)
        observations = observe(segmentation, measurements, frame, self.config.surface_sigma)
        if not predicted:
            self._predict(dt_s)
        pairs = self._associate(observations, segmentation.labels, dt_s)
        self._update(pairs, observations, frame)
        self._start_tracks(set(range(len(observations))) - {j for _, j in pairs}, observations, frame)
        self._judge_unseen(disparity, dt_s)
        self._remember_masks(segmentation.labels, observations)
        self._stamp_ns, self._frames_seen = frame.stamp_ns, self._frames_seen + 1
        confirmed = sorted((t for t in self._tracks if t.object_id is not None), key=lambda t: t.object_id or 0)
        return tuple(track.scene_object(self._pose) for track in confirmed)

    def predict(self, frame: StereoFrame) -> tuple[SceneObject, ...]:
        """The confirmed objects at the stamp of a frame without masks, in order of id, where their filters expect them.

        Nothing of the frame is remembered: the next masks meet the same tracks whether or not it was asked about. Empty for a frame
        that the last masks do not lead to: another rig, an earlier stamp, or one more than max_gap_s later.
        """
        dt_s = 0.0 if self._stamp_ns is None else (frame.stamp_ns - self._stamp_ns) * 1e-9
        known = [track for track in self._tracks if track.object_id is not None]
        if not known or frame.rig != self._rig or not 0.0 <= dt_s <= self.config.max_gap_s:
            return ()
        means, covariances = np.stack([t.mean for t in known]), np.stack([t.covariance for t in known])
        if dt_s > 0:
            means, covariances = kalman.predict(means, covariances, dt_s, self._acceleration())
        pose, asked = self._pose, frame.pose_world_camera
        if pose is not None and asked is not None and np.isfinite(asked).all():
            pose = np.asarray(asked, float)  # the filters are in the world; without a pose now, the camera is where it was
        predicted = [track.predicted(mean, covariance) for track, mean, covariance in zip(known, means, covariances)]
        return tuple(track.scene_object(pose) for track in sorted(predicted, key=lambda t: t.object_id or 0))

    def _forget(self) -> None:
        self._tracks: list[Track] = []
        self._ids_of_keys: dict[str, int] = {}
        self._next_id = 1
        self._stamp_ns: int | None = None
        self._frames_seen = 0
        self._rig = None
        self._pose: np.ndarray | None = None
        self._last_poses: list[tuple[int, np.ndarray]] = []
        self._common: CommonMotion | None = None

    # --- time and frames ------------------------------------------------------------------------------------------------

    def _begin(self, frame: StereoFrame) -> tuple[float, bool]:
        """Seconds since the last frame, after a reset where one is due, and whether the filters are already predicted to now.

        The filters are left in this frame's frame of reference."""
        step_s = 0.0 if self._stamp_ns is None else (frame.stamp_ns - self._stamp_ns) * 1e-9
        if self._rig is not None and frame.rig != self._rig:
            self.reset("the calibration changed")
            step_s = 0.0
        elif step_s < 0 or step_s > self.config.max_gap_s:
            self.reset(f"the stamp moved by {step_s:+.3f} s from one frame to the next")
            step_s = 0.0
        pose = frame.pose_world_camera
        if pose is not None and not np.isfinite(pose).all():
            pose = None
        changed = self._stamp_ns is not None and (pose is None) != (self._pose is None)
        if changed:
            self._change_frame(pose, step_s)
        predicted = changed and pose is not None
        self._rig = frame.rig
        self._pose = None if pose is None else np.asarray(pose, float)
        if self._pose is not None:
            self._last_poses = [*self._last_poses[-1:], (frame.stamp_ns, self._pose)]
        return step_s, predicted

    def _change_frame(self, pose: np.ndarray | None, dt_s: float) -> None:
        """Carry all filters into the world (predicted to now, where the pose is known) or into the last camera's frame."""
        located = [t for t in self._tracks if t.located]
        if pose is not None:
            logger.info("the camera's pose is known from now on: %d filters go over to the world frame", len(located))
            self._predict(dt_s)
            frames.camera_to_world(located, pose, self.config.initial_speed_sigma)
        else:
            logger.info("the camera's pose is unknown from now on: %d filters go over to the camera frame", len(located))
            frames.world_to_camera(located, self._last_poses, EGO_SPEED_SIGMA_MPS)
        self._last_poses = []
        self._common = None

    def _predict(self, dt_s: float) -> None:
        if not self._tracks or dt_s == 0.0:
            return
        means, covariances = self._stacked()
        means, covariances = kalman.predict(means, covariances, dt_s, self._acceleration())
        for track, mean, covariance in zip(self._tracks, means, covariances):
            track.mean, track.covariance = mean, covariance

    def _acceleration(self) -> float:
        """Process noise of all filters, m/s^2: without a pose, the camera's own manoeuvres are theirs."""
        if self._pose is not None:
            return self.config.acceleration
        return float(np.hypot(self.config.acceleration, self.config.ego_acceleration))

    def _stacked(self) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([t.mean for t in self._tracks]), np.stack([t.covariance for t in self._tracks])

    def _camera_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) predicted positions and (n, 3, 3) covariances of all tracks, camera frame."""
        means, covariances = self._stacked()
        return frames.positions_in_camera(means, covariances, self._pose)

    # --- association ----------------------------------------------------------------------------------------------------

    def _associate(self, observations: Observations, labels: np.ndarray, dt_s: float) -> list[tuple[int, int]]:
        """Pairs (track, observation): keys first, then the confirmed objects, then what is still tentative."""
        if not self._tracks or not len(observations):
            return []
        positions, covariances = self._camera_positions()
        candidates = self._candidates(positions, covariances, observations, labels, dt_s)
        if self._pose is None and dt_s > 0:
            first = self._solve(candidates, observations)
            residual = self._shared_residual(first, candidates, positions, observations, dt_s)
            if residual is not None:
                positions = positions + np.nan_to_num(residual.at(positions))
                candidates = self._candidates(positions, covariances, observations, labels, dt_s)
                pairs = self._solve(candidates, observations)
                self._carry_unseen(residual, {i for i, _ in pairs})
                return pairs
            return first
        return self._solve(candidates, observations)

    def _candidates(
        self, positions: np.ndarray, covariances: np.ndarray, observations: Observations, labels: np.ndarray, dt_s: float
    ) -> Candidates:
        anchors = np.stack([t.anchor_m for t in self._tracks])
        assert self._rig is not None
        moved = move_masks([t.samples for t in self._tracks], anchors, positions, self._rig)
        shared = moved.overlap_px(labels, observations.max_label)
        expected = shared.sum(axis=1)
        classes = [t.class_of for t in self._tracks]
        with np.errstate(divide="ignore", invalid="ignore"):
            whole_px = np.array([t.full_m2 for t in self._tracks]) * self._rig.fx * self._rig.fy / positions[:, 2] ** 2
            seen = np.array([t.seen for t in self._tracks])
            size_ratio = observations.pixels[None] / np.where(seen, expected, whole_px)[:, None]
            to_whole = np.maximum(observations.pixels[None] / np.fmax(expected, whole_px)[:, None], 1.0)
            size_ratio = np.where(size_ratio > 1.0, to_whole, size_ratio)  # a cut object may grow to what it was
        distance2 = position_distances(positions, covariances, observations.positions_m, observations.gate_covariances_m2)
        distance2[self._out_of_reach(positions, observations, dt_s)] = np.inf
        return Candidates(
            distance2=distance2,
            overlap=overlap_scores(shared[:, observations.labels], expected, observations.pixels),
            size_ratio=size_ratio,
            same_class=np.array([[c == (i.class_id, i.class_name) for i in observations.instances] for c in classes]),
        )

    def _out_of_reach(self, positions: np.ndarray, observations: Observations, dt_s: float) -> np.ndarray:
        """(n, m) bool: too far from the prediction, in the object's own sizes. Wide predictions would else take strangers."""
        seen = np.array([t.seen for t in self._tracks])
        hidden_before = np.array([t.state == ObjectState.OCCLUDED for t in self._tracks])
        sizes_m = np.array([t.extent_m for t in self._tracks])
        reach_m = np.where(seen, REACH_SEEN, np.where(hidden_before, REACH_HIDDEN, REACH_LOST)) * sizes_m
        if self._pose is not None or self._common is not None:
            reach_m = reach_m + seen * 2.0 * self.config.initial_speed_sigma * dt_s
        else:
            reach_m = np.where(seen, np.inf, reach_m)
        offsets_m = np.linalg.norm(observations.positions_m[None] - positions[:, None], axis=2)
        return offsets_m > reach_m[:, None]

    def _solve(self, candidates: Candidates, observations: Observations) -> list[tuple[int, int]]:
        pairs = self._keyed_pairs(candidates, observations)
        seen = np.array([t.seen for t in self._tracks])
        gates = np.where(seen, 1.0, UNSEEN_GATE_SHARE) * self._gate
        confirmed = [i for i, t in enumerate(self._tracks) if t.object_id is not None]
        tentative = [i for i, t in enumerate(self._tracks) if t.object_id is None]
        for group in (confirmed, tentative):
            taken_i, taken_j = {i for i, _ in pairs}, {j for _, j in pairs}
            rows = [i for i in group if i not in taken_i]
            columns = [j for j in range(len(observations)) if j not in taken_j]
            if rows and columns:
                grid = np.ix_(rows, columns)
                part = Candidates(*(array[grid] for array in vars(candidates).values()))
                found = assign(part, gates[rows], seen[rows], self.config.min_overlap, self.config.max_size_ratio)
                pairs += [(rows[i], columns[j]) for i, j in found]
        return pairs

    def _keyed_pairs(self, candidates: Candidates, observations: Observations) -> list[tuple[int, int]]:
        """A backend's own stable id decides, unless the object would have to be somewhere else altogether: then the key has broken."""
        track_of_key = {t.source_key: i for i, t in enumerate(self._tracks) if t.source_key is not None}
        pairs = []
        for j, instance in enumerate(observations.instances):
            i = track_of_key.get(instance.source_key) if instance.source_key is not None else None
            if i is None:
                continue
            astray = candidates.distance2[i, j] > 9.0 * self._gate and candidates.overlap[i, j] == 0.0
            if not astray:
                pairs.append((i, j))
        return pairs

    def _shared_residual(
        self, pairs: list[tuple[int, int]], candidates: Candidates, positions: np.ndarray, observations: Observations, dt_s: float
    ) -> CommonMotion | None:
        """What the camera's unforeseen motion did to all objects alike since the last frame, from pairs whose masks overlap."""
        sure = [(i, j) for i, j in pairs if candidates.overlap[i, j] > 0.2 and np.isfinite(candidates.distance2[i, j])]
        if len(sure) < 4:
            return None
        rows, columns = [i for i, _ in sure], [j for _, j in sure]
        offsets = observations.positions_m[columns] - positions[rows]
        variances = np.trace(observations.gate_covariances_m2[columns], axis1=1, axis2=2) / 3.0
        sigmas = np.sqrt(variances + (self.config.initial_speed_sigma * dt_s) ** 2)
        return fit_common_motion(positions[rows], offsets, sigmas, EGO_SPEED_SIGMA_MPS * dt_s, EGO_TURN_SIGMA_RPS * dt_s)

    def _carry_unseen(self, residual: CommonMotion, matched: set[int]) -> None:
        """Objects that were not measured share the common surprise; the measured ones learn it from their measurement."""
        for i, track in enumerate(self._tracks):
            if i not in matched and track.located:
                track.mean = track.mean + np.concatenate([residual.at(track.mean[:3]), np.zeros(3)])

    # --- update ---------------------------------------------------------------------------------------------------------

    def _update(self, pairs: list[tuple[int, int]], observations: Observations, frame: StereoFrame) -> None:
        rotation = np.eye(3) if self._pose is None else self._pose[:3, :3]
        matched = {i for i, _ in pairs}
        for i, track in enumerate(self._tracks):
            if i not in matched:
                track.label, track.measurement = None, None
        measured = [(i, j) for i, j in pairs if observations.known[j] and self._tracks[i].located]
        if measured:
            means, covariances = self._stacked()
            rows, columns = [i for i, _ in measured], [j for _, j in measured]
            z, r = observations.in_filter_frame(self._pose)
            full_m2, extents = (np.array(v) for v in zip(*((self._tracks[i].full_m2, self._tracks[i].extent_m) for i in rows)))
            r = r[columns] + observations.cut_variance(columns, full_m2, extents)[:, None, None] * np.eye(3)
            means, covariances = kalman.update(means[rows], covariances[rows], z[columns], r)
            for i, mean, covariance in zip(rows, means, covariances):
                self._tracks[i].mean, self._tracks[i].covariance = mean, covariance
        for i, j in pairs:
            track, measurement = self._tracks[i], observations.measurements[j]
            if observations.known[j] and not track.located:
                self._locate(track, j, observations)
            track.note_instance(observations.instances[j], measurement, frame.stamp_ns)
            if measurement.box is not None and observations.known[j]:
                track.note_box(measurement.box, measurement.position_m, rotation)
            self._confirm(track)
        if self._pose is None:
            self._common = self._common_velocity()

    def _common_velocity(self) -> CommonMotion | None:
        """The standing objects' velocity field, from the tracks that have been measured often enough to know theirs."""
        known = [t for t in self._tracks if t.located and t.seen and t.hits >= 2]
        if len(known) < 3:
            return self._common
        means = np.stack([t.mean for t in known])
        variances = np.stack([np.trace(t.covariance[3:, 3:]) / 3.0 for t in known])
        return fit_common_motion(means[:, :3], means[:, 3:], np.sqrt(variances + 1.0), EGO_SPEED_SIGMA_MPS, EGO_TURN_SIGMA_RPS)

    def _locate(self, track: Track, j: int, observations: Observations) -> None:
        """Begin the track's filter with its first measured position."""
        z, r = observations.in_filter_frame(self._pose)
        velocity, sigma = np.zeros(3), self.config.initial_speed_sigma
        if self._pose is None:
            if self._common is not None:
                velocity = self._common.at(z[j])
            else:
                sigma = float(np.hypot(sigma, EGO_SPEED_SIGMA_MPS))
        track.mean, track.covariance = kalman.start(z[j], r[j], velocity, sigma)

    def _start_tracks(self, unmatched: set[int], observations: Observations, frame: StereoFrame) -> None:
        rotation = np.eye(3) if self._pose is None else self._pose[:3, :3]
        for j in sorted(unmatched):
            instance, measurement = observations.instances[j], observations.measurements[j]
            track = Track(np.full(6, np.nan), np.full((6, 6), np.nan), frame.stamp_ns, frame.stamp_ns)
            if observations.known[j]:
                self._locate(track, j, observations)
                if measurement.box is not None:
                    track.note_box(measurement.box, measurement.position_m, rotation)
            track.note_instance(instance, measurement, frame.stamp_ns)
            self._confirm(track)
            self._tracks.append(track)

    def _confirm(self, track: Track) -> None:
        """Give an id to a track that deserves one, and remember its key."""
        key = track.source_key
        if track.object_id is None and (key is not None or self._frames_seen == 0 or track.hits >= self.config.confirm_hits):
            known = self._ids_of_keys.get(key) if key is not None else None
            if known is None or any(t.object_id == known for t in self._tracks):
                known, self._next_id = self._next_id, self._next_id + 1
            track.object_id = known
        if key is not None and track.object_id is not None:
            self._ids_of_keys[key] = track.object_id

    # --- the unseen -----------------------------------------------------------------------------------------------------

    def _judge_unseen(self, disparity: Disparity, dt_s: float) -> None:
        """Say why the unmatched tracks have no mask, and drop those that waited too long (tentative ones at once)."""
        unseen = [t for t in self._tracks if not t.seen]
        if unseen:
            positions, covariances = frames.positions_in_camera(
                np.stack([t.mean for t in unseen]), np.stack([t.covariance for t in unseen]), self._pose
            )
            moved = move_masks([t.samples for t in unseen], np.stack([t.anchor_m for t in unseen]), positions, disparity.rig)
            sigmas = np.sqrt(np.maximum(covariances[:, 2, 2], 0.0))
            half = np.nan_to_num(np.array([0.5 * t.extent_m for t in unseen]))
            for track, is_hidden in zip(unseen, hidden(moved, positions[:, 2], sigmas, half, disparity)):
                track.state = ObjectState.OCCLUDED if is_hidden else ObjectState.LOST
                track.lost_s = 0.0 if is_hidden else track.lost_s + dt_s
                track.hidden_s += dt_s
            gone = {id(t) for t, is_gone in zip(unseen, out_of_view(positions, disparity.rig)) if is_gone}
            self._tracks = [t for t in self._tracks if id(t) not in gone]
        self._tracks = [t for t in self._tracks if t.seen or self._worth_keeping(t)]

    def _worth_keeping(self, track: Track) -> bool:
        if track.object_id is None:
            return False
        if track.state == ObjectState.OCCLUDED:
            return track.hidden_s <= self.config.occluded_timeout_s
        seen_s = (track.last_seen_ns - track.first_seen_ns) * 1e-9 + 1e-6  # the stamps' rounding must not decide
        return track.lost_s <= min(self.config.lost_timeout_s, seen_s) and track.hidden_s <= self.config.occluded_timeout_s

    def _remember_masks(self, labels: np.ndarray, observations: Observations) -> None:
        """Keep the pixels of every mask of this frame, and where the object stood when they were taken."""
        if not self._tracks:
            return
        samples = sample_masks(labels, observations.max_label)
        positions, _ = self._camera_positions()
        for track, position in zip(self._tracks, positions):
            if track.label is not None and track.measurement is not None:
                track.samples = samples[track.label - 1]
                track.anchor_m = position
                if track.measurement.known:
                    assert self._rig is not None
                    track.note_size(track.measurement, self._rig)
