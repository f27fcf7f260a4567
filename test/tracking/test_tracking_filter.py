"""The filter against simulated truth: consistent, and sound over many steps."""

import numpy as np
from scipy.stats import chi2

from semantic_stereo_ros.tracking import filter as kalman
from semantic_stereo_ros.tracking.motion import fit_common_motion


def test_nees_is_consistent():
    """Mean NEES of 200 simulated objects stays within the 99.9 % bounds of its chi-square (Bar-Shalom 2001, section 5.4)."""
    rng = np.random.default_rng(3)
    runs, dt_s, acceleration = 200, 0.1, 1.5
    noise = np.diag([0.02, 0.02, 0.2]) ** 2
    q_position, q_cross, q_speed = (acceleration**2 * v for v in (dt_s**3 / 3, dt_s**2 / 2, dt_s))
    root = np.linalg.cholesky([[q_position, q_cross], [q_cross, q_speed]])
    truth = np.concatenate([rng.normal(0, 5, (runs, 3)), rng.normal(0, 2, (runs, 3))], axis=1)
    measured = truth[:, :3] + rng.multivariate_normal(np.zeros(3), noise, runs)
    started = [kalman.start(z, noise, np.zeros(3), 2.0) for z in measured]
    means, covariances = np.stack([m for m, _ in started]), np.stack([c for _, c in started])
    for step in range(40):
        kick = rng.normal(size=(runs, 3, 2)) @ root.T
        truth[:, :3] += truth[:, 3:] * dt_s + kick[:, :, 0]
        truth[:, 3:] += kick[:, :, 1]
        means, covariances = kalman.predict(means, covariances, dt_s, acceleration)
        measured = truth[:, :3] + rng.multivariate_normal(np.zeros(3), noise, runs)
        means, covariances = kalman.update(means, covariances, measured, np.broadcast_to(noise, (runs, 3, 3)))
        error = truth - means
        nees = np.einsum("ni,ni->n", error, np.linalg.solve(covariances, error[..., None])[..., 0])
        low, high = chi2.ppf([0.0005, 0.9995], 6 * runs) / runs
        assert low < nees.mean() < high, f"mean NEES {nees.mean():.2f} at step {step}"


def test_covariances_stay_positive_definite_over_ten_thousand_steps():
    rng = np.random.default_rng(5)
    mean, covariance = kalman.start(np.zeros(3), np.eye(3) * 1e-6, np.zeros(3), 30.0)
    means, covariances = mean[None], covariance[None]
    for step in range(10_000):
        means, covariances = kalman.predict(means, covariances, float(rng.choice([0.0, 1e-4, 0.03, 0.1, 2.0])), 2.0)
        spread = np.diag(10.0 ** rng.uniform(-8, 2, 3))
        measured = kalman.usable_covariance(spread)
        assert measured is not None
        means, covariances = kalman.update(means, covariances, rng.normal(size=(1, 3)), measured[None])
        assert np.array_equal(covariances, covariances.transpose(0, 2, 1))
        assert np.linalg.eigvalsh(covariances)[0, 0] > 0, f"step {step}"
    assert np.isfinite(means).all()


def test_covariance_that_is_no_covariance():
    assert kalman.usable_covariance(np.full((3, 3), np.nan)) is None
    mended = kalman.usable_covariance(np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert mended is not None and np.linalg.eigvalsh(mended)[0] > 0


def test_moving_to_another_frame_and_back_changes_nothing():
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    means, square = rng.normal(size=(4, 6)), rng.normal(size=(4, 6, 6))
    covariances, shift = square @ square.transpose(0, 2, 1), rng.normal(size=3)
    there = kalman.moved(means, covariances, rotation, shift)
    back = kalman.moved(*there, rotation.T, -rotation.T @ shift)
    np.testing.assert_allclose(back[0], means, atol=1e-12)
    np.testing.assert_allclose(back[1], covariances, atol=1e-12)


def test_common_motion_is_found_in_spite_of_moving_objects():
    rng = np.random.default_rng(2)
    points = rng.uniform((-8, -2, 4), (8, 2, 40), (20, 3))
    linear, angular = np.array([0.3, 0.0, -11.0]), np.array([0.01, -0.15, 0.0])
    velocities = linear + np.cross(angular, points) + rng.normal(0, 0.2, (20, 3))
    velocities[:6] += rng.normal(0, 8, (6, 3))
    found = fit_common_motion(points, velocities, np.full(20, 0.3), 20.0, 0.5)
    assert found is not None
    assert np.abs(found.at(points) - (linear + np.cross(angular, points))).max() < 0.6
    assert fit_common_motion(points[:2], velocities[:2], np.ones(2), 20.0, 0.5) is None
