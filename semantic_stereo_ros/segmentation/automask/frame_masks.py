"""A frame's Segmentation by any promptable model: automatic masks, prompted objects over them, both refined by depth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.prompts import PromptSet, source_key_of
from semantic_stereo_ros.segmentation import depth_refine
from semantic_stereo_ros.segmentation.automask.adaptive import find_masks_adaptively
from semantic_stereo_ros.segmentation.automask.generate import Candidates, Options, as_masks, batch_for, find_masks
from semantic_stereo_ros.segmentation.automask.generator_config import MaskConfig
from semantic_stereo_ros.segmentation.automask.levels import layers_of
from semantic_stereo_ros.segmentation.automask.mask_cleaning import clean
from semantic_stereo_ros.segmentation.automask.promptable import PromptableModel
from semantic_stereo_ros.segmentation.automask.prompted import decode_object
from semantic_stereo_ros.segmentation.edges import beside_breaks
from semantic_stereo_ros.types import Disparity, LabelLayer, Segmentation, StereoFrame

logger = logging.getLogger(__name__)

FEWEST_POINTS = 4
_LEVELS = 3  # of which max_objects are kept each


def segment(
    model: PromptableModel, config: MaskConfig, frame: StereoFrame, disparity: Disparity | None, prompts: PromptSet, points_per_batch: int
) -> Segmentation:
    """Layers group, object and part (only those that are not empty, and object); `refined` by depth is another step."""
    if config.mode == "prompted" and not prompts.prompts:
        return Segmentation((LabelLayer(np.zeros(frame.shape, np.uint16)),), ())
    image = frame.as_rgb8()
    embedding = model.encode(image)
    ids = prompts.object_ids
    objects = [decode_object(model, embedding, prompts.of(i), frame.shape) for i in ids]
    masks, scores = [mask[None] for mask, _ in objects], [score for _, score in objects]
    if config.mode == "automatic":
        found, automatic = find(model, config, image, embedding, disparity, points_per_batch)
        masks.append(clean(automatic, config.min_region_px))
        scores += found.predicted_iou.tolist()
    keys = [(source_key_of(i), prompts.class_name(i)) for i in ids]
    return layers_of(torch.cat(masks), np.array(scores), config.max_objects, keys)


def find(
    model: PromptableModel, config: MaskConfig, image: np.ndarray, embedding: Any, disparity: Disparity | None, points_per_batch: int
) -> tuple[Candidates, Tensor]:
    """The best automatic masks of an image that is encoded already, the best first, and their (K, H, W) bool pixels."""
    options = Options(
        config.points_per_side, points_per_batch, config.min_iou, config.min_stability, 1.0, config.box_nms, config.crop_layers
    )
    if config.adaptive and not config.crop_layers:
        edges = None if disparity is None else beside_breaks(disparity)
        found = find_masks_adaptively(model, image, options, edges, embedding)[0]
    else:
        found = find_masks(model, image, options, embedding)
    best = found[torch.argsort(found.predicted_iou, descending=True)[: _LEVELS * config.max_objects]]
    return best, as_masks(best, (image.shape[0], image.shape[1]))


def refined(result: Segmentation, config: MaskConfig, disparity: Disparity | None) -> Segmentation:
    """Masks cut and joined by depth, as far as the options say and there is any."""
    if disparity is None:
        return result
    if config.split_at_depth:
        result = depth_refine.split(result, disparity)
    return depth_refine.merge(result, disparity) if config.merge_by_depth else result


class Thrift:
    """How many points are decoded at a time: as configured (fewer on a CPU), until memory runs out. notes: what then became of it."""

    def __init__(self, points_per_batch: int, on_cpu: bool) -> None:
        self.points_per_batch = batch_for(points_per_batch, on_cpu)
        self.notes: tuple[str, ...] = ()

    def run(self, work: Callable[[], Segmentation], device: torch.device) -> Segmentation:
        """What `work` returns, which decodes so many points at a time; when memory runs out it is tried once more with a quarter.

        Raises ImageError when memory does not suffice for these either.
        """
        for attempt in range(2):
            try:
                return work()
            except Exception as error:
                if not hardware.is_out_of_memory(error):
                    raise
            # Out here no exception holds the failed attempt's tensors any more.
            hardware.release(device)
            if attempt == 0:
                self.points_per_batch = max(FEWEST_POINTS, self.points_per_batch // 4)
                note = f"memory ran out: {self.points_per_batch} points are decoded at a time; a smaller image_size or model needs less"
                self.notes = (note,)
                logger.warning(note)
        raise ImageError(f"no memory is left for this frame with {self.points_per_batch} points at a time: lower image_size or the model")
