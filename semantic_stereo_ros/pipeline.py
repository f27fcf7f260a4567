"""The algorithm on one screen: a rectified stereo frame in, a Scene out.

StereoStage(frame) -> Disparity -> SegmentationStage(frame, disparity) -> Segmentation -> FusionStage (measure, track) -> Scene
"""

from __future__ import annotations

import logging
from typing import Any

from semantic_stereo_ros.config import PipelineConfig, from_flat
from semantic_stereo_ros.stages import BackendStage, FusionStage, SegmentationStage, StereoStage, close_all, timed
from semantic_stereo_ros.types import Scene, Segmentation, StereoFrame

logger = logging.getLogger(__name__)


class Pipeline:
    """One stream of frames through all stages. Backends and tracker keep state, so use one Pipeline per camera.

    Loading happens at the first frame, or earlier with `load()`. Raises what the chosen backends raise when they load.
    """

    def __init__(self, config: PipelineConfig | None = None) -> None:
        self.config = config if config is not None else from_flat()
        self.stereo = StereoStage(self.config)
        self.segmentation = SegmentationStage(self.config)
        self.fusion = FusionStage(self.config)

    def load(self) -> None:
        """Load both backends (weights, libraries). A second call does nothing."""
        self.stereo.load()
        self.segmentation.load()

    def __call__(self, frame: StereoFrame, segmentation: Segmentation | None = None) -> Scene:
        """Process one frame. A given `segmentation` (of the left image's size) replaces the segmentation stage.

        Where segmentation.every_n or max_rate_hz leave a frame out, its objects are predicted and its geometry is measured.
        """
        self.load()
        timings_s: dict[str, float] = {}
        with timed(timings_s, "stereo"):
            disparity = self.stereo(frame)
        with timed(timings_s, "segmentation"):
            masks = self.segmentation(frame, disparity) if segmentation is None else segmentation
        return self.fusion(frame, disparity, masks, timings_s)

    def prepare(self, config: PipelineConfig) -> dict[str, Any]:
        """Load beside the frames what `config` needs anew, for `adopt`. Raises what loading raises; then nothing has changed."""
        fresh: dict[str, Any] = {}
        try:
            for stage in (self.stereo, self.segmentation):
                fresh[stage.name] = stage.prepare(config)
        except Exception:
            close_all(fresh)
            raise
        return fresh

    def adopt(self, config: PipelineConfig, fresh: dict[str, Any]) -> None:
        """Take another config between two frames, with what `prepare` made for it. Raises only where a switch is free_first."""
        taken: list[BackendStage] = []
        try:
            for stage in (self.stereo, self.segmentation):
                stage.adopt(config, fresh.pop(stage.name))
                taken.append(stage)
        except Exception:
            close_all(fresh)
            for stage in taken:
                stage.reconfigure(self.config)
            raise
        self.fusion.adopt(config)
        self.config = config

    def reconfigure(self, config: PipelineConfig) -> None:
        """Take another config between two frames. A stage whose options are the same keeps what it remembers; object ids go on.

        When a new backend cannot be loaded, that is raised and the old ones are in use (Config.switch says what is freed when).
        """
        self.adopt(config, self.prepare(config))

    def reset(self, reason: str) -> None:
        """Forget the past: filters, ids and whatever the backends remember."""
        logger.info("pipeline reset: %s", reason)
        for stage in (self.stereo, self.segmentation, self.fusion):
            stage.reset(reason)

    def notes(self) -> tuple[str, ...]:
        """What backends do otherwise than asked, one sentence each; may be called beside a frame."""
        return self.stereo.notes() + self.segmentation.notes()

    def close(self) -> None:
        """Free the backends. The pipeline is not used again."""
        for stage in (self.stereo, self.segmentation, self.fusion):
            stage.close()
