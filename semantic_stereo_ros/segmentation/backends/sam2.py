"""SAM 2 (Ravi et al. 2024): all masks of a frame, prompted objects, or objects followed. Needs torch and the package sam2."""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semantic_stereo_ros.checks import ConfigError, ImageError, InputFileError, missing_dependency
from semantic_stereo_ros.options import option
from semantic_stereo_ros.segmentation import depth_refine
from semantic_stereo_ros.segmentation.prompts import PromptSet, source_key_of
from semantic_stereo_ros.types import Disparity, LabelLayer, Segmentation, StereoFrame
from semantic_stereo_ros.weights import cache
from semantic_stereo_ros.weights.catalogue import CATALOGUE

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

MODELS = tuple(f"{family}_hiera_{size}" for family in ("sam2.1", "sam2") for size in ("tiny", "small", "base_plus", "large"))
USUAL_HW = (720, 1280)
FEWEST_POINTS = 4


@dataclass(frozen=True)
class Config:
    """Options of the model, of what it costs, and of the masks."""

    mode: str = option(
        "automatic",
        "automatic: all masks, prompted objects over them; prompted: only these; track: objects found or prompted are followed",
        choices=("automatic", "prompted", "track"),
    )
    checkpoint: str = option("", "file of the weights; empty = the official file of the model, see `semantic-stereo weights list`")
    model: str = option("sam2.1_hiera_tiny", "size of the network", choices=MODELS)
    device: str = option("auto", "auto (a GPU where there is one), cpu, cuda or cuda:N")
    precision: str = option("float32", "of the network on a GPU; a CPU always works in float32", choices=("float32", "bf16", "fp16"))
    compile: bool = option(False, "compile the image encoder (torch.compile): the first frame takes minutes")
    image_size: int = option(1024, "side of the square image the network sees, a multiple of 32", unit="px", minimum=64, maximum=2048)
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
    key_frame_interval: int = option(15, "track: look for new objects in every so many frames", unit="frames", minimum=1, maximum=10000)
    memory_frames: int = option(6, "track: recent frames that are remembered of each object", unit="frames", minimum=1, maximum=6)
    lost_frames: int = option(10, "track: unseen for longer, an object is lost, not occluded", unit="frames", minimum=0, maximum=10000)
    drop_frames: int = option(
        60, "track: unseen for longer, an object is forgotten, unless it was prompted", unit="frames", minimum=0, maximum=100000
    )


class Backend:
    """One model on one device. When memory runs out, one attempt is made with fewer points at a time; `notes` says so."""

    needs_disparity = False
    accepts_prompts = True
    max_batch = 1

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.stateful = self.config.mode == "track"
        self._points_per_batch = self.config.points_per_batch
        self._prompts = PromptSet()
        self._image: Any = None
        self._follower: Any = None
        self._shape: tuple[int, int] | None = None
        self._notes: dict[str, str] = {}

    def check(self) -> None:
        """Raise ConfigError, MissingDependencyError (torch, sam2) or InputFileError (no checkpoint) for what can be told at once."""
        config = self.config
        if config.image_size % 32:
            raise ConfigError(f"image_size must be a multiple of 32, got {config.image_size}: 1024 is what SAM 2 was trained at")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
            raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {config.device!r}")
        for module in ("torch", "sam2", "hydra", "omegaconf", "iopath"):
            if importlib.util.find_spec(module) is None:
                raise missing_dependency(module, "sam2", "the segmentation backend sam2")
        self._checkpoint()

    def _checkpoint(self) -> Path:
        if not self.config.checkpoint:
            return cache.locate(self.config.model)
        if self.config.checkpoint in CATALOGUE:
            return cache.locate(self.config.checkpoint)
        path = Path(self.config.checkpoint).expanduser()
        if not path.is_file():
            raise InputFileError(f"checkpoint {path} does not exist: give a file, or leave it empty for {self.config.model}'s official one")
        return path

    def load(self) -> None:
        """Map the checkpoint and put the network on its device. Raises what `check` raises, InputFileError for a file that does not fit
        the model, and ConfigError naming a setting that fits where the GPU's memory is too small."""
        self.check()
        import torch

        from semantic_stereo_ros.models import hardware, sam2_fit, sam2_loading
        from semantic_stereo_ros.models.sam2_image import Sam2Image

        config = self.config
        device = hardware.choose_device(config.device)
        free = hardware.free_bytes(device)
        sam2_fit.check_fits(free, config.model, config.image_size, config.points_per_batch, config.max_objects, USUAL_HW)
        changes = {"binarize_mask_from_pts_for_mem_enc": True} if self.stateful else None
        model = sam2_loading.load(self._checkpoint(), config.model, config.image_size, changes).to(device)
        if config.compile:
            model.image_encoder.forward = torch.compile(model.image_encoder.forward)
        self._image = Sam2Image(model, hardware.choose_dtype(config.precision, device))
        if self.stateful:
            self._follower = self._make_follower(model)

    def _make_follower(self, model: Any) -> Any:
        from semantic_stereo_ros.models.sam2_objects import ObjectStream, Rules
        from semantic_stereo_ros.models.sam2_tracking import StreamTracker
        from semantic_stereo_ros.segmentation.following import Follower

        config = self.config
        tracker = StreamTracker(model, memory_frames=config.memory_frames, dtype=self._image.dtype)
        rules = Rules(config.key_frame_interval, config.max_objects, lost_frames=config.lost_frames, drop_frames=config.drop_frames)
        return Follower(ObjectStream(tracker, rules), config.image_size, self._find_for_tracking)

    def set_prompts(self, prompts: PromptSet) -> None:
        """All prompts in force from the next frame on."""
        self._prompts = prompts
        if self._follower is not None:
            self._follower.set_prompts(prompts)

    def reset(self, reason: str) -> None:
        """Forget prompts and followed objects."""
        self._prompts = PromptSet()
        if self._follower is not None:
            self._follower.reset()

    def close(self) -> None:
        """Free the network."""
        self._image = self._follower = None

    def notes(self) -> tuple[str, ...]:
        """What is other than asked for, one sentence each; empty when all is as configured."""
        return tuple(self._notes.values())

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        """Layers group, object and part (only those that are not empty, and object), or the followed objects.

        Raises ImageError when memory does not suffice even for a few points at a time.
        """
        from semantic_stereo_ros.models import hardware

        for attempt in range(2):
            try:
                return self._segment(frame, disparity)
            except Exception as error:
                if not hardware.is_out_of_memory(error):
                    raise
            # Out here no exception holds the failed attempt's tensors any more.
            hardware.release(self._image.device)
            if attempt == 0:
                self._points_per_batch = max(FEWEST_POINTS, self._points_per_batch // 4)
                note = f"memory ran out: {self._points_per_batch} points are decoded at a time; a smaller image_size or model needs less"
                self._notes["memory"] = note
                logger.warning(note)
        raise ImageError(f"no memory is left for this frame with {self._points_per_batch} points at a time: lower image_size or the model")

    def _segment(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        if self._follower is not None:
            if self._shape not in (None, frame.shape):
                self._follower.reset()
            self._shape = frame.shape
            result = self._follower(frame, disparity)
        else:
            result = self._single(frame, disparity)
        if disparity is None:
            return result
        if self.config.split_at_depth:
            result = depth_refine.split(result, disparity)
        return depth_refine.merge(result, disparity) if self.config.merge_by_depth else result

    def _single(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        import torch

        from semantic_stereo_ros.segmentation.automask.generate import as_masks
        from semantic_stereo_ros.segmentation.automask.levels import layers_of
        from semantic_stereo_ros.segmentation.automask.prompted import decode_object
        from semantic_stereo_ros.segmentation.automask.regions import clean

        if self.config.mode == "prompted" and not self._prompts.prompts:
            return Segmentation((LabelLayer(np.zeros(frame.shape, np.uint16)),), ())
        image = frame.as_rgb8()
        embedding = self._image.encode(image)
        ids = self._prompts.object_ids
        objects = [decode_object(self._image, embedding, self._prompts.of(i), frame.shape) for i in ids]
        masks, scores = [mask[None] for mask, _ in objects], [score for _, score in objects]
        if self.config.mode == "automatic":
            found = self._find(image, embedding, disparity)
            best = found[torch.argsort(found.predicted_iou, descending=True)[: 3 * self.config.max_objects]]
            masks.append(clean(as_masks(best, frame.shape), self.config.min_region_px))
            scores += best.predicted_iou.tolist()
        keys = [(source_key_of(i), self._prompts.class_name(i)) for i in ids]
        return layers_of(torch.cat(masks), np.array(scores), self.config.max_objects, keys)

    def _find(self, image: np.ndarray, embedding: Any, disparity: Disparity | None) -> Any:
        from semantic_stereo_ros.segmentation.automask.adaptive import find_masks_adaptively
        from semantic_stereo_ros.segmentation.automask.generate import Options, find_masks, with_batch_for

        config = self.config
        options = Options(
            config.points_per_side, self._points_per_batch, config.min_iou, config.min_stability, 1.0, config.box_nms, config.crop_layers
        )
        options = with_batch_for(options, self._image.device)
        if config.adaptive and not config.crop_layers:
            edges = None if disparity is None else depth_refine.steps(disparity)
            return find_masks_adaptively(self._image, image, options, edges, embedding)[0]
        return find_masks(self._image, image, replace(options), embedding)

    def _find_for_tracking(self, image: np.ndarray, features: Any) -> Tensor:
        """(N, H, W) bool, the best first, of a key frame whose features the tracker has: objects, not their parts or groups of them."""
        import torch

        from semantic_stereo_ros.models.sam2_image import embedding_of
        from semantic_stereo_ros.segmentation.automask.generate import as_masks
        from semantic_stereo_ros.segmentation.automask.levels import LEVELS, nest

        shape = (image.shape[0], image.shape[1])
        found = self._find(image, embedding_of(self._image.model, features.maps, shape), None)
        best = found[torch.argsort(found.predicted_iou, descending=True)[: 3 * self.config.max_objects]]
        masks = as_masks(best, shape)
        return masks[torch.from_numpy(nest(masks).level == LEVELS.index("object"))]
