"""Runs a module as a child that does not outlive its parent: `python -m semantic_stereo_ros.nodes.harness.child MODULE ARGUMENTS`.

The parent holds the other end of the child's standard input and never writes. However the parent ends, kill -9 included, the
kernel closes that end; the child then interrupts itself, so that it leaves no shared memory behind, and insists after a while.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 5.0
_STANDARD_INPUT = 0


def end_with_parent(grace_s: float = GRACE_S) -> None:
    """Interrupt this process as Ctrl-C does when its standard input ends; end it at once when it still runs `grace_s` later."""

    def watch() -> None:
        while os.read(_STANDARD_INPUT, 1024):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="parent_watch", daemon=True).start()


def main() -> None:
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
