"""The filters' frame of reference: the world while the camera's pose is known, else the camera itself."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.tracking import filter as kalman
from semantic_stereo_ros.tracking.track import Track


def positions_in_camera(means: np.ndarray, covariances: np.ndarray, pose: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) positions and (n, 3, 3) covariances in the camera frame of (n, 6), (n, 6, 6) filters.

    pose: 4x4, camera -> the filters' frame; None when that is the camera frame.
    """
    if pose is None:
        return means[:, :3].copy(), covariances[:, :3, :3].copy()
    rotation = pose[:3, :3]
    return (means[:, :3] - pose[:3, 3]) @ rotation, kalman.rotated(covariances[:, :3, :3], rotation.T)


def stacked(tracks: list[Track]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6) means and (n, 6, 6) covariances of n tracks, one or more."""
    return np.stack([t.mean for t in tracks]), np.stack([t.covariance for t in tracks])


def camera_positions(tracks: list[Track], pose: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) predicted positions and (n, 3, 3) covariances of n tracks, one or more, in the camera frame; pose: as above."""
    return positions_in_camera(*stacked(tracks), pose)


def camera_to_world(tracks: list[Track], pose: np.ndarray, speed_sigma_mps: float) -> None:
    """Filters predicted to the camera at `pose` go over to the world; their velocities held the camera's own and begin anew."""
    for track in tracks:
        position = pose[:3, :3] @ track.mean[:3] + pose[:3, 3]
        covariance = kalman.rotated(track.covariance[:3, :3], pose[:3, :3])
        track.mean, track.covariance = kalman.start(position, covariance, np.zeros(3), speed_sigma_mps)


def world_to_camera(tracks: list[Track], poses: list[tuple[int, np.ndarray]], ego_speed_sigma_mps: float) -> None:
    """Filters go over to the frame of the last known camera: v_camera = R^T (v_world - v_ego) - w x p.

    poses: the last one or two (stamp_ns, camera -> world). With two, the camera is taken to go on moving as between them; with one,
    the velocity begins at what the object has, with `ego_speed_sigma_mps` more uncertainty.
    """
    if not tracks or not poses:
        return
    stamp_ns, pose = poses[-1]
    rotation = pose[:3, :3]
    ego_velocity, turn_rate = np.zeros(3), np.zeros(3)
    extra_sigma = ego_speed_sigma_mps
    if len(poses) == 2 and stamp_ns > poses[0][0]:
        dt_s = (stamp_ns - poses[0][0]) * 1e-9
        ego_velocity = (pose[:3, 3] - poses[0][1][:3, 3]) / dt_s
        turn = poses[0][1][:3, :3].T @ rotation
        turn_rate = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / (2.0 * dt_s)
        extra_sigma = 1.0
    for track in tracks:
        mean, covariance = kalman.moved(track.mean[None], track.covariance[None], rotation.T, -(rotation.T @ pose[:3, 3]))
        track.mean, track.covariance = mean[0], covariance[0]
        track.mean[3:] -= rotation.T @ ego_velocity + np.cross(turn_rate, track.mean[:3])
        track.covariance[3:, 3:] += np.eye(3) * extra_sigma**2
