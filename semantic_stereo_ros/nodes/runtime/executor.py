"""How the nodes of this package are spun: one thread for everything quick, threads of their own for what takes seconds."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.nodes.runtime import dds


class SlowCallbackGroup(MutuallyExclusiveCallbackGroup):
    """For callbacks that may take seconds: loading a backend, writing files. One of a group at a time."""


class SideThreadExecutor(SingleThreadedExecutor):
    """A SingleThreadedExecutor that runs the callbacks of SlowCallbackGroups in a thread of their own.

    So parameters and diagnostics answer while a backend loads, and images do not pay for the hand-over between threads of a
    MultiThreadedExecutor. The threads are daemons: none keeps an interrupted process alive.
    """

    def spin_once(self, timeout_sec: float | None = None) -> None:
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, TimeoutException):
            return
        except rclpy_implementation.InvalidHandle:
            if rclpy.ok(context=self.context):
                return  # a thread has just destroyed an endpoint, and the next round waits without it
            raise
        if entity is not None and isinstance(entity.callback_group, SlowCallbackGroup):
            threading.Thread(target=_run, args=(handler,), name="slow callback", daemon=True).start()
        else:
            _run(handler)


def _run(handler) -> None:
    handler()
    if handler.exception() is not None:
        raise handler.exception()


def run_node(make_node, args: list[str] | None = None) -> int:
    """Init, spin and shut down one node of this package. 0 after Ctrl-C, 1 with one sentence for parameters that cannot be.

    Where a thread is still inside a long computation after the node is gone, the process ends here with that code.
    """
    profile = dds.use_large_segment()
    leave_interrupts_to_rclpy()
    rclpy.init(args=args)
    node, executor, code = None, None, 0
    try:
        with until_shutdown():
            node = make_node()
            node.get_logger().info(profile)
            executor = SideThreadExecutor()
            executor.add_node(node)
            executor.spin()
    except SemanticStereoError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    finally:
        with uninterrupted():
            if node is not None:
                node.destroy_node()
            if executor is not None:
                executor.shutdown(timeout_sec=0.0)
            rclpy.try_shutdown()
            rclpy.get_default_context().destroy()  # takes the shared memory away; a process that leaves at once would not
    if threading.active_count() > 1:
        leave(code)
    return code


@contextmanager
def until_shutdown() -> Iterator[None]:
    """The shutdown of the default context ends what is done in here, and is no error, whichever call of rclpy it meets.

    Once the context is gone, an executor that was about to wait and a publisher that was about to publish raise an RCLError.
    """
    try:
        yield
    except ExternalShutdownException:
        pass
    except (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle):
        if rclpy.ok():
            raise


def leave_interrupts_to_rclpy() -> None:
    """On Ctrl-C rclpy's own handler shuts the context down and `spin` ends.

    Python's would raise KeyboardInterrupt wherever the thread is; within rclpy's conversion of a message a RuntimeError comes of that.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda number, frame: None)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A second Ctrl-C does not break off what is done in here. `ros2 launch` and the terminal may each send one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave(code: int) -> NoReturn:
    """End the process now: Python's own way out can wait for, or crash in, a thread that is inside a library."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
