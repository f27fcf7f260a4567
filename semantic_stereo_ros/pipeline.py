"""The algorithm on one screen: a rectified stereo frame in, a Scene out.

match -> Disparity, segment -> Segmentation, measure -> Measurements, track -> SceneObjects, all of it -> Scene.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from semantic_stereo_ros.backend_stage import close_all
from semantic_stereo_ros.config import PipelineConfig, from_flat
from semantic_stereo_ros.segmentation.base import SegmentationBackend
from semantic_stereo_ros.stages import FusionStage, SegmentationStage, StereoStage, timed
from semantic_stereo_ros.stereo.base import StereoBackend
from semantic_stereo_ros.types import Disparity, Measurement, Scene, SceneObject, Segmentation, StereoFrame

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FreshBackends:
    """What `Pipeline.prepare` loaded for another config; None where the present backend is right."""

    stereo: StereoBackend | None
    segmentation: SegmentationBackend | None


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
        """Load both backends (weights, libraries), and what the second frame would else wait for. A second call does nothing."""
        self.stereo.load()
        self.segmentation.load()
        self.fusion.load()

    def __call__(self, frame: StereoFrame, segmentation: Segmentation | None = None) -> Scene:
        """Process one frame. A given `segmentation` (of the left image's size) replaces the segmentation stage.

        Where segmentation.every_n or max_rate_hz leave a frame out, its objects are predicted and its geometry is measured.
        """
        self.stereo.load()
        self.segmentation.load()
        timings_s: dict[str, float] = {}
        with timed(timings_s, "stereo"):
            disparity: Disparity = self.stereo(frame)
        with timed(timings_s, "segmentation"):
            masks: Segmentation | None = self.segmentation(frame, disparity) if segmentation is None else segmentation
        return fuse(self.fusion, frame, disparity, masks, timings_s)

    def prepare(self, config: PipelineConfig) -> FreshBackends:
        """Load beside the frames what `config` needs anew, for `adopt`. Raises what loading raises; then nothing has changed."""
        stereo = self.stereo.prepare(config)
        try:
            return FreshBackends(stereo, self.segmentation.prepare(config))
        except Exception:
            close_all(stereo)
            raise

    def adopt(self, config: PipelineConfig, fresh: FreshBackends) -> None:
        """Take another config between two frames, with what `prepare` made for it. Raises only where a switch is free_first; then
        both stages are as they were.
        """
        try:
            self.stereo.adopt(config, fresh.stereo)
        except Exception:
            close_all(fresh.segmentation)
            raise
        try:
            self.segmentation.adopt(config, fresh.segmentation)
        except Exception:
            self.stereo.reconfigure(self.config)
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


def fuse(fusion: FusionStage, frame: StereoFrame, disparity: Disparity, masks: Segmentation | None, timings_s: dict[str, float]) -> Scene:
    """Measure every mask, then track the objects. Frames with masks come in order of time; timings_s: what earlier steps took.

    masks None: none were made of this frame. Its objects are predicted (ObjectState.PREDICTED) and its ground is the last one.
    Raises ImageError when the masks have another size than the images.
    """
    if masks is None:
        with timed(timings_s, "tracking"):
            predicted: tuple[SceneObject, ...] = fusion.predict(frame)
        return fusion.scene_without_masks(frame, disparity, predicted, timings_s)
    with timed(timings_s, "fusion"):
        measurements: tuple[Measurement, ...] = fusion.measure(disparity, masks)
    with timed(timings_s, "tracking"):
        objects: tuple[SceneObject, ...] = fusion.track(frame, disparity, masks, measurements)
    return fusion.scene(frame, disparity, masks, objects, timings_s)
