"""How prompts reach a node: services set_prompts and clear_prompts, topic `prompts`, and vision_msgs' detections where installed."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from std_msgs.msg import Header

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.geometry.box_projection import prompts_in_image
from semantic_stereo_ros.msg import PromptArray
from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.health.windows import SPAN_S
from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns
from semantic_stereo_ros.nodes.messages.prompt_messages import (
    PromptView,
    ToCamera,
    by_kind,
    detection_id,
    detections_3d_to_prompts,
    detections_to_prompts,
    to_prompts,
)
from semantic_stereo_ros.nodes.runtime.lifecycle_shell import LifecycleShell
from semantic_stereo_ros.nodes.runtime.transforms import FrameTransforms
from semantic_stereo_ros.prompts import Prompt, PromptError, PromptSet, check_takes_prompts
from semantic_stereo_ros.srv import ClearPrompts, SetPrompts
from semantic_stereo_ros.stages import SegmentationStage

DETECTION_TOPICS = {"prompt_detections": "Detection2DArray", "prompt_detections_3d": "Detection3DArray"}


class PromptInputs:
    """Made once by a node that segments. stage: its segmentation stage, None while unconfigured; view: its newest segmented frame;
    max_age_s: how far the stamp of prompts may lie from that frame's; say: takes a sentence for the log.

    Everything runs in the node's slow group: a transform may be waited for. Refusals go to the caller of a service, those of a topic
    to the log and, for a few seconds, to /diagnostics.
    """

    def __init__(
        self,
        node: LifecycleShell,
        stage: Callable[[], SegmentationStage | None],
        view: Callable[[], PromptView | None],
        max_age_s: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._node = node
        self._stage = stage
        self._view = view
        self._max_age_s = max_age_s
        self._say = say
        self._transforms = FrameTransforms(node)
        self._lock = threading.Lock()
        self._issued = 0
        self._refused_s = float("-inf")
        self._refusal = ""
        group = node.slow_group
        node.create_service(SetPrompts, "set_prompts", self._set, callback_group=group)
        node.create_service(ClearPrompts, "clear_prompts", self._clear, callback_group=group)
        node.create_subscription(PromptArray, "prompts", self._on_array, 1, callback_group=group)
        self._listen_to_detections()

    def _listen_to_detections(self) -> None:
        try:
            messages = importlib.import_module("vision_msgs.msg")
        except ImportError:
            topics = " and ".join(DETECTION_TOPICS)
            self._node.get_logger().info(f"vision_msgs is not installed: no topics {topics}; `prompts` takes boxes, too")
            return
        for (topic, kind), callback in zip(DETECTION_TOPICS.items(), (self._on_detections, self._on_detections_3d)):
            self._node.create_subscription(getattr(messages, kind), topic, callback, 1, callback_group=self._node.slow_group)

    def review(self, health: StreamHealth, now_s: float) -> None:
        """To be called about once a second: tell health what is in force and what was refused."""
        stage = self._stage()
        health.prompts = "" if stage is None else _sentence(stage.prompts)
        health.prompts_refused = self._refusal if now_s - self._refused_s < SPAN_S else ""

    # Services ---------------------------------------------------------------------------------------------------------------

    def _set(self, request: SetPrompts.Request, response: SetPrompts.Response) -> SetPrompts.Response:
        try:
            with self._lock:
                stage, array = self._ready(), request.prompts
                before = stage.prompts if request.add else PromptSet()
                stamp_ns = self._moment(array.header)
                taken = {*before.object_ids, *(prompt.object_id for prompt in array.prompts)}
                added = to_prompts(array.prompts, self._view(), self._to_camera(array.header), self._issuer(taken))
                stage.set_prompts(before.added(added, stamp_ns))
        except SemanticStereoError as error:
            response.message = str(error)
            return response
        response.success, response.message = True, f"in force from the next frame on: {_sentence(stage.prompts)}"
        response.object_ids = [prompt.object_id for prompt in added]
        return response

    def _clear(self, request: ClearPrompts.Request, response: ClearPrompts.Response) -> ClearPrompts.Response:
        try:
            with self._lock:
                stage = self._ready()
                left = stage.prompts.without(request.object_ids) if len(request.object_ids) else PromptSet()
                stage.set_prompts(left)
        except SemanticStereoError as error:
            response.message = str(error)
            return response
        response.success, response.message = True, f"in force from the next frame on: {_sentence(left)}"
        response.object_ids = list(left.object_ids)
        return response

    # Topics -----------------------------------------------------------------------------------------------------------------

    def _on_array(self, message: PromptArray) -> None:
        next_id = self._issuer({prompt.object_id for prompt in message.prompts})
        self._replace(message.header, lambda to_camera: to_prompts(message.prompts, self._view(), to_camera, next_id))

    def _on_detections(self, message: Any) -> None:
        next_id = self._issuer(map(detection_id, message.detections))
        self._replace(message.header, lambda _: detections_to_prompts(message.detections, next_id))

    def _on_detections_3d(self, message: Any) -> None:
        next_id = self._issuer(map(detection_id, message.detections))
        self._replace(message.header, lambda to_camera: detections_3d_to_prompts(message.detections, to_camera, next_id))

    def _replace(self, header: Header, make: Callable[[ToCamera], tuple[Prompt, ...]]) -> None:
        """What a topic brings replaces all prompts: a detector repeats what it still sees."""
        if not self._node.active:
            return
        try:
            with self._lock:
                stage, stamp_ns = self._ready(), self._moment(header)
                prompts, view = make(self._to_camera(header)), self._view()
                fresh = PromptSet(prompts, stamp_ns)
                if view is not None:
                    fresh = prompts_in_image(fresh, view.rig.left_camera)
                stage.set_prompts(fresh)
        except SemanticStereoError as error:
            self._refusal, self._refused_s = str(error), time.monotonic()
            self._say(f"prompts were not taken: {error}")

    # What a request refers to -----------------------------------------------------------------------------------------------

    def _ready(self) -> SegmentationStage:
        stage = self._stage()
        if stage is None:
            raise PromptError(f"the node is {self._node.lifecycle_state} and has no segmentation backend: configure and activate it first")
        check_takes_prompts(stage.backend_name)
        return stage

    def _moment(self, header: Header) -> int:
        """The stamp of the prompts, ns; 0 = the newest frame. Raises PromptError for a frame that is long gone or not there yet."""
        stamp_ns, view = stamp_to_ns(header.stamp), self._view()
        most_s = self._max_age_s()
        if stamp_ns and view is not None and abs(stamp_ns - view.stamp_ns) > most_s * 1e9:
            raise PromptError(
                f"the prompts are for the frame of {stamp_ns / 1e9:.3f} s but the newest one is of {view.stamp_ns / 1e9:.3f} s, more than "
                f"input.prompt_max_age_s = {most_s:g} apart: send them sooner, or with the stamp 0 for the newest frame"
            )
        return stamp_ns

    def _to_camera(self, header: Header) -> ToCamera:
        view, source = self._view(), header.frame_id
        if not source:
            return lambda pose: pose
        if view is None:

            def unknown(_pose: Any) -> Any:
                raise PromptError(f"a box in frame {source!r} needs an image whose frame is known, and none was segmented yet")

            return unknown
        return lambda pose: self._transforms.into(pose, source, view.frame_id, stamp_to_ns(header.stamp))

    def _issuer(self, taken: Iterable[int]) -> Callable[[], int]:
        """Gives ids that were never given out and are not among `taken`."""
        used = set(taken)

        def next_id() -> int:
            self._issued += 1
            while self._issued in used:
                self._issued += 1
            return self._issued

        return next_id


def _sentence(prompts: PromptSet) -> str:
    if not prompts.prompts:
        return "no prompts"
    kinds = ", ".join(f"{count} x {kind}" for kind, count in by_kind(prompts.prompts).items())
    return f"{len(prompts.object_ids)} objects ({kinds})"
