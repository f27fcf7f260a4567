"""Tracking with SAM 2: time and memory per frame and object of the streaming tracker against the package's own video predictor."""

from __future__ import annotations

from typing import Any

from semantic_stereo_ros.checks import missing_dependency


def run(repeats: int = 30) -> dict[str, Any]:
    """Medians of whole frames (encoder included) and their ratio; both take turns, frame by frame, on one tiny model with random weights.

    On a GPU images are 1024 px and in bfloat16; on the CPU 256 px, and there are a fifth of the rounds. The predictor's frames are loaded
    before, as it does; the tracker's are resized within its time. bytes_per_further_frame: what a longer stream holds more.
    Raises MissingDependencyError without torch or sam2.
    """
    try:
        from semantic_stereo_ros.bench import sam2_tracking_timing
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "sam2", "tracking with SAM 2") from error
    return sam2_tracking_timing.measure(repeats)
