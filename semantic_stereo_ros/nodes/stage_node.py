"""What pipeline_node and the separate nodes share beyond the lifecycle: parameters, logging, /diagnostics and the worker thread.

The executor only receives; `work` runs on one thread that always takes the newest item. Loading runs on threads of its own.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from semantic_stereo_ros.checks import InputFileError, MissingDependencyError, SemanticStereoError
from semantic_stereo_ros.config import PipelineConfig, from_flat, schema
from semantic_stereo_ros.nodes.health.diagnostics import Diagnostics
from semantic_stereo_ros.nodes.health.health_messages import Diagnosis, diagnose
from semantic_stereo_ros.nodes.health.health_rules import judge
from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.outputs.publishers import OutputPublishers
from semantic_stereo_ros.nodes.runtime.lifecycle_shell import LifecycleShell, describe
from semantic_stereo_ros.nodes.runtime.node_options import NODE_OPTIONS, build_section, section_schema
from semantic_stereo_ros.nodes.runtime.parameters import NODE_FLAGS, NodeParameters
from semantic_stereo_ros.nodes.runtime.ros_logging import Throttle, bridge_logging, unbridge_logging
from semantic_stereo_ros.nodes.runtime.worker import LatestOnlyWorker
from semantic_stereo_ros.stages import check_backends


@dataclass(frozen=True)
class Settings:
    """All parameters of a node, swapped as a whole, so that one frame never sees two of them.

    sections: the node's own Configs by section name (node_options.SECTIONS).
    """

    pipeline: PipelineConfig
    sections: Mapping[str, Any]


class StageNode(LifecycleShell):
    """A lifecycle node around one stage, or all of them.

    A subclass names its parameters in __init__, makes its publishers there, and overrides the hooks. `stage` exists from configured
    to cleaned up; whoever uses it on another thread than the worker's holds `stage_lock`. `enabled` tells whether to work at all.
    `health` is what /diagnostics tells: the subclass fills it, and makes a new one per stream.
    """

    title = "stage"

    def __init__(self, name: str, stages: Iterable[str], sections: Iterable[str], **node_options: Any) -> None:
        """stages: whose parameters the node has ('stereo', 'tracking', ...); sections: those of node_options. Raises ConfigError."""
        super().__init__(name, **NODE_FLAGS, **node_options)
        self._log_handler = bridge_logging(self)
        self._throttle = Throttle()
        self.stage: Any = None
        self.stage_lock = threading.Lock()
        self.worker: LatestOnlyWorker | None = None
        self._switcher: LatestOnlyWorker[PipelineConfig] | None = None
        self._stages, self._sections = tuple(stages), (*sections, "diagnostics")
        self.health = StreamHealth()
        self.enabled = True
        self._switching = self._refused = ""
        self.settings: Settings
        self.parameters = NodeParameters(self, self._options(), self._apply)
        self._diagnostics = Diagnostics(self)
        self.create_service(SetBool, "~/enable", self._set_enabled)
        self.create_timer(1.0, self._every_second, clock=self.steady_clock)
        if self.parameters.values["autostart"]:
            self.start_by_itself()

    # What a subclass says ---------------------------------------------------------------------------------------------------

    def make_stage(self, config: PipelineConfig) -> Any:
        """A Pipeline, StereoStage, SegmentationStage or FusionStage; not loaded yet."""
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

    # Parameters -------------------------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        result = {key: value for key, value in schema().items() if key.partition(".")[0] in self._stages}
        for section in self._sections:
            result.update(section_schema(section))
        return {**NODE_OPTIONS, **result}

    def _apply(self, values: dict[str, Any]) -> None:
        """Take parameters, or refuse them: SemanticStereoError. What needs loading is found out later, see `_switch`."""
        pipeline = from_flat({key: value for key, value in values.items() if key in schema()})
        fresh = Settings(pipeline, {section: build_section(section, values) for section in self._sections})
        self.check(fresh)
        before = getattr(self, "settings", None)
        if before is None:
            self._check_at_start(pipeline)
            self.settings = fresh
            return
        check_backends(pipeline, before.pipeline)
        self.settings, self._refused = fresh, ""
        self._switch_to_settings()
        self.settings_changed(before)

    def _check_at_start(self, pipeline: PipelineConfig) -> None:
        """Raise ConfigError. A library or file that is missing may be there by the time the node is configured, which says it if not."""
        try:
            check_backends(pipeline)
        except (MissingDependencyError, InputFileError) as error:
            self.get_logger().warning(str(error))

    def _switch_to_settings(self) -> None:
        stage, switcher = self.stage, self._switcher
        if switcher is not None and stage is not None and stage.config != self.settings.pipeline:
            switcher.submit(self.settings.pipeline)

    def _switch(self, config: PipelineConfig) -> None:
        """On the switcher's thread: load beside the frames what is new, then swap between two of them. The old serves until then."""
        stage = self.stage
        self._switching = self._backends_text(config)
        try:
            fresh = stage.prepare(config)
            with self.stage_lock:
                stage.adopt(config, fresh)
        except Exception as error:
            if not isinstance(error, SemanticStereoError):
                self.get_logger().error("".join(traceback.format_exception(error)))
            if self.executor is not None:
                self.executor.create_task(self._take_back, stage.config.to_flat(), config.to_flat(), describe(error))
        else:
            self._diagnostics.usage.begin(None)
        finally:
            self._switching = ""

    def _take_back(self, used: dict[str, Any], failed: dict[str, Any], why: str) -> None:
        """On the executor's thread: a change of parameters that could not be loaded is undone, as far as nobody changed it again."""
        values = self.parameters.values
        back = {k: v for k, v in used.items() if k in values and failed.get(k, v) != v and values[k] == failed[k]}
        result = self.set_parameters_atomically([Parameter(key, value=value) for key, value in back.items()])
        undone = ", ".join(f"{key} = {failed[key]} was refused and is {value} again" for key, value in back.items())
        self._refused = f"{undone or 'a change was refused'}: {why}" + ("" if result.successful else f" ({result.reason})")
        self.get_logger().error(self._refused)

    def _switch_crashed(self, error: Exception) -> None:
        self.get_logger().error("".join(traceback.format_exception(error)))

    # What LifecycleShell asks -----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        stage = self.make_stage(self.settings.pipeline)
        try:
            stage.load()
        except Exception:
            stage.close()
            raise
        self.stage = stage
        self.worker = LatestOnlyWorker(self._work_if_enabled, self.refuse, self.title)
        self._switcher = LatestOnlyWorker(self._switch, self._switch_crashed, "switch")
        self._switch_to_settings()  # in case they changed while loading

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.clear()

    def free(self, timeout_s: float) -> None:
        ended = [thread.stop(timeout_s) for thread in (self.worker, self._switcher) if thread is not None]
        if self.stage is not None and all(ended):
            self.stage.close()
        self.stage = self.worker = self._switcher = None

    # Said of the node -------------------------------------------------------------------------------------------------------

    def _every_second(self) -> None:
        now_s = time.monotonic()
        self.review(now_s)
        self._review_node()
        found = self._diagnostics.tell(self.health, self.settings.sections["diagnostics"], now_s)
        if found.level and found.diagnoses[0].level:  # what is only missing is no fault in the first seconds
            self.warn(found.diagnoses[0].text)

    def _review_node(self) -> None:
        health, config = self.health, self.stage.config if self.stage is not None else self.settings.pipeline
        health.halted = self._halted()
        health.busy_since_s = self.worker.busy_since_s if self.worker is not None else None
        health.backends = {stage: getattr(config, stage).backend for stage in ("stereo", "segmentation") if stage in self._stages}
        health.switching, health.switch_refused = self._switching, self._refused
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

    def judge(self) -> tuple[int, str]:
        """(level, one sentence) in whatever state of the lifecycle."""
        self._review_node()
        found = judge(self.health, self.settings.sections["diagnostics"], time.monotonic())
        return found.level, found.message

    def _backends_text(self, config: PipelineConfig) -> str:
        names = [f"{stage} {getattr(config, stage).backend}" for stage in ("stereo", "segmentation") if stage in self._stages]
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
