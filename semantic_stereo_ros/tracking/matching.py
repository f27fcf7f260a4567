"""One frame's association: which track is which instance. Keys first, then the confirmed objects, then what is still tentative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.tracking.association import Candidates, assign, overlap_scores, position_distances
from semantic_stereo_ros.tracking.mask_memory import move_masks
from semantic_stereo_ros.tracking.motion import EGO_SPEED_SIGMA_MPS, EGO_TURN_SIGMA_RPS, CommonMotion, fit_common_motion
from semantic_stereo_ros.tracking.observation import Observations
from semantic_stereo_ros.tracking.reference_frame import camera_positions
from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.tracking.tracking_config import Config
from semantic_stereo_ros.types import ObjectState, StereoRig

REACH_SEEN, REACH_HIDDEN, REACH_LOST = 1.0, 3.0, 1.0
"""How many of its own sizes from its prediction an object may be found that was seen in the last frame, hidden, or lost."""

UNSEEN_GATE_SHARE = 0.25
"""Objects without a mask have wide predictions; a narrower gate keeps them from taking what is not theirs."""


@dataclass(frozen=True, eq=False)
class Match:
    """The association of one frame: tracks predicted to now, what is observed, and how far one may lie from the other.

    gate: chi-square quantile of a squared distance. pose: 4x4, camera -> the filters' frame, None when that is the camera's. motion_known:
    the camera's motion is no part of the error: its pose is known, or the standing objects' common motion.
    """

    tracks: list[Track]
    observations: Observations
    labels: np.ndarray
    rig: StereoRig
    config: Config
    gate: float
    dt_s: float
    pose: np.ndarray | None
    motion_known: bool

    def pairs(self) -> list[tuple[int, int]]:
        """(track, observation) indices. Without a pose the tracks that found nothing are moved by what all others were surprised by."""
        if not self.tracks or not len(self.observations):
            return []
        positions, covariances = camera_positions(self.tracks, self.pose)
        candidates = self._candidates(positions, covariances)
        pairs = self._solve(candidates)
        if self.pose is None and self.dt_s > 0:
            residual = self._shared_residual(pairs, candidates, positions)
            if residual is not None:
                positions = positions + np.nan_to_num(residual.at(positions))
                pairs = self._solve(self._candidates(positions, covariances))
                self._carry_unseen(residual, {i for i, _ in pairs})
        return pairs

    def _candidates(self, positions: np.ndarray, covariances: np.ndarray) -> Candidates:
        observations = self.observations
        anchors = np.stack([t.anchor_m for t in self.tracks])
        moved = move_masks([t.samples for t in self.tracks], anchors, positions, self.rig)
        shared = moved.overlap_px(self.labels, observations.max_label)
        expected = shared.sum(axis=1)
        classes = [t.class_of for t in self.tracks]
        with np.errstate(divide="ignore", invalid="ignore"):
            whole_px = np.array([t.full_m2 for t in self.tracks]) * self.rig.fx * self.rig.fy / positions[:, 2] ** 2
            seen = np.array([t.seen for t in self.tracks])
            size_ratio = observations.pixels[None] / np.where(seen, expected, whole_px)[:, None]
            to_whole = np.maximum(observations.pixels[None] / np.fmax(expected, whole_px)[:, None], 1.0)
            size_ratio = np.where(size_ratio > 1.0, to_whole, size_ratio)  # a cut object may grow to what it was
        distance2 = position_distances(positions, covariances, observations.positions_m, observations.gate_covariances_m2)
        distance2[self._out_of_reach(positions)] = np.inf
        return Candidates(
            distance2=distance2,
            overlap=overlap_scores(shared[:, observations.labels], expected, observations.pixels),
            size_ratio=size_ratio,
            same_class=np.array([[c == (i.class_id, i.class_name) for i in observations.instances] for c in classes]),
        )

    def _out_of_reach(self, positions: np.ndarray) -> np.ndarray:
        """(n, m) bool: too far from the prediction, in the object's own sizes. Wide predictions would else take strangers."""
        seen = np.array([t.seen for t in self.tracks])
        hidden_before = np.array([t.state == ObjectState.OCCLUDED for t in self.tracks])
        sizes_m = np.array([t.extent_m for t in self.tracks])
        reach_m = np.where(seen, REACH_SEEN, np.where(hidden_before, REACH_HIDDEN, REACH_LOST)) * sizes_m
        if self.motion_known:
            reach_m = reach_m + seen * 2.0 * self.config.initial_speed_sigma * self.dt_s
        else:
            reach_m = np.where(seen, np.inf, reach_m)
        offsets_m = np.linalg.norm(self.observations.positions_m[None] - positions[:, None], axis=2)
        return offsets_m > reach_m[:, None]

    def _solve(self, candidates: Candidates) -> list[tuple[int, int]]:
        pairs = self._keyed_pairs(candidates)
        seen = np.array([t.seen for t in self.tracks])
        gates = np.where(seen, 1.0, UNSEEN_GATE_SHARE) * self.gate
        confirmed = [i for i, t in enumerate(self.tracks) if t.object_id is not None]
        tentative = [i for i, t in enumerate(self.tracks) if t.object_id is None]
        for group in (confirmed, tentative):
            taken_i, taken_j = {i for i, _ in pairs}, {j for _, j in pairs}
            rows = [i for i in group if i not in taken_i]
            columns = [j for j in range(len(self.observations)) if j not in taken_j]
            if rows and columns:
                grid = np.ix_(rows, columns)
                part = Candidates(*(array[grid] for array in vars(candidates).values()))
                found = assign(part, gates[rows], seen[rows], self.config.min_overlap, self.config.max_size_ratio)
                pairs += [(rows[i], columns[j]) for i, j in found]
        return pairs

    def _keyed_pairs(self, candidates: Candidates) -> list[tuple[int, int]]:
        """A backend's own stable id decides, unless the object would have to be somewhere else altogether: then the key has broken."""
        track_of_key = {t.source_key: i for i, t in enumerate(self.tracks) if t.source_key is not None}
        pairs = []
        for j, instance in enumerate(self.observations.instances):
            i = track_of_key.get(instance.source_key) if instance.source_key is not None else None
            if i is None:
                continue
            astray = candidates.distance2[i, j] > 9.0 * self.gate and candidates.overlap[i, j] == 0.0
            if not astray:
                pairs.append((i, j))
        return pairs

    def _shared_residual(self, pairs: list[tuple[int, int]], candidates: Candidates, positions: np.ndarray) -> CommonMotion | None:
        """What the camera's unforeseen motion did to all objects alike since the last frame, from pairs whose masks overlap."""
        sure = [(i, j) for i, j in pairs if candidates.overlap[i, j] > 0.2 and np.isfinite(candidates.distance2[i, j])]
        if len(sure) < 4:
            return None
        rows, columns = [i for i, _ in sure], [j for _, j in sure]
        offsets = self.observations.positions_m[columns] - positions[rows]
        variances = np.trace(self.observations.gate_covariances_m2[columns], axis1=1, axis2=2) / 3.0
        sigmas = np.sqrt(variances + (self.config.initial_speed_sigma * self.dt_s) ** 2)
        return fit_common_motion(positions[rows], offsets, sigmas, EGO_SPEED_SIGMA_MPS * self.dt_s, EGO_TURN_SIGMA_RPS * self.dt_s)

    def _carry_unseen(self, residual: CommonMotion, matched: set[int]) -> None:
        """Objects that were not measured share the common surprise; the measured ones learn it from their measurement."""
        for i, track in enumerate(self.tracks):
            if i not in matched and track.located:
                track.mean = track.mean + np.concatenate([residual.at(track.mean[:3]), np.zeros(3)])
