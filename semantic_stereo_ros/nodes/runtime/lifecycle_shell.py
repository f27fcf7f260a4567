"""The lifecycle of a node: transitions served beside the executor, started by itself where asked to, and why one failed in words."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.nodes.runtime.bonds import break_bond, form_bond
from semantic_stereo_ros.nodes.runtime.executor import SlowCallbackGroup

END_TIMEOUT_S = 0.5
"""How long a process that shall end waits for a frame that is being processed."""


class LifecycleShell(LifecycleNodeMixin, Node):
    """A lifecycle node whose hooks may take minutes and may raise.

    What a hook raises is logged and kept in `trouble`, and what was half done is undone. `active` tells whether to publish.
    slow_group is for whatever else may take seconds, steady_clock for timers that do not follow a simulated clock.
    """

    def __init__(self, name: str, **node_options: Any) -> None:
        Node.__init__(self, name, **node_options)
        LifecycleNodeMixin.__init__(self)
        self.slow_group = SlowCallbackGroup()
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.active = False
        self.trouble = ""
        self._activation_lock = threading.Lock()  # transitions run beside the executor's thread
        self._starter: Any = None
        self._bond: Any = None
        self._serve_transitions_beside()

    # What a subclass says ---------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load and make what the work needs."""

    def start(self) -> None:
        """On activation: subscribe."""

    def stop(self) -> None:
        """On deactivation: destroy what `start` made."""

    def free(self, timeout_s: float) -> None:
        """Undo `configure`, also one that raised half way; never called while active.

        What still runs after `timeout_s` keeps what it uses.
        """

    # Who makes transitions --------------------------------------------------------------------------------------------------

    @property
    def lifecycle_state(self) -> str:
        """'unconfigured', 'configuring', 'inactive', 'activating', 'active', ..., 'finalized'."""
        return self._state_machine.current_state[1]

    def start_by_itself(self) -> None:
        """Configure and activate as soon as somebody spins the node; without it a manager does, and gets a bond where bondpy is."""
        self._starter = self.create_timer(0.001, self._start_once, callback_group=self.slow_group, clock=self.steady_clock)

    def restart(self) -> None:
        """Stop and start, where the node is active: for options that decide what is listened to."""
        with self._activation_lock:
            if self.active:
                self.stop()
                self.start()

    def _start_once(self) -> None:
        self._starter.cancel()
        if self.lifecycle_state == "unconfigured" and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _serve_transitions_beside(self) -> None:
        """change_state may load for minutes, so it is served in the slow group; rclpy would let an impossible one end the process."""
        service: Any = next(service for service in self.services if service.srv_type is ChangeState)
        change = service.callback
        self.slow_group.add_entity(service)
        service.callback_group = self.slow_group

        def change_state(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change(request, response)
            except RuntimeError:  # rclpy's RCLError
                wanted = request.transition.label or f"transition {request.transition.id}"
                self.get_logger().warning(f"{wanted} is not possible while {self.lifecycle_state}")
                response.success = False
                return response

        service.callback = change_state

    # What rclpy calls -------------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("configure", self.configure, self._end)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("activate", self._activate, self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("deactivate", self._deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("clean up", self._end)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("shut down", self._end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("free after an error", self._end)

    def _attempt(self, what: str, action: Callable[[], None], undo: Callable[[], None] | None = None) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:
            self.trouble = f"could not {what}: {describe(error)}"
            unexpected = "" if isinstance(error, SemanticStereoError) else "\n" + "".join(traceback.format_exception(error))
            self.get_logger().error(self.trouble + unexpected)
            if undo is None:
                return TransitionCallbackReturn.ERROR
            undo()
            return TransitionCallbackReturn.FAILURE
        self.trouble = ""
        return TransitionCallbackReturn.SUCCESS

    def _activate(self) -> None:
        with self._activation_lock:
            self.active = True
            self.start()
        if self._starter is None:
            self._bond = form_bond(self)

    def _deactivate(self) -> None:
        with self._activation_lock:
            self.active = False
            break_bond(self, self._bond)
            self._bond = None
            self.stop()

    def _end(self, timeout_s: float = 600.0) -> None:
        if self.active:
            self._deactivate()
        self.free(timeout_s)

    def destroy_node(self) -> None:
        """Stop before anything that is used goes away; a long computation is not waited for."""
        self._end(END_TIMEOUT_S)
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()  # it holds the node, and with it the process's shared memory


def describe(error: Exception) -> str:
    """An error in one sentence."""
    return str(error) if isinstance(error, SemanticStereoError) else f"{type(error).__name__}: {error}"
