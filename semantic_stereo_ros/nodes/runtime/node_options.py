"""The nodes' own parameters. Those of the algorithm come from config.schema(); one YAML may hold all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from semantic_stereo_ros import options
from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.config import schema
from semantic_stereo_ros.fusion.assemble import ObstacleConfig
from semantic_stereo_ros.io import video_devices
from semantic_stereo_ros.options import Option, option


@dataclass(frozen=True)
class InputConfig:
    """What pipeline_node and stereo_node listen to."""

    rectify: bool = option(False, "subscribe to image_raw instead of image_rect and rectify with the camera_infos")
    external: str = option(
        "none",
        "for stereo.backend external, in place of the right image: disparity (`disparity_in`, a DisparityImage) or depth "
        "(`depth_in/image_rect`), both in the left image's pixels",
        choices=("none", "disparity", "depth"),
    )
    transport: str = option(
        "raw",
        "raw images, or compressed ones (sensor_msgs/CompressedImage on <image topic>/compressed)",
        choices=("raw", "compressed"),
    )
    depth_transport: str = option(
        "raw", "the same for `depth_in/image_rect`, compressed on its topic /compressedDepth", choices=("raw", "compressed")
    )
    depth_baseline_m: float = option(
        0.1,
        "baseline in which incoming depth is counted as disparity. Distances do not depend on it; thresholds in px and the smallest sigma "
        "do: the depth camera's own if it is a stereo camera, else about 0.1",
        unit="m",
        minimum=0.001,
        maximum=100.0,
    )
    confidence: str = option(
        "none",
        "confidence of incoming depth or disparity on `confidence_in` (its stamp, 8-bit or 32FC1): percent_inverted for ZED, where 0 is "
        "best and 100 worst; percent; fraction for 0..1; byte for 0..255",
        choices=("none", "fraction", "percent", "percent_inverted", "byte"),
    )
    reliability: str = option(
        "auto",
        "reliability asked of the image publishers; auto starts with best_effort and becomes reliable while all publishers offer it",
        choices=("auto", "reliable", "best_effort"),
    )
    sync_tolerance_ms: float = option(
        10.0,
        "largest difference of the stamps of a pair; below half the camera period; 0 pairs equal stamps only",
        unit="ms",
        minimum=0.0,
        maximum=1000.0,
    )
    use_pose: bool = option(
        False, "take the camera's pose in the world (nav_msgs/Odometry on `pose`, with the left image's stamp) for tracking"
    )
    prompt_max_age_s: float = option(
        1.0, "how far the stamp of prompts may lie from the newest segmented frame's", unit="s", minimum=0.0, maximum=3600.0
    )
    health_period_s: float = option(
        30.0,
        "how often a pair is checked thoroughly (20 to 50 ms each time); 0 = never",
        unit="s",
        minimum=0.0,
        maximum=86400.0,
    )

    def listens_as(self, other: InputConfig) -> bool:
        """Whether both make the same subscriptions; the rest is taken over while they go on."""
        live = {name: getattr(other, name) for name in ("sync_tolerance_ms", "prompt_max_age_s", "health_period_s")}
        return replace(self, **live) == other


@dataclass(frozen=True)
class OutputConfig(ObstacleConfig):
    """What pipeline_node publishes."""

    target_frame: str = option(
        "", "frame to give objects, detections and clouds in, by TF at the image's stamp (needs tf2_ros); empty: the left optical frame"
    )
    depth_encoding: str = option("32FC1", "encoding of depth/image_rect: 32FC1 in m or 16UC1 in mm", choices=("32FC1", "16UC1"))
    stride: int = option(1, "take every n-th pixel for points, mask/class and confidence", unit="px", minimum=1, maximum=32)
    z_far_m: float = option(0.0, "cut every cloud beyond this depth; 0 = no limit", unit="m", minimum=0.0, maximum=10000.0)
    max_rate_hz: float = option(
        0.0,
        "take at most so many frames per second, by their stamps, and publish nothing of the others; 0 = every frame",
        unit="Hz",
        minimum=0.0,
        maximum=1000.0,
    )
    process_idle: bool = option(False, "process frames even while nobody subscribes to any output")
    snapshot_directory: str = option(
        "snapshots", "folder that save_snapshot writes to; a request may name one below it, never one elsewhere", dynamic=False
    )


@dataclass(frozen=True)
class DiagnosticsConfig:
    """When /diagnostics warns. The sentences and their remedies: nodes/health/health_messages.py."""

    min_input_rate_hz: float = option(
        0.0, "warn when a camera's images come more slowly; 0 = only when they stop", unit="Hz", minimum=0.0, maximum=1000.0
    )
    min_output_rate_hz: float = option(
        0.0, "warn when answers come more slowly; 0 = only when they stop", unit="Hz", minimum=0.0, maximum=1000.0
    )
    min_pair_fraction: float = option(0.75, "warn when a smaller share of what comes finds its partner", minimum=0.0, maximum=1.0)
    max_skew_ms: float = option(
        5.0, "warn when left and right are taken farther apart (95th percentile)", unit="ms", minimum=0.0, maximum=1000.0
    )
    max_drop_fraction: float = option(
        0.9, "warn when a larger share of the pairs is dropped because a newer one came first", minimum=0.0, maximum=1.0
    )
    max_age_s: float = option(1.0, "warn when answers are older at publication (95th percentile)", unit="s", minimum=0.0, maximum=3600.0)
    min_valid_fraction: float = option(0.2, "warn when a smaller share of the pixels has a known disparity", minimum=0.0, maximum=1.0)
    row_period_s: float = option(
        2.0, "how often the pair's row error is measured (about 3 ms each time); 0 = never", unit="s", minimum=0.0, maximum=86400.0
    )
    good_row_error_px: float = option(1.0, "warn when the median row error is larger", unit="px", minimum=0.0, maximum=10.0)
    max_row_error_px: float = option(2.0, "error when the median row error is larger", unit="px", minimum=0.0, maximum=10.0)
    max_memory_growth_mb: float = option(
        500.0, "warn when the process grows by more after its first minute of work", unit="MB", minimum=0.0, maximum=1e6
    )
    min_gpu_free_mb: float = option(200.0, "warn when less GPU memory is free, where torch uses CUDA", unit="MB", minimum=0.0, maximum=1e6)


@dataclass(frozen=True)
class JoinConfig:
    """How segmentation_node and fusion_node wait for what belongs to one frame. The newest frame is always kept."""

    seconds: float = option(
        3.0, "how much older than the newest a frame may be that waits for its masks, by stamp", unit="s", minimum=0.1, maximum=60.0
    )
    megabytes: float = option(500.0, "how much may wait; the oldest frame goes first", unit="MB", minimum=1.0, maximum=100000.0)


@dataclass(frozen=True)
class PlayerConfig:
    """What player_node plays."""

    source: str = option(
        "synthetic",
        "'synthetic' (the demo scene), 'synthetic:<seed>', or 'LEFT,RIGHT': two folders, glob patterns or videos",
        dynamic=False,
    )
    calibration: str = option("", "calibration file or folder of the source; not for synthetic scenes", dynamic=False)
    rate_hz: float = option(
        15.0, "frames per second; 0 = as fast as they can be read", unit="Hz", minimum=0.0, maximum=1000.0, dynamic=False
    )
    wait: bool = option(
        False, "send the next frame only when `objects` of this one arrived; with rate_hz as the upper limit", dynamic=False
    )
    wait_timeout_s: float = option(
        10.0, "with wait: how long before a frame is given up and the next one sent", unit="s", minimum=0.1, maximum=3600.0, dynamic=False
    )
    loop: bool = option(False, "begin again after the last frame", dynamic=False)
    preload: bool = option(False, "read or render all frames before the first one is sent, so that rate_hz can be kept", dynamic=False)
    reliability: str = option("reliable", "what the image publishers offer", choices=("reliable", "best_effort"), dynamic=False)
    frames: int = option(0, "number of frames; 0 = all there are (90 of a synthetic scene)", minimum=0, dynamic=False)
    width: int = option(640, "image width of synthetic scenes", unit="px", minimum=32, maximum=8192, dynamic=False)
    height: int = option(480, "image height of synthetic scenes", unit="px", minimum=32, maximum=8192, dynamic=False)
    subscribers: int = option(
        1, "start when the images and camera_infos have this many subscribers each; 0 = at once", minimum=0, maximum=100, dynamic=False
    )
    frame_id: str = option("camera_left_optical_frame", "frame id of the images", dynamic=False)
    world_frame_id: str = option("world", "frame id of `pose`, where the source knows the camera's pose", dynamic=False)


SECTIONS: dict[str, type] = {
    "input": InputConfig,
    "output": OutputConfig,
    "diagnostics": DiagnosticsConfig,
    "join": JoinConfig,
    "player": PlayerConfig,
    "camera": video_devices.Config,
}


@dataclass(frozen=True)
class NodeConfig:
    """What every lifecycle node of the package has, without a section."""

    autostart: bool = option(
        True, "configure and activate at once; off: wait for a lifecycle manager or `ros2 lifecycle set`", dynamic=False
    )


NODE_OPTIONS: dict[str, Option] = options.options_of(NodeConfig)
RCLPY_OWN = ("use_sim_time", "start_type_description_service", "bond_disable_heartbeat_timeout")
"""Parameters that rclpy and bondpy declare by themselves."""


def section_schema(section: str) -> dict[str, Option]:
    """The options of one section by flat key."""
    return {f"{section}.{name}": value for name, value in options.options_of(SECTIONS[section]).items()}


def known_keys() -> dict[str, Option]:
    """Every parameter of the package: the algorithm's and every node's."""
    result = {**NODE_OPTIONS, **schema()}
    for section in SECTIONS:
        result.update(section_schema(section))
    return result


def check_known(keys: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key that no part of the package knows; RCLPY_OWN and qos_overrides.* are known."""
    import difflib

    known = known_keys()
    for key in keys:
        if key in known or key in RCLPY_OWN or key.startswith("qos_overrides."):
            continue
        close = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(close)}?" if close else "`ros2 param list` shows the known ones"
        raise ConfigError(f"unknown parameter {key!r}; {hint}")


def build_section(section: str, values: Mapping[str, Any]) -> Any:
    """The section's frozen Config from flat values; keys of other sections are left aside."""
    prefix = f"{section}."
    own = {key[len(prefix) :]: value for key, value in values.items() if key.startswith(prefix)}
    return options.build(SECTIONS[section], own, prefix)
