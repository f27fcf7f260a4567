"""Everything that a stereo stage listens to: both images, or the left one and what the camera measured itself; camera_infos; poses.

The executor receives and pairs; `frame` decodes, rectifies and checks on the thread that calls it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import CalibrationError, ConfigError, ImageError
from semantic_stereo_ros.io.images import alike
from semantic_stereo_ros.nodes.health.stream_health import InputHealth, JoinHealth
from semantic_stereo_ros.nodes.inputs.camera_infos import CameraInfoCache
from semantic_stereo_ros.nodes.inputs.image_input import ImageInput
from semantic_stereo_ros.nodes.inputs.poses import PoseBuffer, StampBuffer
from semantic_stereo_ros.nodes.inputs.synchroniser import Pair, PairSynchroniser, SkewTrend
from semantic_stereo_ros.nodes.messages.conversions import image_to_array, stamp_to_ns
from semantic_stereo_ros.nodes.messages.measured_messages import confidence_to_array, depth_to_array, disparity_to_array
from semantic_stereo_ros.nodes.runtime.node_options import InputConfig
from semantic_stereo_ros.nodes.runtime.qos import SUBSCRIPTION_OVERRIDES, own
from semantic_stereo_ros.types import Measured, StereoFrame, StereoRig

JUMPED = "the stamps jumped back: a bag that looped, a simulator that was reset or a clock that was set; starting again"
_SAME_FOCAL = 5e-3


def check_inputs(config: InputConfig, stereo_backend: str) -> None:
    """Raise ConfigError when the inputs and the stereo backend do not go together."""
    if (config.external == "none") == (stereo_backend == "external"):
        raise ConfigError(
            f"stereo.backend = {stereo_backend} and input.external = {config.external} do not go together: the backend external needs "
            "input.external depth or disparity, every other one the right image (input.external none)"
        )
    if config.external != "none" and config.rectify:
        raise ConfigError("input.rectify cannot be used with input.external: incoming depth or disparity belongs to rectified images")
    if config.external == "none" and config.confidence != "none":
        raise ConfigError("input.confidence needs input.external depth or disparity: it is the confidence of what comes in there")


def check_not_own(node: Node, config: InputConfig, outputs: Iterable[str]) -> None:
    """Raise ConfigError when a remapping makes the node hear one of its own outputs (relative topics)."""
    own = {node.resolve_topic_name(topic) for topic in outputs}
    for topic, ending in (*_image_topics(config).values(), *((topic, "") for topic in _info_topics(config).values())):
        heard = node.resolve_topic_name(topic) + ending
        if heard in own:
            raise ConfigError(
                f"the input {topic}{ending} is {heard}, which this node publishes itself: remap the input to the camera's topic, or the "
                "node's output to another name"
            )


def _image_topics(config: InputConfig) -> dict[str, tuple[str, str]]:
    """By input, its relative topic and the ending of its transport; the left image first, then what is paired with it."""
    image = "image_raw" if config.rectify else "image_rect"
    ending = "/compressed" if config.transport == "compressed" else ""
    topics = {"left": (f"left/{image}", ending)}
    if config.external == "none":
        topics["right"] = (f"right/{image}", ending)
    elif config.external == "disparity":
        topics["disparity"] = ("disparity_in", "")
    else:
        topics["depth"] = ("depth_in/image_rect", "/compressedDepth" if config.depth_transport == "compressed" else "")
    if config.confidence != "none":
        topics["confidence"] = ("confidence_in", "")
    return topics


def _info_topics(config: InputConfig) -> dict[str, str]:
    """By input, the relative topic of its camera_info; a disparity brings its own f and T."""
    topics = {"left": "left/camera_info"}
    if config.external == "none":
        topics["right"] = "right/camera_info"
    elif config.external == "depth":
        topics["depth"] = "depth_in/camera_info"
    return topics


_KINDS = {"/compressed": CompressedImage, "/compressedDepth": CompressedImage, "": Image}


class StereoInput:
    """Subscribes at construction, until `close`. inputs and join are what /diagnostics tells of it; `review` once a second keeps them.

    on_pair: called on the executor with each Pair of messages as soon as the needed camera_infos are there; `frame(pair)` is the
    StereoFrame that it means. say: takes a sentence for the log; the same one may come often.
    """

    def __init__(self, node: Node, config: InputConfig, on_pair: Callable[[Pair], None], say: Callable[[str], None]) -> None:
        self._node = node
        self._config = config
        self._on_pair = on_pair
        self._say = say
        self._synchroniser = PairSynchroniser(_tolerance_ns(config))
        self._trend = SkewTrend()
        self._waiting: Pair | None = None
        self._poses = PoseBuffer()
        self._confidences: StampBuffer[Image] = StampBuffer()
        self._unstamped: set[str] = set()
        self.infos = CameraInfoCache(config.rectify, ("left", "right") if config.external == "none" else ("left",))
        self.inputs: dict[str, InputHealth] = {}
        self.join = JoinHealth(tolerance_ms=config.sync_tolerance_ms)
        self._images: dict[str, ImageInput] = {}
        self._others: list[Any] = []
        self._subscribe()

    # Subscriptions ----------------------------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        callbacks = {"left": partial(self._on_image, "left"), "confidence": self._on_confidence}
        second = partial(self._on_image, "right")
        for name, (topic, ending) in _image_topics(self._config).items():
            kind = DisparityImage if name == "disparity" else _KINDS[ending]
            self._listen(name, topic, kind, callbacks.get(name, second), ending)
        for name, topic in _info_topics(self._config).items():
            self._listen_info(name, topic)
        if self._config.use_pose:
            self._subscribe_to(Odometry, "pose", self._on_pose)

    def _listen(self, name: str, topic: str, kind: type, callback: Callable[[Any], None], ending: str) -> None:
        """ending: of the transport; as with image_transport, a remapped `topic` takes its transports along."""
        topic = self._node.resolve_topic_name(topic) + ending if ending else topic
        self._images[name] = ImageInput(self._node, topic, callback, self._config.reliability, kind=kind)
        noun = {"disparity": "disparity", "depth": "depth image", "confidence": "confidence image"}.get(name, "image")
        self.inputs[name] = InputHealth(self._images[name].topic, noun)

    def _listen_info(self, name: str, topic: str) -> None:
        callback = partial(self._on_info, name)
        self._subscribe_to(CameraInfo, topic, callback)
        if name in self.infos.missing():  # the others are welcome, not needed
            self.inputs[f"{name} camera_info"] = InputHealth(self._node.resolve_topic_name(topic), "camera_info", once=True)

    def _subscribe_to(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        subscription = self._node.create_subscription(kind, topic, callback, own(), qos_overriding_options=SUBSCRIPTION_OVERRIDES)
        self._others.append(subscription)

    def close(self) -> None:
        """Receive nothing any more."""
        for image in self._images.values():
            image.close()
        for subscription in self._others:
            self._node.destroy_subscription(subscription)
        self._images, self._others = {}, []

    def configure(self, config: InputConfig) -> None:
        """Take what may change while it runs: the tolerance."""
        self._config = config
        self._synchroniser.tolerance_ns = _tolerance_ns(config)
        self.join.tolerance_ms = config.sync_tolerance_ms

    def review(self) -> None:
        """To be called about once a second: publishers, reliability, counts and trends."""
        for name, image in self._images.items():
            health = self.inputs[name]
            health.publishers, health.unheard, health.reliable = image.review(), image.mismatch, image.reliable
        for health in self.inputs.values():
            if health.once:
                health.publishers = self._node.count_publishers(health.topic)
        counts, now_s = self._synchroniser.counts, time.monotonic()
        self.join.totals = vars(counts)
        self.join.lone.update(now_s, counts.unpaired_left + counts.unpaired_right)
        self.join.jumps.update(now_s, counts.jumps)
        self.join.why = "; ".join(self._unstamped) or self._trend.sentence(self._synchroniser.tolerance_ns)

    # What the executor does -------------------------------------------------------------------------------------------------

    def _on_image(self, side: str, message: Any) -> None:
        stamp_ns, now_s = stamp_to_ns(message.header.stamp), time.monotonic()
        health = self.inputs["left"] if side == "left" else self.inputs[_second(self._config)]
        health.arrived(now_s, stamp_ns)
        unstamped = (
            f"{health.topic} brings the stamp 0, so that nothing can be paired with it: let its driver stamp what it sends, {_SIMULATED}"
        )
        if stamp_ns == 0:
            self._unstamped.add(unstamped)
            self._say(unstamped)
            return
        self._unstamped.discard(unstamped)
        jumps = self._synchroniser.counts.jumps
        pair = self._synchroniser.add(side, stamp_ns, message)
        if self._synchroniser.counts.jumps > jumps:
            self._say(JUMPED)
        if pair is None:
            return
        self._trend.add(pair)
        self.join.joined.add(now_s)
        self.join.skew_s.add(now_s, abs(pair.skew_ns) / 1e9)
        self._waiting = pair
        self._hand_over()

    def _hand_over(self) -> None:
        """Images may overtake the infos that were sent before them: the newest pair waits until those are there."""
        if self._waiting is not None and not self.infos.missing():
            pair, self._waiting = self._waiting, None
            self._on_pair(pair)

    def _on_info(self, name: str, message: CameraInfo) -> None:
        health = self.inputs.get(f"{name} camera_info")
        if health is not None:
            health.arrived(time.monotonic(), stamp_to_ns(message.header.stamp))
        if self.infos.update(name, message):
            if health is not None:
                health.changes.add(time.monotonic())
            self._say(f"the {name} camera_info changed")
        self._hand_over()

    def _on_confidence(self, message: Image) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        self.inputs["confidence"].arrived(time.monotonic(), stamp_ns)
        self._confidences.add(stamp_ns, message)

    def _on_pose(self, message: Odometry) -> None:
        try:
            self._poses.add_message(message)
        except CalibrationError as error:
            self._say(str(error))

    # What the worker's thread does ------------------------------------------------------------------------------------------

    def frame(self, pair: Pair) -> StereoFrame:
        """Decode, check and, where asked for, rectify one pair; of a grey and a colour image both become grey.

        Raises ImageError or CalibrationError that says what is wrong with it.
        """
        config, left = self._config, image_to_array(pair.left)
        pose = self._poses.at(pair.stamp_ns) if config.use_pose else None
        if config.external == "none":
            right = image_to_array(pair.right)
            if left.ndim != right.ndim:
                left, right = alike(left, right)
            left, right, rig = self.infos.rectified(left, right)
            return StereoFrame(left, right, rig, pair.stamp_ns, pose)
        self._compare_frames(pair.left.header.frame_id, pair.right.header.frame_id)
        confidence = self._confidence(pair) if config.confidence != "none" else None
        if config.external == "depth":
            rig, measured = (
                self.infos.rig_of_left(config.depth_baseline_m),
                Measured(depth_m=depth_to_array(pair.right), confidence=confidence),
            )
        else:
            rig = self._rig_of_disparity(pair.right)
            measured = Measured(disparity_px=disparity_to_array(pair.right), confidence=confidence)
        return StereoFrame(left, None, rig, pair.stamp_ns, pose, measured)

    def _compare_frames(self, left: str, measured: str) -> None:
        """Two names may mean one frame, so this is only said."""
        if left != measured:
            self._say(
                f"the {self._config.external} is in the frame {measured!r} but the left image in {left!r}: unless both are one camera's, "
                "let its driver align it to the left image, or every distance lies beside its object"
            )

    def _confidence(self, pair: Pair):
        stamp_ns = pair.stamp_ns + pair.skew_ns
        message = self._confidences.at(stamp_ns)
        if message is None:
            kind = self._config.external
            raise ImageError(
                f"no confidence has come with the stamp {stamp_ns / 1e9:.6f} s of the {kind} on {self.inputs['confidence'].topic}: remap "
                f"it to the confidence of that very {kind}, or set input.confidence to none"
            )
        return confidence_to_array(message, self._config.confidence)

    def _rig_of_disparity(self, message: DisparityImage) -> StereoRig:
        """fx and the principal point are the left camera_info's, the baseline is the message's; its f must be that fx."""
        if not 0 < message.t < math.inf:
            raise CalibrationError(f"the disparity's baseline t must be above zero, got {message.t:g} m: let its driver fill in t and f")
        rig = self.infos.rig_of_left(message.t)
        if not abs(message.f - rig.fx) <= _SAME_FOCAL * rig.fx:
            raise CalibrationError(
                f"the disparity was made with f = {message.f:g} px but the left camera_info says fx = {rig.fx:g} px: the two are not "
                "of the same image; remap left/* to the image that the disparity belongs to"
            )
        return rig


_SIMULATED = "or start /clock first where time is simulated"


def _second(config: InputConfig) -> str:
    return "right" if config.external == "none" else config.external


def _tolerance_ns(config: InputConfig) -> int:
    return round(config.sync_tolerance_ms * 1e6)
