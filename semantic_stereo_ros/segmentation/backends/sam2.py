"""SAM 2 (Ravi et al. 2024): all masks of a frame, prompted objects, or objects followed. Needs torch and the package sam2."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semantic_stereo_ros.checks import ConfigError, missing_dependency
from semantic_stereo_ros.options import option
from semantic_stereo_ros.prompts import PromptSet
from semantic_stereo_ros.segmentation.automask.generator_config import MaskConfig
from semantic_stereo_ros.segmentation.sam2_weights import MODELS, checkpoint_of
from semantic_stereo_ros.types import Disparity, Segmentation, StereoFrame

if TYPE_CHECKING:
    from torch import Tensor

USUAL_HW = (720, 1280)


@dataclass(frozen=True)
class Config(MaskConfig):
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

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.stateful = self.config.mode == "track"
        self._prompts = PromptSet()
        self._image: Any = None
        self._follower: Any = None
        self._shape: tuple[int, int] | None = None
        self._thrift: Any = None

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
        checkpoint_of(self.config.checkpoint, self.config.model)

    def load(self) -> None:
        """Map the checkpoint and put the network on its device. Raises what `check` raises, InputFileError for a file that does not fit
        the model, and ConfigError naming a setting that fits where the GPU's memory is too small."""
        self.check()
        import torch

        from semantic_stereo_ros.models import hardware
        from semantic_stereo_ros.models.sam2 import loading as sam2_loading
        from semantic_stereo_ros.models.sam2 import memory_check
        from semantic_stereo_ros.models.sam2.image import Sam2Image
        from semantic_stereo_ros.segmentation.automask.frame_masks import Thrift

        config = self.config
        device = hardware.choose_device(config.device)
        free = hardware.free_bytes(device)
        memory_check.check_fits(free, config.model, config.image_size, config.points_per_batch, config.max_objects, USUAL_HW)
        changes = {"binarize_mask_from_pts_for_mem_enc": True} if self.stateful else None
        model = sam2_loading.load(checkpoint_of(config.checkpoint, config.model), config.model, config.image_size, changes).to(device)
        if config.compile:
            model.image_encoder.forward = torch.compile(model.image_encoder.forward)
        self._image = Sam2Image(model, hardware.choose_dtype(config.precision, device))
        self._thrift = Thrift(config.points_per_batch, self._image.on_cpu)
        if self.stateful:
            self._follower = self._make_follower(model)

    def _make_follower(self, model: Any) -> Any:
        from semantic_stereo_ros.models.sam2.objects import ObjectStream, Rules
        from semantic_stereo_ros.models.sam2.tracking import StreamTracker
        from semantic_stereo_ros.segmentation.following import Follower

        config = self.config
        tracker = StreamTracker(model, memory_frames=config.memory_frames, dtype=self._image.dtype)
        rules = Rules(config.key_frame_interval, config.max_objects, config.lost_frames, config.drop_frames)
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
        return () if self._thrift is None else self._thrift.notes

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        """Layers group, object and part (only those that are not empty, and object), or the followed objects.

        Raises ImageError when memory does not suffice even for a few points at a time.
        """
        from semantic_stereo_ros.segmentation.automask.frame_masks import refined

        result = self._thrift.run(lambda: self._segment(frame, disparity), self._image.device)
        return refined(result, self.config, disparity)

    def _segment(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation:
        from semantic_stereo_ros.segmentation.automask.frame_masks import segment

        if self._follower is None:
            return segment(self._image, self.config, frame, disparity, self._prompts, self._thrift.points_per_batch)
        if self._shape not in (None, frame.shape):
            self._follower.reset()
        self._shape = frame.shape
        return self._follower(frame, disparity)

    def _find_for_tracking(self, image: np.ndarray, features: Any) -> Tensor:
        """(N, H, W) bool, the best first, of a key frame whose features the tracker has: objects, not their parts or groups of them."""
        import torch

        from semantic_stereo_ros.models.sam2.image import embedding_of
        from semantic_stereo_ros.segmentation.automask.frame_masks import find
        from semantic_stereo_ros.segmentation.automask.levels import LEVELS, nest

        embedding = embedding_of(self._image.model, features.maps, (image.shape[0], image.shape[1]))
        _, masks = find(self._image, self.config, image, embedding, None, self._thrift.points_per_batch)
        return masks[torch.from_numpy(nest(masks).level == LEVELS.index("object"))]
