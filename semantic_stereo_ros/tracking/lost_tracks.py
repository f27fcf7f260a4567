"""Tracks without a mask: why they have none, and how long they are waited for."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.tracking.mask_memory import move_masks
from semantic_stereo_ros.tracking.reference_frame import camera_positions
from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.tracking.tracking_config import Config
from semantic_stereo_ros.tracking.visibility import hidden, out_of_view
from semantic_stereo_ros.types import Disparity, ObjectState


def judge_unseen(tracks: list[Track], disparity: Disparity, pose: np.ndarray | None, dt_s: float, config: Config) -> list[Track]:
    """The tracks that are kept: the unmatched ones are told whether they are hidden or lost; those that waited too long go, tentative
    ones at once."""
    unseen = [t for t in tracks if not t.seen]
    if unseen:
        positions, covariances = camera_positions(unseen, pose)
        moved = move_masks([t.samples for t in unseen], np.stack([t.anchor_m for t in unseen]), positions, disparity.rig)
        sigmas = np.sqrt(np.maximum(covariances[:, 2, 2], 0.0))
        half = np.nan_to_num(np.array([0.5 * t.extent_m for t in unseen]))
        for track, is_hidden in zip(unseen, hidden(moved, positions[:, 2], sigmas, half, disparity)):
            track.state = ObjectState.OCCLUDED if is_hidden else ObjectState.LOST
            track.lost_s = 0.0 if is_hidden else track.lost_s + dt_s
            track.hidden_s += dt_s
        gone = {id(t) for t, is_gone in zip(unseen, out_of_view(positions, disparity.rig)) if is_gone}
        tracks = [t for t in tracks if id(t) not in gone]
    return [t for t in tracks if t.seen or _worth_keeping(t, config)]


def _worth_keeping(track: Track, config: Config) -> bool:
    if track.object_id is None:
        return False
    if track.state == ObjectState.OCCLUDED:
        return track.hidden_s <= config.occluded_timeout_s
    seen_s = (track.last_seen_ns - track.first_seen_ns) * 1e-9 + 1e-6  # the stamps' rounding must not decide
    return track.lost_s <= min(config.lost_timeout_s, seen_s) and track.hidden_s <= config.occluded_timeout_s
