"""A tracker whose answers are known, for tests of what stands around it."""

from __future__ import annotations

import numpy as np
import torch

from semantic_stereo_ros.models.sam2.tracking import Predictions

SHAPE = (64, 96)


def box(x: int, y: int, width: int = 16, height: int = 16) -> np.ndarray:
    """(64, 96) bool."""
    mask = np.zeros(SHAPE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


class ScriptedTracker:
    """Shows every object where it was prompted, but not in the frames `hidden`: {key: frames}."""

    image_size = 96

    def __init__(self, hidden: dict[str, range] | None = None) -> None:
        self.hidden = hidden or {}
        self.reset()

    def reset(self):
        self.frame, self.prompts = -1, {}

    @property
    def keys(self):
        return tuple(self.prompts)

    def encode(self, rgb8):
        return None

    def step(self, features, prompts=None):
        self.frame += 1
        self.prompts.update(prompts or {})
        return self._predict(self.keys)

    def prompt(self, prompts):
        self.prompts.update(prompts)
        for key in prompts:
            if self.frame in self.hidden.get(key, ()):
                del self.hidden[key]
        return self._predict(tuple(prompts))

    def remove(self, keys):
        for key in keys:
            self.prompts.pop(key, None)

    def _predict(self, keys):
        if not keys:
            return Predictions.joined([], ())
        masks = torch.stack([self.prompts[key].mask for key in keys])[:, None].float()
        seen = torch.tensor([float(self.frame not in self.hidden.get(key, ())) for key in keys])
        logits = torch.where(seen[:, None, None, None] > 0, masks * 20 - 10, -1024.0)
        return Predictions(keys, logits, 8 * seen - 4, torch.full((len(keys),), 0.9))
