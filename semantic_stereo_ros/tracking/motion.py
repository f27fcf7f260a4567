"""The motion that all standing objects share when the camera's own is unknown.

Seen from a camera that moves with v and turns with w, a standing point at p moves with -v - w x p: six numbers fit
every standing object, and objects that move by themselves are outliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EGO_SPEED_SIGMA_MPS = 20.0
EGO_TURN_SIGMA_RPS = 0.5
"""How fast a camera may move whose pose is unknown, one sigma."""


@dataclass(frozen=True, eq=False)
class CommonMotion:
    """A field of vectors: linear (3,) + angular (3,) x point. Velocities in m/s and rad/s, or displacements in m and rad."""

    linear: np.ndarray
    angular: np.ndarray

    def at(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) vectors at (..., 3) points."""
        return self.linear + np.cross(self.angular, points_m)


def fit_common_motion(
    points_m: np.ndarray, vectors: np.ndarray, sigmas: np.ndarray, linear_sigma: float, angular_sigma: float
) -> CommonMotion | None:
    """The field that most of the (n, 3) vectors at (n, 3) points agree on, by iteratively reweighted least squares, or None for fewer than
    three points.

    sigmas: (n,) standard deviation of each vector. linear_sigma, angular_sigma: how far from zero the answer may lie (a
    Gaussian prior, which also decides what a few points cannot). The weights are Cauchy's (Huber,
    "Robust Statistics", 1981) times the inverse variance; it begins at the component-wise median.
    """
    if len(points_m) < 3:
        return None
    rows = np.zeros((len(points_m), 3, 6))
    rows[:, :, :3] = np.eye(3)
    x, y, z = points_m.T
    rows[:, 0, 4], rows[:, 0, 5] = z, -y
    rows[:, 1, 3], rows[:, 1, 5] = -z, x
    rows[:, 2, 3], rows[:, 2, 4] = y, -x
    prior = np.diag(np.repeat([linear_sigma**-2.0, angular_sigma**-2.0], 3))
    solution = np.concatenate([np.median(vectors, axis=0), np.zeros(3)])
    for _ in range(6):
        residual2 = np.sum((vectors - rows @ solution) ** 2, axis=1) / (3.0 * sigmas**2)
        weight = 1.0 / (sigmas**2 * (1.0 + residual2))
        normal = np.einsum("n,nij,nik->jk", weight, rows, rows) + prior
        solution = np.linalg.solve(normal, np.einsum("n,nij,ni->j", weight, rows, vectors))
    return CommonMotion(solution[:3], solution[3:])
