"""What the nodes of both graphs share beyond the lifecycle: parameters, logging, /diagnostics, and a stage that a worker thread feeds.

The executor only receives; `work` runs on one thread that always takes the newest item. Loading runs on threads of its own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic

import rclpy
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from semantic_stereo_ros.backend_stage import check_backends
from semantic_stereo_ros.checks import InputFileError, MissingDependencyError, SemanticStereoError
from semantic_stereo_ros.config import PipelineConfig, from_flat, schema
from semantic_stereo_ros.nodes.health.diagnostics import Diagnostics
from semantic_stereo_ros.nodes.health.health_messages import Diagnosis, diagnose
from semantic_stereo_ros.nodes.health.health_rules import judge
from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.outputs.publishers import OutputPublishers
from semantic_stereo_ros.nodes.runtime.lifecycle_shell import LifecycleShell, describe
from semantic_stereo_ros.nodes.runtime.node_options import (
    NODE_OPTIONS,
    DiagnosticsConfig,
    InputConfig,
    JoinConfig,
    OutputConfig,
    build_section,
    section_schema,
)
from semantic_stereo_ros.nodes.runtime.parameters import NODE_FLAGS, NodeParameters
from semantic_stereo_ros.nodes.runtime.ros_logging import Throttle, bridge_logging, unbridge_logging
from semantic_stereo_ros.nodes.runtime.running_stage import RunningStage, StageT
from semantic_stereo_ros.nodes.runtime.worker import LatestOnlyWorker


@dataclass(frozen=True)
class Settings:
    """All parameters of a node, swapped as a whole, so that one frame never sees two of them. join: defaults where nothing is."""

    pipeline: PipelineConfig
    input: InputConfig
    output: OutputConfig
    diagnostics: DiagnosticsConfig
    join: JoinConfig = field(default_factory=JoinConfig)


class StageNode(LifecycleShell, Generic[StageT]):
    """A lifecycle node around one stage, or all of them: a stream that comes in and answers that go out.

    A subclass names its parameters in __init__, makes its publishers there, and overrides the hooks. It calls its stage inside
    `using_stage`. `enabled` tells whether to work at all. `health` is what /diagnostics tells: the subclass fills it, in `review` once
    a second, and makes a new one per stream.
    """

    title = "stage"

    def __init__(self, name: str, stages: Iterable[str], sections: Iterable[str] = (), **node_options: Any) -> None:
        """stages: whose parameters the node has ('stereo', 'tracking', ...); sections: of node_options, beside those that all have.

        Raises ConfigError.
        """
        super().__init__(name, **NODE_FLAGS, **node_options)
        self._log_handler = bridge_logging(self)
        self._throttle = Throttle()
        self._running: RunningStage[StageT] | None = None
        self.worker: LatestOnlyWorker | None = None
        self._stages, self._sections = tuple(stages), ("input", "output", *sections, "diagnostics")
        self.health = StreamHealth()
        self.enabled = True
        self._refused = ""
        self.settings: Settings
        self.parameters = NodeParameters(self, self._options(), self._apply)
        self._diagnostics = Diagnostics(self)
        self.create_service(SetBool, "~/enable", self._set_enabled)
        self.create_timer(1.0, self._every_second, clock=self.steady_clock)
        if self.parameters.values["autostart"]:
            self.start_by_itself()

    # What a subclass says ---------------------------------------------------------------------------------------------------

    def make_stage(self, config: PipelineConfig) -> StageT:
        """The stage; not loaded yet."""
        raise NotImplementedError

    def work(self, item: Any) -> None:
        """One item, on the worker's thread. What it raises goes to `refuse`."""
        raise NotImplementedError

    def check(self, settings: Settings) -> None:
        """Raise ConfigError for settings that do not go together, at construction and at each change."""

    def settings_changed(self, before: Settings) -> None:
        """After an accepted change of parameters, on the executor's thread, not at construction. The stage is handled already."""

    def review(self, now_s: float) -> None:
        """Once a second in any state, before `health` is judged: bring it up to date."""

    def publishers(self) -> Iterable[OutputPublishers]:
        """Whose subscribers are watched."""
        return ()

    # What a subclass uses ---------------------------------------------------------------------------------------------------

    @property
    def input(self) -> InputConfig:
        return self.settings.input

    @property
    def output(self) -> OutputConfig:
        return self.settings.output

    @property
    def stage(self) -> StageT | None:
        """From configured to cleaned up; to be called inside `using_stage` only."""
        return None if self._running is None else self._running.stage

    def using_stage(self) -> AbstractContextManager[StageT]:
        """The stage for calls between which nobody else calls it and no backend is exchanged."""
        running = self._running
        assert running is not None, "nothing is worked on before the node is configured"
        return running.using()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Tell how long what is done inside takes, as one of the stages."""
        start_s = time.monotonic()
        yield
        now_s = time.monotonic()
        self.health.took(now_s, **{stage: now_s - start_s})

    def note_published(self, stamp_ns: int, frame_id: str) -> None:
        """An answer of this stamp and frame went out."""
        self.health.camera = frame_id
        self.health.published(time.monotonic(), (self.get_clock().now().nanoseconds - stamp_ns) / 1e9)

    # Parameters -------------------------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        result = {key: value for key, value in schema().items() if key.partition(".")[0] in self._stages}
        for section in self._sections:
            result.update(section_schema(section))
        return {**NODE_OPTIONS, **result}

    def _apply(self, values: dict[str, Any]) -> None:
        """Take parameters, or refuse them: SemanticStereoError. What needs loading is found out later, see RunningStage."""
        pipeline = from_flat({key: value for key, value in values.items() if key in schema()})
        fresh = Settings(pipeline, **{section: build_section(section, values) for section in self._sections})
        self.check(fresh)
        before = getattr(self, "settings", None)
        if before is None:
            self._check_at_start(pipeline)
            self.settings = fresh
            return
        check_backends(pipeline, before.pipeline)
        self.settings, self._refused = fresh, ""
        if self._running is not None:
            self._running.switch_to(pipeline)
        self.settings_changed(before)

    def _check_at_start(self, pipeline: PipelineConfig) -> None:
        """Raise ConfigError. A library or file that is missing may be there by the time the node is configured, which says it if not."""
        try:
            check_backends(pipeline)
        except (MissingDependencyError, InputFileError) as error:
            self.get_logger().warning(str(error))

    def _switched(self) -> None:
        """On the loader's thread: growth of memory is counted anew."""
        self._diagnostics.usage.begin(None)

    def _switch_failed(self, used: PipelineConfig, wanted: PipelineConfig, error: Exception) -> None:
        """On the loader's thread."""
        if not isinstance(error, SemanticStereoError):
            self.get_logger().error("".join(traceback.format_exception(error)))
        if self.executor is not None:
            self.executor.create_task(self._take_back, used.to_flat(), wanted.to_flat(), describe(error))

    def _take_back(self, used: dict[str, Any], failed: dict[str, Any], why: str) -> None:
        """On the executor's thread: a change of parameters that could not be loaded is undone, as far as nobody changed it again."""
        values = self.parameters.values
        back = {k: v for k, v in used.items() if k in values and failed.get(k, v) != v and values[k] == failed[k]}
        result = self.set_parameters_atomically([Parameter(key, value=value) for key, value in back.items()])
        undone = ", ".join(f"{key} = {failed[key]} was refused and is {value} again" for key, value in back.items())
        self._refused = f"{undone or 'a change was refused'}: {why}" + ("" if result.successful else f" ({result.reason})")
        self.get_logger().error(self._refused)

    # What LifecycleShell asks -----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        stage = self.make_stage(self.settings.pipeline)
        try:
            stage.load()
        except Exception:
            stage.close()
            raise
        self._running = RunningStage(stage, self._switched, self._switch_failed)
        self.worker = LatestOnlyWorker(self._work_if_enabled, self.refuse, self.title)
        self._running.switch_to(self.settings.pipeline)  # in case they changed while loading

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.clear()

    def free(self, timeout_s: float) -> None:
        ended = [thread.stop(timeout_s) for thread in (self.worker, self._running) if thread is not None]
        if self.stage is not None and all(ended):
            self.stage.close()
        self._running = self.worker = None

    # Said of the node -------------------------------------------------------------------------------------------------------

    def _every_second(self) -> None:
        now_s = time.monotonic()
        self.review(now_s)
        self._review_node()
        found = self._diagnostics.tell(self.health, self.settings.diagnostics, now_s)
        if found.level and found.diagnoses[0].level:  # what is only missing is no fault in the first seconds
            self.warn(found.diagnoses[0].text)

    def _review_node(self) -> None:
        health, config = self.health, self.stage.config if self.stage is not None else self.settings.pipeline
        health.halted = self._halted()
        health.busy_since_s = self.worker.busy_since_s if self.worker is not None else None
        health.backends = {stage: config.choice(stage).backend for stage in ("stereo", "segmentation") if stage in self._stages}
        loading = self._running.loading if self._running is not None else None
        health.switching, health.switch_refused = "" if loading is None else self._backends_text(loading), self._refused
        health.notes = self.stage.notes() if self.stage is not None else ()
        health.unserved = {topic: who for publishers in self.publishers() for topic, who in publishers.unserved().items()}

    def _halted(self) -> Diagnosis | None:
        """Why no frame is worked on, whatever comes in; None while active and enabled."""
        state = self.lifecycle_state
        if state == "configuring":
            return diagnose("loading", what=self._backends_text(self.settings.pipeline))
        if self.trouble and state != "active":
            return diagnose("load_failed", error=f"{state}: {self.trouble}")
        if state != "active":
            return diagnose("not_active", state=state)
        return None if self.enabled else diagnose("disabled")

    def verdict(self) -> tuple[int, str]:
        """(level, one sentence) in whatever state of the lifecycle."""
        self._review_node()
        found = judge(self.health, self.settings.diagnostics, time.monotonic())
        return found.level, found.message

    def _backends_text(self, config: PipelineConfig) -> str:
        names = [f"{stage} {config.choice(stage).backend}" for stage in ("stereo", "segmentation") if stage in self._stages]
        return " and ".join(names) or "nothing"

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """std_srvs/SetBool: stop and start the work without a change of the lifecycle; the inputs stay subscribed."""
        changed, self.enabled = request.data != self.enabled, request.data
        response.success = True
        response.message = f"{'' if changed else 'already '}{'enabled' if self.enabled else 'disabled'}"
        self.get_logger().info(f"{response.message} by a service call")
        return response

    def _work_if_enabled(self, item: Any) -> None:
        if self.enabled:
            self.work(item)

    def refuse(self, error: Exception) -> None:
        """A frame could not be processed: say why; the next one may be better."""
        self.health.last_error = text = describe(error)
        if isinstance(error, SemanticStereoError):
            self.warn(text)
        elif rclpy.ok(context=self.context) and self._throttle(text):
            self.get_logger().error("a frame failed:\n" + "".join(traceback.format_exception(error)))

    def warn(self, text: str) -> None:
        """Log a warning, the same one at most every few seconds."""
        if self._throttle(text):
            self.get_logger().warning(text)

    def destroy_node(self) -> None:
        super().destroy_node()
        unbridge_logging(self._log_handler)
