"""What an exported ONNX file says of itself, in its metadata: read by the stereo backend `onnx`, which then needs no family."""

from __future__ import annotations

FAMILY = "semantic_stereo.family"
MAX_DISPARITY_PX = "semantic_stereo.max_disparity_px"
LICENCE = "semantic_stereo.licence"
MODEL = "semantic_stereo.model"

OWN_FAMILY = "semantic_stereo"
"""The family (config/onnx/semantic_stereo.yaml) of what `semantic-stereo export` writes."""
