"""The algorithm on one screen: a rectified stereo frame in, a Scene out.

stereo(frame) -> Disparity -> segmentation(frame, disparity) -> Segmentation -> measure -> track -> Scene
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager

import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.config import PipelineConfig, from_flat
from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.registry import backend_module
from semantic_stereo_ros.tracking.tracker import Tracker
from semantic_stereo_ros.types import Disparity, Scene, SceneObject, SceneStatus, Segmentation, StereoFrame

logger = logging.getLogger(__name__)

MIN_KNOWN_FRACTION = 0.05


class Pipeline:
    """One stream of frames through all stages. Backends and tracker keep state, so use one Pipeline per camera.

    Loading happens at the first frame, or earlier with `load()`. Raises what the chosen backends raise when they load.
    """

    def __init__(self, config: PipelineConfig | None = None) -> None:
        self.config = config if config is not None else from_flat()
        stereo, segmentation = self.config.stereo, self.config.segmentation
        self._stereo = backend_module("stereo", stereo.backend).Backend(self.config.stereo_backend)
        self._segmenter = backend_module("segmentation", segmentation.backend).Backend(self.config.segmentation_backend)
        self._tracker = Tracker(self.config.tracking)
        self._loaded = False
        self._previous: StereoFrame | None = None

    def load(self) -> None:
        """Load both backends (weights, libraries). A second call does nothing."""
        if not self._loaded:
            self._stereo.load()
            self._segmenter.load()
            self._loaded = True

    def __call__(self, frame: StereoFrame, segmentation: Segmentation | None = None) -> Scene:
        """Process one frame. A given `segmentation` (of the left image's size) replaces the segmentation stage."""
        self.load()
        self._reset_on_break(frame)
        timings: dict[str, float] = {}
        with _timed(timings, "stereo"):
            disparity = self._stereo(frame)
        with _timed(timings, "segmentation"):
            masks: Segmentation = self._segmenter(frame, disparity) if segmentation is None else segmentation
            if masks.labels.shape != frame.shape:
                raise ImageError(f"the masks are {masks.labels.shape} but the images {frame.shape} (rows, columns)")
        with _timed(timings, "fusion"):
            measurements = measure(disparity, masks, self.config.fusion)
        with _timed(timings, "tracking"):
            objects = self._tracker(frame, disparity, masks, measurements)
        status, reason = _status(disparity, masks, objects)
        return Scene(frame, disparity, masks, objects, status, reason, timings)

    def reconfigure(self, config: PipelineConfig) -> None:
        """Take another config between two frames. A stage whose options are the same keeps what it remembers; object ids go on.

        A changed backend is loaded before it replaces the old one, which stays in use when loading raises.
        """
        fresh = {}
        for stage in ("stereo", "segmentation"):
            before = (getattr(self.config, stage).backend, getattr(self.config, f"{stage}_backend"))
            name, options = getattr(config, stage).backend, getattr(config, f"{stage}_backend")
            if (name, options) != before:
                fresh[stage] = backend_module(stage, name).Backend(options)
                if self._loaded:
                    fresh[stage].load()
        if "stereo" in fresh:
            self._stereo.close()
            self._stereo = fresh["stereo"]
        if "segmentation" in fresh:
            self._segmenter.close()
            self._segmenter = fresh["segmentation"]
        self._tracker.reconfigure(config.tracking)
        self.config = config

    def reset(self, reason: str) -> None:
        """Forget the past: filters, ids and whatever the backends remember."""
        logger.info("pipeline reset: %s", reason)
        for stage in (self._stereo, self._segmenter, self._tracker):
            stage.reset(reason)
        self._previous = None

    def close(self) -> None:
        """Free the backends. The pipeline is not used again."""
        self._stereo.close()
        self._segmenter.close()

    def _reset_on_break(self, frame: StereoFrame) -> None:
        previous, self._previous = self._previous, frame
        if previous is None:
            return
        step_ns = frame.stamp_ns - previous.stamp_ns
        if frame.rig != previous.rig:
            self.reset(f"the calibration changed from {previous.rig} to {frame.rig}")
        elif step_ns < 0 or step_ns > self.config.tracking.max_gap_s * 1e9:
            self.reset(f"the stamp moved by {step_ns / 1e9:+.3f} s from one frame to the next")
        self._previous = frame


def _status(disparity: Disparity, masks: Segmentation, objects: tuple[SceneObject, ...]) -> tuple[SceneStatus, str]:
    """'No objects' is an answer only if the view could be measured and nothing at all was segmented in it."""
    known = float(np.count_nonzero(disparity.valid)) / disparity.disparity_px.size
    if known < MIN_KNOWN_FRACTION:
        return (
            SceneStatus.CANNOT_TELL,
            f"only {known:.1%} of the pixels have a known disparity; check focus, light, rectification and the disparity range",
        )
    if not objects and masks.object_instances:
        return SceneStatus.OK, f"{len(masks.object_instances)} objects are seen for the first time and not confirmed yet"
    return (SceneStatus.OK, "") if objects else (SceneStatus.NO_OBJECTS, "")


@contextmanager
def _timed(timings: dict[str, float], name: str):
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start
