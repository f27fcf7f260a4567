"""Constant-velocity Kalman filters, many at once: state (x, y, z, vx, vy, vz) in m and m/s, measured in position.

Model: white-noise acceleration of power density q = a^2 (m^2/s^3), so that a free object's velocity becomes uncertain
by `a` m/s in one second whatever the frame rate; Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and
Navigation" (2001), section 6.2. The update has Joseph's form, which keeps a covariance positive definite for any gain.
"""

from __future__ import annotations

import numpy as np

POSITION_FLOOR_M2 = 1e-6
"""Variance added to every measured position: 1 mm. No stereo camera is better, and no covariance becomes singular."""


def start(
    position_m: np.ndarray, position_covariance_m2: np.ndarray, velocity_mps: np.ndarray, velocity_sigma_mps: float
) -> tuple[np.ndarray, np.ndarray]:
    """(6,) mean and (6, 6) covariance of an object measured once, its velocity only guessed."""
    mean = np.concatenate([position_m, velocity_mps])
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = position_covariance_m2
    covariance[3:, 3:] = np.eye(3) * velocity_sigma_mps**2
    return mean, covariance


def predict(means: np.ndarray, covariances: np.ndarray, dt_s: float, acceleration: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6) means and (n, 6, 6) covariances after `dt_s`; `acceleration` is a scalar or (n,), m/s per square root of a second."""
    power = np.broadcast_to(np.asarray(acceleration, float) ** 2, (len(means),))[:, None]
    transition = np.eye(6)
    transition[[0, 1, 2], [3, 4, 5]] = dt_s
    means = means @ transition.T
    covariances = transition @ covariances @ transition.T
    axis = np.arange(3)
    covariances[:, axis, axis] += power * (dt_s**3 / 3.0)
    covariances[:, axis, axis + 3] += power * (dt_s**2 / 2.0)
    covariances[:, axis + 3, axis] += power * (dt_s**2 / 2.0)
    covariances[:, axis + 3, axis + 3] += power * dt_s
    return means, _symmetric(covariances)


def update(
    means: np.ndarray, covariances: np.ndarray, positions_m: np.ndarray, position_covariances_m2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6) means and (n, 6, 6) covariances after the measured (n, 3) positions with their (n, 3, 3) covariances."""
    innovation_covariance = covariances[:, :3, :3] + position_covariances_m2
    gain = np.linalg.solve(innovation_covariance, covariances[:, :3, :]).transpose(0, 2, 1)
    innovation = positions_m - means[:, :3]
    means = means + np.einsum("nij,nj->ni", gain, innovation)
    keep = np.broadcast_to(np.eye(6), covariances.shape).copy()
    keep[:, :, :3] -= gain
    covariances = keep @ covariances @ keep.transpose(0, 2, 1) + gain @ position_covariances_m2 @ gain.transpose(0, 2, 1)
    return means, _symmetric(covariances)


def squared_distances(offsets_m: np.ndarray, covariances_m2: np.ndarray) -> np.ndarray:
    """(...,) squared Mahalanobis length of (..., 3) offsets under (..., 3, 3) covariances."""
    solved = np.linalg.solve(covariances_m2, offsets_m[..., None])[..., 0]
    return np.einsum("...i,...i->...", offsets_m, solved)


def rotated(covariances: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """R C R^T of (..., 3, 3) covariances."""
    return rotation @ covariances @ rotation.T


def moved(means: np.ndarray, covariances: np.ndarray, rotation: np.ndarray, translation_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6) means and (n, 6, 6) covariances in another frame: X' = R X + t; velocities only turn."""
    both = np.zeros((6, 6))
    both[:3, :3] = both[3:, 3:] = rotation
    means = means @ both.T
    means[:, :3] += translation_m
    return means, _symmetric(both @ covariances @ both.T)


def usable_covariance(covariance_m2: np.ndarray) -> np.ndarray | None:
    """A measured (3, 3) covariance made symmetric and positive definite, or None if it holds no numbers."""
    if not np.isfinite(covariance_m2).all():
        return None
    symmetric = 0.5 * (covariance_m2 + covariance_m2.T)
    values, vectors = np.linalg.eigh(symmetric)
    if values[0] < 0:
        symmetric = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return symmetric + np.eye(3) * POSITION_FLOOR_M2


def _symmetric(covariances: np.ndarray) -> np.ndarray:
    return 0.5 * (covariances + covariances.transpose(0, 2, 1))
