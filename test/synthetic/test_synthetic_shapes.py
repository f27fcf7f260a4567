"""Ray intersections against what defines each shape: the hit lies on the surface, and no point before it is inside."""

import numpy as np
import pytest

from semantic_stereo_ros.synthetic.shapes import intersect, surface

SIZES = {"box": (1.0, 0.6, 1.4), "sphere": (1.2, 1.2, 1.2), "cylinder": (0.8, 0.8, 1.5)}


def inside(shape, size, p, slack=0.0):
    half = 0.5 * np.asarray(size)[:, None] + slack
    if shape == "box":
        return (np.abs(p) <= half).all(axis=0)
    if shape == "sphere":
        return np.linalg.norm(p, axis=0) <= half[0]
    return (np.hypot(p[0], p[1]) <= half[0]) & (np.abs(p[2]) <= half[2])


def rays(count=4000, seed=3):
    rng = np.random.default_rng(seed)
    origin = np.array([3.0, -2.0, 1.1])
    direction = rng.normal(size=(3, count)) * 0.45 - origin[:, None] * rng.uniform(0.2, 2.0, count)
    return origin, direction


@pytest.mark.parametrize("shape", SIZES)
def test_hits_lie_on_the_surface_and_nothing_is_hit_before(shape):
    size = SIZES[shape]
    origin, direction = rays()
    s = intersect(shape, np.array(size), origin, tuple(direction))
    hit = np.isfinite(s)
    assert 300 < hit.sum() < 3700
    points = origin[:, None] + s[hit] * direction[:, hit]
    assert inside(shape, size, points, slack=1e-9).all()
    assert not inside(shape, size, points, slack=-1e-9).any()
    march = np.linspace(0.0, 1.0, 400, endpoint=False)
    for k in np.flatnonzero(hit)[:200]:
        before = origin[:, None] + (march * s[k] * (1 - 1e-9)) * direction[:, k : k + 1]
        assert not inside(shape, size, before, slack=-1e-9).any()


@pytest.mark.parametrize("shape", SIZES)
def test_misses_stay_outside(shape):
    size = SIZES[shape]
    origin, direction = rays()
    s = intersect(shape, np.array(size), origin, tuple(direction))
    march = np.linspace(0.0, 30.0, 3000)
    for k in np.flatnonzero(~np.isfinite(s))[:150]:
        path = origin[:, None] + march * direction[:, k : k + 1] / np.linalg.norm(direction[:, k])
        assert not inside(shape, size, path, slack=-1e-6).any()


@pytest.mark.parametrize("shape", SIZES)
def test_normals_point_outwards_with_unit_length(shape):
    size = np.array(SIZES[shape])
    origin, direction = rays()
    s = intersect(shape, size, origin, tuple(direction))
    hit = np.isfinite(s)
    points = origin[:, None] + s[hit] * direction[:, hit]
    normal = np.stack(surface(shape, size, tuple(points))[2])
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1.0, atol=1e-6)
    assert not inside(shape, size, points + 1e-6 * normal).any()
    assert inside(shape, size, points - 1e-6 * normal).all()
    assert ((normal * direction[:, hit]).sum(axis=0) < 1e-9).all()


def test_a_bounded_plane_ends_where_its_size_says():
    x = np.array([0.0, 0.49, 0.51, 0.0, 0.0])
    y = np.array([0.0, 0.0, 0.0, 0.99, 1.01])
    s = intersect("plane", np.array([1.0, 2.0, 0.0]), np.array([0.0, 0.0, 1.0]), (x, y, np.full(5, -1.0)))
    np.testing.assert_array_equal(s, [1.0, 1.0, np.inf, 1.0, np.inf])


def test_an_unknown_shape_is_an_error():
    with pytest.raises(ValueError, match="shape must be one of plane, box, sphere, cylinder, got 'cone'"):
        intersect("cone", np.ones(3), np.zeros(3), (np.ones(1), np.ones(1), np.ones(1)))
