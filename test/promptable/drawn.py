"""A segmentation backend for tests: every prompted object is exactly what its prompts draw. Put on the backends' path by the tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.options import option
from semantic_stereo_ros.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet, source_key_of
from semantic_stereo_ros.types import Disparity, Instance, LabelLayer, Segmentation, StereoFrame


@dataclass(frozen=True)
class Config:
    radius_px: int = option(8, "a point draws a square of twice this size", unit="px", minimum=1, maximum=100)


class Backend:
    stateful = True
    needs_disparity = False
    accepts_prompts = True

    def __init__(self, config: Config | None = None) -> None:
        self._radius_px = (config or Config()).radius_px
        self._prompts = PromptSet()

    def check(self) -> None:
        """No option can be wrong by itself."""

    def load(self) -> None:
        """Nothing to load."""

    def set_prompts(self, prompts: PromptSet) -> None:
        self._prompts = prompts

    def reset(self, reason: str) -> None:
        self._prompts = PromptSet()

    def close(self) -> None:
        """Nothing to free."""

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        labels, instances = np.zeros(frame.shape, np.uint16), []
        for label, object_id in enumerate(self._prompts.object_ids, start=1):
            for prompt in self._prompts.of(object_id):
                if isinstance(prompt, MaskPrompt):
                    labels[prompt.mask] = label
                elif isinstance(prompt, BoxPrompt):
                    x_min, y_min, x_max, y_max = (max(0, round(v)) for v in prompt.box_xyxy)
                    labels[y_min:y_max, x_min:x_max] = label
                elif isinstance(prompt, PointPrompt):
                    x, y = (round(v) for v in prompt.xy_px)
                    reach = self._radius_px
                    value = label if prompt.positive else 0
                    labels[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = value
            name = self._prompts.class_name(object_id) or "object"
            instances.append(Instance(label=label, source_key=source_key_of(object_id), class_name=name))
        return Segmentation((LabelLayer(labels),), tuple(instances))
