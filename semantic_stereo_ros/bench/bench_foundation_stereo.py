"""FoundationStereo: time and peak memory of a pass, against a plain form of the same network and, on a GPU, by precision and compiled."""

from __future__ import annotations

from typing import Any

from semantic_stereo_ros.checks import missing_dependency


def run(repeats: int = 30) -> dict[str, Any]:
    """Medians, peaks and ratios on random weights, which cost what trained ones cost.

    On a CPU: ViT-S against the same network not prepared; they take turns, each in a process of its own, for a fifteenth of the rounds;
    peaks are those beside the weights. On a GPU: ViT-S and ViT-L, two sizes, three numbers of updates, by precision. Raises
    MissingDependencyError without torch.
    """
    try:
        from semantic_stereo_ros.bench import foundation_stereo_timing
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "torch", "FoundationStereo") from error
    return foundation_stereo_timing.measure(max(2, repeats // 15))
