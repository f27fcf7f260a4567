"""Options of the tracking stage."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_stereo_ros.options import option


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
