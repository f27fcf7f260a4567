"""The options of every backend that finds masks with a promptable model, whatever runs the model."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_stereo_ros.options import option


@dataclass(frozen=True)
class MaskConfig:
    """What is looked for in a frame, and which masks are kept. A backend's Config adds what its model needs."""

    mode: str = option(
        "automatic",
        "automatic: all masks, prompted objects over them; prompted: only these",
        choices=("automatic", "prompted"),
    )
    points_per_side: int = option(32, "points of the automatic grid along a side", minimum=1, maximum=128)
    points_per_batch: int = option(64, "points decoded at a time: speed and memory, not results", minimum=1, maximum=1024)
    adaptive: bool = option(True, "spend points only where no mask explains the image yet, at most a third of the grid")
    crop_layers: int = option(
        0, "look again at 4, 16, ... crops of the image, which finds smaller things; not with adaptive", minimum=0, maximum=3
    )
    min_iou: float = option(0.8, "drop masks whose predicted IoU is lower", minimum=0.0, maximum=1.0)
    min_stability: float = option(0.95, "drop masks that change more than this with the threshold", minimum=0.0, maximum=1.0)
    box_nms: float = option(0.7, "masks whose boxes overlap more are one", minimum=0.0, maximum=1.0)
    min_region_px: int = option(100, "fill holes and drop islands that are smaller", unit="px", minimum=0, maximum=100000)
    max_objects: int = option(64, "most objects, parts and groups each, or objects found for tracking", minimum=1, maximum=1000)
    split_at_depth: bool = option(True, "cut masks where the depth steps strongly; needs a disparity")
    merge_by_depth: bool = option(True, "join neighbouring objects of low score whose depth says one surface; needs a disparity")
