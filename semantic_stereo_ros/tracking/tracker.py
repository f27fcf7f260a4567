"""Stable ids: one constant-velocity filter for every object, fed with the measurements of its masks.

A frame passes through predict -> associate -> update -> begin new tracks -> judge the unseen -> drop the old.
With a camera pose the filters run in the world; without one in the camera's frame, where all standing objects share one motion.
"""

from __future__ import annotations

import logging

import numpy as np

from semantic_stereo_ros.tracking import filter as kalman
from semantic_stereo_ros.tracking import reference_frame
from semantic_stereo_ros.tracking.lost_tracks import judge_unseen
from semantic_stereo_ros.tracking.mask_memory import sample_masks
from semantic_stereo_ros.tracking.matching import Match
from semantic_stereo_ros.tracking.motion import EGO_SPEED_SIGMA_MPS, EGO_TURN_SIGMA_RPS, CommonMotion, fit_common_motion
from semantic_stereo_ros.tracking.observation import Observations, observe
from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.tracking.tracking_config import Config
from semantic_stereo_ros.types import Disparity, Measurement, SceneObject, Segmentation, StereoFrame

logger = logging.getLogger(__name__)


class Tracker:
    """One stream's objects. Call it once per frame, in order of time; not thread-safe."""

    def __init__(self, config: Config | None = None) -> None:
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

        measurements: those of the segmentation's object layer; a label without one counts as unmeasured. Frames come in order of time
        from one rig (`reset` comes before a frame of another stream); a repeated stamp (stamps unknown) is taken as no time passed.
        """
        dt_s, predicted = self._begin(frame)
        observations = observe(segmentation, measurements, frame, self.config.surface_sigma)
        if not predicted:
            self._predict(dt_s)
        motion_known = self._pose is not None or self._common is not None
        pairs = Match(
            self._tracks, observations, segmentation.labels, frame.rig, self.config, self._gate, dt_s, self._pose, motion_known
        ).pairs()
        self._update(pairs, observations, frame)
        self._start_tracks(set(range(len(observations))) - {j for _, j in pairs}, observations, frame)
        self._tracks = judge_unseen(self._tracks, disparity, self._pose, dt_s, self.config)
        self._remember_masks(segmentation.labels, observations)
        self._stamp_ns, self._frames_seen = frame.stamp_ns, self._frames_seen + 1
        confirmed = sorted((t for t in self._tracks if t.object_id is not None), key=lambda t: t.object_id or 0)
        return tuple(track.scene_object(self._pose) for track in confirmed)

    def predict(self, frame: StereoFrame) -> tuple[SceneObject, ...]:
        """The confirmed objects at the stamp of a frame without masks, in order of id, where their filters expect them.

        Nothing of the frame is remembered: the next masks meet the same tracks whether or not it was asked about. The frame goes on
        where the last one with masks ended: the same rig, a later stamp.
        """
        known = [track for track in self._tracks if track.object_id is not None]
        if not known:
            return ()
        dt_s = self._seconds_since_last(frame)
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
        """Seconds since the last frame, and whether the filters are already predicted to now.

        The filters are left in this frame's frame of reference."""
        step_s = self._seconds_since_last(frame)
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

    def _seconds_since_last(self, frame: StereoFrame) -> float:
        return 0.0 if self._stamp_ns is None else (frame.stamp_ns - self._stamp_ns) * 1e-9

    def _change_frame(self, pose: np.ndarray | None, dt_s: float) -> None:
        """Carry all filters into the world (predicted to now, where the pose is known) or into the last camera's frame."""
        located = [t for t in self._tracks if t.located]
        if pose is not None:
            logger.info("the camera's pose is known from now on: %d filters go over to the world frame", len(located))
            self._predict(dt_s)
            reference_frame.camera_to_world(located, pose, self.config.initial_speed_sigma)
        else:
            logger.info("the camera's pose is unknown from now on: %d filters go over to the camera frame", len(located))
            reference_frame.world_to_camera(located, self._last_poses, EGO_SPEED_SIGMA_MPS)
        self._last_poses = []
        self._common = None

    def _predict(self, dt_s: float) -> None:
        if not self._tracks or dt_s == 0.0:
            return
        means, covariances = reference_frame.stacked(self._tracks)
        means, covariances = kalman.predict(means, covariances, dt_s, self._acceleration())
        for track, mean, covariance in zip(self._tracks, means, covariances):
            track.mean, track.covariance = mean, covariance

    def _acceleration(self) -> float:
        """Process noise of all filters, m/s^2: without a pose, the camera's own manoeuvres are theirs."""
        if self._pose is not None:
            return self.config.acceleration
        return float(np.hypot(self.config.acceleration, self.config.ego_acceleration))

    # --- update ---------------------------------------------------------------------------------------------------------

    def _update(self, pairs: list[tuple[int, int]], observations: Observations, frame: StereoFrame) -> None:
        rotation = np.eye(3) if self._pose is None else self._pose[:3, :3]
        matched = {i for i, _ in pairs}
        for i, track in enumerate(self._tracks):
            if i not in matched:
                track.label, track.measurement = None, None
        measured = [(i, j) for i, j in pairs if observations.known[j] and self._tracks[i].located]
        if measured:
            means, covariances = reference_frame.stacked(self._tracks)
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

    def _remember_masks(self, labels: np.ndarray, observations: Observations) -> None:
        """Keep the pixels of every mask of this frame, and where the object stood when they were taken."""
        if not self._tracks:
            return
        samples = sample_masks(labels, observations.max_label)
        positions, _ = reference_frame.camera_positions(self._tracks, self._pose)
        for track, position in zip(self._tracks, positions):
            if track.label is not None and track.measurement is not None:
                track.samples = samples[track.label - 1]
                track.anchor_m = position
                if track.measurement.known:
                    assert self._rig is not None
                    track.note_size(track.measurement, self._rig)
