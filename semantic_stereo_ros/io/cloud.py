"""Point clouds out: binary PLY, the far cut and the removal of outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semantic_stereo_ros.checks import ImageError, check_array
from semantic_stereo_ros.io.paths import atomic

_PLY_TYPES = {"f4": "float", "u1": "uchar", "u2": "ushort", "u4": "uint"}


def write_ply(
    path: str | Path,
    xyz: np.ndarray,
    rgb: np.ndarray | None = None,
    label: np.ndarray | None = None,
    instance: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    z_far_m: float | None = None,
) -> int:
    """Write the finite points as binary little-endian PLY; returns their number.

    xyz: (N, 3) or (H, W, 3) in m. Of the same leading shape, each optional: rgb (..., 3) uint8; label uint8 class ids; instance
    uint32 object ids; confidence 0..1. Points beyond z_far_m are left out. Raises ImageError for shapes that do not fit.
    """
    check_array("xyz", xyz, shape=(*xyz.shape[:-1], 3))
    points = xyz.reshape(-1, 3)
    keep = within(points, z_far_m)
    columns: list[tuple[str, str, np.ndarray]] = [(name, "f4", points[:, i]) for i, name in enumerate("xyz")]
    if rgb is not None:
        check_array("rgb", rgb, shape=xyz.shape, dtypes=(np.uint8,))
        flat = rgb.reshape(-1, 3)
        columns += [(name, "u1", flat[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    for name, kind, values in (("label", "u1", label), ("instance", "u4", instance), ("confidence", "f4", confidence)):
        if values is not None:
            check_array(name, values, shape=xyz.shape[:-1])
            columns.append((name, kind, values.reshape(-1)))
    vertices = np.empty(int(keep.sum()), dtype=[(name, f"<{kind}" if kind != "u1" else "u1") for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values[keep]
    header = ["ply", "format binary_little_endian 1.0", "comment left optical frame, metres", f"element vertex {len(vertices)}"]
    header += [f"property {_PLY_TYPES[kind]} {name}" for name, kind, _ in columns] + ["end_header\n"]
    with atomic(path) as file:
        file.write("\n".join(header).encode("ascii"))
        file.write(vertices.tobytes())
    return len(vertices)


def within(xyz: np.ndarray, z_far_m: float | None = None) -> np.ndarray:
    """(..., 3) points in m -> (...) bool: finite, and not beyond z_far_m (None = no cut)."""
    keep: np.ndarray = np.asarray(np.isfinite(xyz).all(axis=-1))
    if z_far_m is not None:
        with np.errstate(invalid="ignore"):
            keep = keep & (xyz[..., 2] <= z_far_m)
    return keep


def inlier_mask(xyz: np.ndarray, neighbours: int = 20, std_ratio: float = 2.0) -> np.ndarray:
    """(N, 3) finite points -> (N,) bool: statistical outlier removal (Rusu et al., 2008).

    A point's mean distance to its nearest `neighbours` (itself among them, as in Open3D) must stay below the mean of all points plus
    std_ratio standard deviations. Fewer than `neighbours` points are all kept.
    """
    check_array("xyz", xyz, shape=(None, 3))
    if not np.isfinite(xyz).all():
        raise ImageError("outlier removal needs finite points: leave out NaN first")
    if len(xyz) <= neighbours:
        return np.ones(len(xyz), bool)
    from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

    distances, _ = cKDTree(xyz).query(xyz, k=neighbours, workers=-1)
    mean = distances.mean(axis=1)
    positive = mean > 0
    if positive.sum() < 2:
        return np.ones(len(xyz), bool)
    threshold = mean[positive].mean() + std_ratio * mean[positive].std(ddof=1)
    return (mean < threshold) & positive
