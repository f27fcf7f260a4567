"""The three stages, each to be run in the Pipeline or apart: StereoStage, SegmentationStage, FusionStage (measure, track).

Each is loaded, called frame by frame, given another config between two frames, reset when the stream breaks, and closed.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import numpy as np

from semantic_stereo_ros.backend_stage import BackendStage
from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.fusion.free_space import hidden_space
from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.geometry.box_projection import prompts_in_image
from semantic_stereo_ros.geometry.epipolar import GOOD_ROW_ERROR_PX
from semantic_stereo_ros.geometry.row_watch import RowErrorTrend
from semantic_stereo_ros.prompts import PromptError, PromptSet, check_takes_prompts
from semantic_stereo_ros.segmentation.base import PromptableBackend, SegmentationBackend
from semantic_stereo_ros.stereo.base import StereoBackend
from semantic_stereo_ros.stream import Continuity, RateLimit
from semantic_stereo_ros.tracking.tracker import Tracker
from semantic_stereo_ros.types import (
    CLASS_STRUCTURE,
    Disparity,
    HiddenSpace,
    LabelLayer,
    Measurement,
    Scene,
    SceneObject,
    SceneStatus,
    Segmentation,
    StereoFrame,
    StereoRig,
)

logger = logging.getLogger(__name__)


class StereoStage(BackendStage[StereoBackend]):
    """frame -> Disparity."""

    name = "stereo"

    def __init__(self, config: PipelineConfig) -> None:
        super().__init__(config)
        self._row_error = RowErrorTrend()

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair, and tell how well its rows are aligned. Raises what the backend raises for a frame it cannot match."""
        self._begin(frame)
        disparity = self._backend(frame)
        return replace(disparity, row_error_px=self._row_error(frame, disparity))

    def _forget(self, reason: str) -> None:
        super()._forget(reason)
        self._row_error = RowErrorTrend()


class SegmentationStage(BackendStage[SegmentationBackend]):
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
            fitting = prompts_in_image(prompts, rig.left_camera)
        except PromptError:
            self.prompts = self._told
            raise
        cast(PromptableBackend, self._backend).set_prompts(fitting)  # `set_prompts` above refuses where it is none
        self._told = prompts

    def adopt(self, config: PipelineConfig, fresh: SegmentationBackend | None) -> None:
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
    """disparity, masks -> measurements -> objects -> Scene. `measure`, `track` and `scene` follow each other in `pipeline.fuse`."""

    name = "fusion"

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self._tracker = Tracker(config.tracking)
        self._continuity = Continuity()
        self._last: tuple[Segmentation, SceneStatus, str] | None = None

    def load(self) -> None:
        """Import what the second frame would else wait for."""
        from scipy.optimize import linear_sum_assignment  # noqa: F401
        from scipy.spatial.transform import Rotation  # noqa: F401  (and no worker thread imports it beside its first frame)

    def measure(self, disparity: Disparity, masks: Segmentation) -> tuple[Measurement, ...]:
        """The distance of every mask with its uncertainty. Raises ImageError when the masks have another size than the disparity."""
        if masks.labels.shape != disparity.rig.shape:
            raise ImageError(f"the masks are {masks.labels.shape} but the images {disparity.rig.shape} (rows, columns)")
        return measure(disparity, masks, self.config.fusion)

    def track(
        self, frame: StereoFrame, disparity: Disparity, masks: Segmentation, measurements: tuple[Measurement, ...]
    ) -> tuple[SceneObject, ...]:
        """Measurements joined to the objects of earlier frames, which are forgotten where the stream of frames with masks breaks."""
        reason = self._continuity.advance(frame, self.config.tracking.max_gap_s)
        if reason:
            self._tracker.reset(reason)
        return self._tracker(frame, disparity, masks, measurements)

    def predict(self, frame: StereoFrame) -> tuple[SceneObject, ...]:
        """The objects where they should be in a frame without masks; none in one that the last masks do not lead to."""
        if self._continuity.break_before(frame, self.config.tracking.max_gap_s):
            return ()
        return self._tracker.predict(frame)

    def scene(
        self,
        frame: StereoFrame,
        disparity: Disparity,
        masks: Segmentation,
        objects: tuple[SceneObject, ...],
        timings_s: dict[str, float],
    ) -> Scene:
        """All of one frame, and what it says: objects, none, or that it cannot tell."""
        hidden = self._hidden(disparity, masks)
        status, reason = _status(disparity, masks, objects, hidden)
        self._last = masks, status, reason
        return Scene(frame, disparity, masks, objects, status, reason, timings_s, hidden)

    def scene_without_masks(
        self, frame: StereoFrame, disparity: Disparity, objects: tuple[SceneObject, ...], timings_s: dict[str, float]
    ) -> Scene:
        """What the filters expect, over what is measured now. Without objects the last masks' answer holds, if they have one."""
        ground = self._last[0].ground if self._last is not None else None
        masks = Segmentation((LabelLayer(np.zeros(frame.shape, np.uint16)),), (), ground)
        hidden = self._hidden(disparity, masks)
        status, reason = _status(disparity, masks, objects, hidden)
        if status == SceneStatus.NO_OBJECTS:
            if self._last is None:
                status, reason = SceneStatus.CANNOT_TELL, "no masks have been made of this stream yet"
            else:
                status, reason = self._last[1:]
        return Scene(frame, disparity, masks, objects, status, reason, timings_s, hidden)

    def _hidden(self, disparity: Disparity, masks: Segmentation) -> HiddenSpace | None:
        options = self.config.fusion
        return hidden_space(disparity, masks.ground, options.hidden_size_m, options.hidden_range_m)

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
        self._continuity.forget()
        self._tracker.reset(reason)

    def notes(self) -> tuple[str, ...]:
        """Nothing is ever done otherwise than asked."""
        return ()

    def close(self) -> None:
        """Nothing to free."""


def _status(
    disparity: Disparity, masks: Segmentation, objects: tuple[SceneObject, ...], hidden: HiddenSpace | None
) -> tuple[SceneStatus, str]:
    """'No objects' is an answer only if the view could be measured, nothing at all was segmented in it and nothing could hide in it: not
    behind an unknown region, and not because the rows that were compared do not belong together."""
    if not disparity.can_tell():
        share = f"only {disparity.known_fraction:.1%} of the pixels have a known disparity"
        return SceneStatus.CANNOT_TELL, f"{share}; check focus, light, rectification and the disparity range"
    unknown, large, rows = "" if hidden is None else str(hidden), _structures(disparity, masks), _rows(disparity)
    beside = [text for text in (large, unknown, rows) if text]
    if objects:
        return SceneStatus.OK, "; ".join(beside)
    if masks.object_instances:
        unconfirmed = f"{len(masks.object_instances)} objects are seen for the first time and not confirmed yet"
        return SceneStatus.OK, "; ".join((unconfirmed, *beside))
    if unknown:
        none = f"no object is seen, but {'; '.join(beside)}; check exposure, texture, focus and the disparity range"
        return SceneStatus.CANNOT_TELL, none
    if rows:
        return SceneStatus.CANNOT_TELL, f"no object is seen, but {'; '.join(beside)}"
    return (SceneStatus.OK, f"no object is seen, but {large}") if large else (SceneStatus.NO_OBJECTS, "")


def _structures(disparity: Disparity, masks: Segmentation) -> str:
    """What stands in view and is too large for an object, with the depth of its nearest part (5th percentile)."""
    if masks.structures is None:
        return ""
    shifted = disparity.disparity_px[masks.structures > 0] + disparity.rig.doffs_px
    known = shifted[shifted > 0]
    if not known.size:
        return ""
    number = sum(item.class_id == CLASS_STRUCTURE for item in masks.instances)
    what = "1 structure too large for an object stands" if number == 1 else f"{number} structures too large for an object stand"
    return f"{what} from {disparity.rig.bf / np.percentile(known, 95):.1f} m on"


def _rows(disparity: Disparity) -> str:
    """What is to be said of the pair's rows: nothing while they are well aligned or unknown."""
    error_px = disparity.row_error_px
    if error_px is None or error_px <= GOOD_ROW_ERROR_PX:
        return ""
    return f"the rows of the pair are {error_px:.1f} px apart, so that matches are missing or wrong: calibrate the cameras again"


@contextmanager
def timed(timings_s: dict[str, float], name: str):
    """Note the wall seconds of what is done inside."""
    start = time.perf_counter()
    yield
    timings_s[name] = time.perf_counter() - start
