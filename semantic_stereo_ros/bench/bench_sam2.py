"""Automatic masks with SAM 2: time and memory here and by the reference generator's algorithm."""

from __future__ import annotations

from typing import Any

from semantic_stereo_ros.checks import missing_dependency


def run(repeats: int = 30) -> dict[str, Any]:
    """Medians and ratios for a small and a large image; all take turns on one tiny model with random weights, a third of whose masks pass.

    The reference's order of work is repeated with the package's functions, since its class needs torchvision. here and reference are
    without the encoder, which both share. On a GPU 1024 px and 1024 points; on a CPU 256 px, and 1024 px for one image and once, with 64
    points each. '1024 points': what follows for the full grid. Random masks are ragged and cover half the image each, which is the worst
    case here and costs the reference's run lengths most. Adaptive points are measured where masks mean something, in
    test/sam2/test_adaptive.py.

    share_of_here: where the time goes. The floor is the image encoder and the decoder's transformer, which no other order of work saves:
    reference_to_floor is the most that reference_to_here could be. Raises MissingDependencyError without torch or sam2.
    """
    try:
        from semantic_stereo_ros.bench import automask_timing
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "sam2", "automatic masks with SAM 2") from error
    return automask_timing.measure(repeats)
