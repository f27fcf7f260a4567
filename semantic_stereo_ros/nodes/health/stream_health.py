"""What a node knows of its own stream, from its inputs to its outputs. Filled where things happen, judged by health_rules.py. No ROS types.

Each part that a node does not have (no camera pair, no scene) stays empty and is neither shown nor judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from semantic_stereo_ros.geometry.epipolar import Finding
from semantic_stereo_ros.geometry.row_watch import RowError
from semantic_stereo_ros.nodes.health.health_messages import Diagnosis
from semantic_stereo_ros.nodes.health.process_usage import ProcessUsage
from semantic_stereo_ros.nodes.health.windows import Total, Window
from semantic_stereo_ros.types import Disparity, ObjectState, Scene, SceneObject, SceneStatus

CLOCKS_APART_S = 60.0


@dataclass
class InputHealth:
    """One topic that is listened to. kind: the noun for its messages. once: one message is enough (a camera_info). source: who
    publishes it.

    publishers: how many there are now. unheard: who of them offers a quality of service that does not fit ('' = nobody).
    changes: one entry whenever a camera_info said something else than the one before.
    """

    topic: str
    kind: str = "image"
    once: bool = False
    source: str = "the camera"
    received: Window = field(default_factory=Window)
    newest_stamp_ns: int | None = None
    publishers: int = 0
    changes: Window = field(default_factory=Window)
    unheard: str = ""
    reliable: bool | None = None

    def arrived(self, now_s: float, stamp_ns: int) -> None:
        self.received.add(now_s)
        self.newest_stamp_ns = stamp_ns


@dataclass
class JoinHealth:
    """How what belongs together meets: left with right, a mask with its disparity.

    joined: one entry per join. lone: what left without its partner. skew_s: |right stamp - left stamp|. tolerance_ms: None for joins
    of equal stamps. why: what is wrong with the stamps, or with the newest miss, in words. jumps: times that the stamps went back.
    """

    joined: Window = field(default_factory=Window)
    lone: Total = field(default_factory=Total)
    skew_s: Window = field(default_factory=Window)
    tolerance_ms: float | None = None
    why: str = ""
    jumps: Total = field(default_factory=Total)
    totals: Mapping[str, int | str] = field(default_factory=dict)

    def fraction(self, now_s: float) -> float | None:
        """Joins / (joins + what stayed alone), or None when neither came."""
        joined, lone = self.joined.count(now_s), self.lone.recent(now_s)
        return joined / (joined + lone) if joined + lone else None


@dataclass
class StreamHealth:
    """Everything that /diagnostics tells of one node.

    camera: the frame_id of the images. halted: set while the node is not active or is switched off. wanted: somebody listens.
    busy_since_s: since when one frame is in work, None between two.
    last_error: of the newest refused frame, '' after a good one. switching: what is being loaded beside the old backend;
    switch_refused, prompts_refused: why the newest change or prompts were not taken. notes: what backends do otherwise than asked.
    objects: how many tracked objects are in which state, and their scores; '' without a scene.
    """

    inputs: Mapping[str, InputHealth] = field(default_factory=dict)
    camera: str = ""
    join: JoinHealth | None = None
    started_s: float = float("-inf")
    halted: Diagnosis | None = None
    wanted: bool = True
    busy_since_s: float | None = None
    last_error: str = ""
    backends: Mapping[str, str] = field(default_factory=dict)
    switching: str = ""
    switch_refused: str = ""
    notes: tuple[str, ...] = ()
    prompts: str = ""
    prompts_refused: str = ""
    stages_s: dict[str, Window] = field(default_factory=dict)
    drops: Total = field(default_factory=Total)
    output: Window = field(default_factory=Window)
    age_s: Window = field(default_factory=Window)
    clock_offset_s: float | None = None
    last_output_s: float | None = None
    subscribers: Mapping[str, int] = field(default_factory=dict)
    unserved: Mapping[str, str] = field(default_factory=dict)
    valid_fraction: Window = field(default_factory=Window)
    scene_reason: str = ""
    objects: str = ""
    row_error: RowError | None = None
    pair_findings: tuple[Finding, ...] = ()
    usage: ProcessUsage = field(default_factory=ProcessUsage)

    def took(self, now_s: float, **stages_s: float) -> None:
        """Wall seconds that stages of one frame took, in the order in which they are to be shown."""
        for name, seconds in stages_s.items():
            self.stages_s.setdefault(name, Window()).add(now_s, seconds)

    def published(self, now_s: float, age_s: float) -> None:
        """One answer went out; age_s: the node's clock - the left image's stamp. A good answer ends the last error.

        An age beyond a minute is no age: the stamps come from another clock (a bag without /clock, an unset camera).
        """
        self.output.add(now_s)
        self.last_output_s = now_s
        self.last_error = ""
        self.clock_offset_s = None if abs(age_s) < CLOCKS_APART_S else age_s
        if self.clock_offset_s is None:
            self.age_s.add(now_s, age_s)

    def saw_disparity(self, now_s: float, disparity: Disparity) -> None:
        """The share of known pixels, from every 64th: about 10 us."""
        sparse = disparity.disparity_px[::8, ::8]
        self.valid_fraction.add(now_s, np.count_nonzero(sparse + disparity.rig.doffs_px > 0) / sparse.size)

    def saw_scene(self, now_s: float, scene: Scene) -> None:
        """What a finished scene says of the view, and the time that each stage took."""
        self.scene_reason = scene.reason if scene.status == SceneStatus.CANNOT_TELL else ""
        self.objects = _in_brief(scene.objects)
        self.saw_disparity(now_s, scene.disparity)
        self.took(now_s, **scene.timings_s)


def _in_brief(objects: Sequence[SceneObject]) -> str:
    """'3 visible, 1 lost; scores 0.52 to 0.97': states in the order of ObjectState, without those that no object has."""
    counts = Counter(item.state for item in objects)
    states = ", ".join(f"{counts[state]} {state.name.lower()}" for state in ObjectState if counts[state])
    scores = [item.score for item in objects]
    return f"{states}; scores {min(scores):.2f} to {max(scores):.2f}" if scores else "none"
