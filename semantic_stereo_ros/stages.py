"""The three stages, each to be run in the Pipeline or apart: StereoStage, SegmentationStage, FusionStage (measure, track).

Each is loaded, called frame by frame, given another config between two frames, reset when the stream breaks, and closed.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import Any

import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.prompts import PromptError, PromptSet, check_takes_prompts
from semantic_stereo_ros.registry import STAGES_WITH_BACKENDS, backend_module
from semantic_stereo_ros.stream import Continuity, RateLimit
from semantic_stereo_ros.tracking.tracker import Tracker
from semantic_stereo_ros.types import Disparity, LabelLayer, Scene, SceneObject, SceneStatus, Segmentation, StereoFrame, StereoRig

logger = logging.getLogger(__name__)


class BackendStage:
    """A stage that one of several backends does: loaded once, exchanged when its options change, reset when the stream breaks.

    Everything is called between two frames, except `prepare`, which may run in another thread beside them.
    """

    name: str

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self._backend = self._make(config)
        self._loaded = False
        self._continuity = Continuity()

    @property
    def backend_name(self) -> str:
        """The backend in use."""
        return getattr(self.config, self.name).backend

    def load(self) -> None:
        """Load the backend (weights, libraries). A second call does nothing. Raises what the backend raises."""
        if not self._loaded:
            self._backend.load()
            self._loaded = True

    def prepare(self, config: PipelineConfig) -> Any:
        """The backend that `config` asks for, for `adopt`; None when the present one is right. Loaded, unless it is free_first.

        Raises what the backend raises; the present one stays.
        """
        if _choice(self.name, config) == _choice(self.name, self.config):
            return None
        fresh = self._make(config)
        if self._loaded and not self._frees_first(config):
            _load_or_close(fresh)
        return fresh

    def adopt(self, config: PipelineConfig, fresh: Any) -> None:
        """Take another config, with the backend that `prepare` made for it. With free_first the old backend is closed, then the
        new one loaded; when that raises, the old one is loaded again.
        """
        if fresh is not None:
            self._backend.close()
            if self._loaded and self._frees_first(config):
                self._load_freed(fresh)
            self._backend = fresh
        self.config = config

    def _load_freed(self, fresh: Any) -> None:
        try:
            _load_or_close(fresh)
        except Exception:
            self._backend, self._loaded = self._make(self.config), False
            self.load()
            raise

    def reconfigure(self, config: PipelineConfig) -> None:
        """Take another config; the old backend stays when loading a new one raises."""
        self.adopt(config, self.prepare(config))

    def reset(self, reason: str) -> None:
        """Forget earlier frames."""
        self._forget(reason)
        self._continuity.forget()

    def notes(self) -> tuple[str, ...]:
        """What the backend does otherwise than asked (for want of memory, say), one sentence each. Backends may have `notes()`."""
        notes = getattr(self._backend, "notes", None)
        return () if notes is None else notes()

    def close(self) -> None:
        """Free the backend. The stage is not used again."""
        self._backend.close()

    def _begin(self, frame: StereoFrame) -> None:
        self.load()
        reason = self._continuity.break_before(frame, self.config.tracking.max_gap_s)
        if reason:
            self._forget(reason)

    def _forget(self, reason: str) -> None:
        if self._backend.stateful:
            logger.info("%s reset: %s", self.name, reason)
        self._backend.reset(reason)

    def _frees_first(self, config: PipelineConfig) -> bool:
        return getattr(config, self.name).switch == "free_first"

    def _make(self, config: PipelineConfig) -> Any:
        return _make_backend(self.name, config)


class StereoStage(BackendStage):
    """frame -> Disparity."""

    name = "stereo"

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair. Raises what the backend raises for a frame it cannot match."""
        self._begin(frame)
        return self._backend(frame)


class SegmentationStage(BackendStage):
    """frame, disparity -> Segmentation. prompts: those in force; they go on with another backend that takes some, and end with a stream."""

    name = "segmentation"

    def __init__(self, config: PipelineConfig) -> None:
        super().__init__(config)
        self.prompts = self._told = PromptSet()
        self._frames = 0
        self._limit = RateLimit()

    def set_prompts(self, prompts: PromptSet) -> None:
        """All prompts in force from the next frame on; may be called beside a frame. Raises PromptError where the backend takes none."""
        check_takes_prompts(self.backend_name)
        self.prompts = prompts

    @property
    def needs_disparity(self) -> bool:
        """The backend cannot do without a disparity."""
        return self._backend.needs_disparity

    def __call__(self, frame: StereoFrame, disparity: Disparity | None) -> Segmentation | None:
        """Masks of one frame; None where every_n or max_rate_hz leave it out. disparity may be None unless `needs_disparity`."""
        self._begin(frame)
        if not self._due(frame.stamp_ns):
            return None
        prompts = self.prompts
        if prompts is not self._told:
            self._tell(prompts, frame.rig)
        return self._backend(frame, disparity)

    def _due(self, stamp_ns: int) -> bool:
        options = self.config.segmentation
        number, self._frames = self._frames, self._frames + 1
        return number % options.every_n == 0 and self._limit.lets_pass(stamp_ns, options.max_rate_hz)

    def _tell(self, prompts: PromptSet, rig: StereoRig) -> None:
        try:
            fitting = prompts.in_image(rig)
        except PromptError:
            self.prompts = self._told
            raise
        self._backend.set_prompts(fitting)
        self._told = prompts

    def adopt(self, config: PipelineConfig, fresh: Any) -> None:
        """As every stage; the prompts are told to a new backend, or dropped when it takes none."""
        super().adopt(config, fresh)
        if fresh is not None:
            self._told = PromptSet()
            if not self._backend.accepts_prompts or not self.prompts.prompts:
                self.prompts = self._told

    def _forget(self, reason: str) -> None:
        """Prompts belong to the images they were seen in; those that no frame has met yet are for the stream that begins."""
        if self.prompts is self._told:
            self.prompts = self._told = PromptSet()
        self._frames, self._limit = 0, RateLimit()
        super()._forget(reason)


class FusionStage:
    """frame, disparity, masks -> Scene: measures every mask, then tracks the objects."""

    name = "fusion"

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self._tracker = Tracker(config.tracking)
        self._last: tuple[Segmentation, SceneStatus, str] | None = None

    def load(self) -> None:
        """Nothing to load."""

    def __call__(
        self, frame: StereoFrame, disparity: Disparity, masks: Segmentation | None, timings_s: dict[str, float] | None = None
    ) -> Scene:
        """The Scene of one frame; those with masks come in order of time. timings_s: what earlier stages took, goes into the Scene.

        masks None: none were made of this frame. Its objects are predicted (ObjectState.PREDICTED) and its ground is the last one.
        Raises ImageError when the masks have another size than the images.
        """
        if masks is None:
            return self._between_masks(frame, disparity, dict(timings_s or {}))
        if masks.labels.shape != frame.shape:
            raise ImageError(f"the masks are {masks.labels.shape} but the images {frame.shape} (rows, columns)")
        timings_s = dict(timings_s or {})
        with timed(timings_s, "fusion"):
            measurements = measure(disparity, masks, self.config.fusion)
        with timed(timings_s, "tracking"):
            objects = self._tracker(frame, disparity, masks, measurements)
        status, reason = _status(disparity, masks, objects)
        self._last = masks, status, reason
        return Scene(frame, disparity, masks, objects, status, reason, timings_s)

    def _between_masks(self, frame: StereoFrame, disparity: Disparity, timings_s: dict[str, float]) -> Scene:
        """What the filters expect, over what is measured now. Without objects the last masks' answer holds, if they have one."""
        with timed(timings_s, "tracking"):
            objects = self._tracker.predict(frame)
        ground = self._last[0].ground if self._last is not None else None
        masks = Segmentation((LabelLayer(np.zeros(frame.shape, np.uint16)),), (), ground)
        status, reason = _status(disparity, masks, objects)
        if status == SceneStatus.NO_OBJECTS:
            if self._last is None:
                status, reason = SceneStatus.CANNOT_TELL, "no masks have been made of this stream yet"
            else:
                status, reason = self._last[1:]
        return Scene(frame, disparity, masks, objects, status, reason, timings_s)

    def prepare(self, config: PipelineConfig) -> None:
        """Nothing is loaded."""

    def adopt(self, config: PipelineConfig, fresh: None = None) -> None:
        """Take other options; objects and their ids stay."""
        self._tracker.reconfigure(config.tracking)
        self.config = config

    reconfigure = adopt

    def reset(self, reason: str) -> None:
        """Forget every object; ids begin at 1 again."""
        self._last = None
        self._tracker.reset(reason)

    def notes(self) -> tuple[str, ...]:
        """Nothing is ever done otherwise than asked."""
        return ()

    def close(self) -> None:
        """Nothing to free."""


def check_backends(config: PipelineConfig, before: PipelineConfig | None = None) -> None:
    """Raise what can be told without loading of the backends that `config` chooses, where `before` chooses others.

    ConfigError for options that do not fit each other; MissingDependencyError and InputFileError for what is not there.
    """
    for stage in STAGES_WITH_BACKENDS:
        if before is None or _choice(stage, config) != _choice(stage, before):
            _make_backend(stage, config).check()


def _choice(stage: str, config: PipelineConfig) -> tuple[str, Any]:
    return getattr(config, stage).backend, getattr(config, f"{stage}_backend")


def _make_backend(stage: str, config: PipelineConfig) -> Any:
    backend, options = _choice(stage, config)
    return backend_module(stage, backend).Backend(options)


def _load_or_close(backend: Any) -> None:
    try:
        backend.load()
    except Exception:
        backend.close()
        raise


def close_all(fresh: dict[str, Any]) -> None:
    """Close the backends that `prepare` made and nobody adopted."""
    for backend in fresh.values():
        if backend is not None:
            backend.close()


def _status(disparity: Disparity, masks: Segmentation, objects: tuple[SceneObject, ...]) -> tuple[SceneStatus, str]:
    """'No objects' is an answer only if the view could be measured and nothing at all was segmented in it."""
    if not disparity.can_tell():
        share = f"only {disparity.known_fraction:.1%} of the pixels have a known disparity"
        return SceneStatus.CANNOT_TELL, f"{share}; check focus, light, rectification and the disparity range"
    if not objects and masks.object_instances:
        return SceneStatus.OK, f"{len(masks.object_instances)} objects are seen for the first time and not confirmed yet"
    return (SceneStatus.OK, "") if objects else (SceneStatus.NO_OBJECTS, "")


@contextmanager
def timed(timings_s: dict[str, float], name: str):
    """Note the wall seconds of what is done inside."""
    start = time.perf_counter()
    yield
    timings_s[name] = time.perf_counter() - start
