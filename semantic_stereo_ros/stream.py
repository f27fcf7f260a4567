"""A stream of frames in time: where it breaks, and how to thin it out."""

from __future__ import annotations

from semantic_stereo_ros.types import StereoFrame, StereoRig


class RateLimit:
    """Lets frames pass at most at a rate, judged by their stamps. The long-term rate is kept although stamps jitter."""

    def __init__(self) -> None:
        self._due_ns: int | None = None

    def lets_pass(self, stamp_ns: int, rate_hz: float) -> bool:
        """rate_hz 0: always. Stamps that jump back, and a higher rate, begin anew."""
        if rate_hz <= 0:
            self._due_ns = None
            return True
        period_ns, due_ns = round(1e9 / rate_hz), self._due_ns
        if due_ns is None or stamp_ns < due_ns - period_ns:
            due_ns = stamp_ns
        if stamp_ns < due_ns:
            return False
        on_time = stamp_ns < due_ns + period_ns
        self._due_ns = (due_ns if on_time else stamp_ns) + period_ns
        return True


class Continuity:
    """Tells whether a frame goes on where the one before it ended: the only place that knows what breaks a stream."""

    def __init__(self) -> None:
        self._previous: tuple[StereoRig, int] | None = None

    def break_before(self, frame: StereoFrame, max_gap_s: float) -> str:
        """Why `frame` starts a new stream, '' when it does not: another rig, a stamp that moved back or by more than max_gap_s."""
        if self._previous is None:
            return ""
        rig, stamp_ns = self._previous
        step_ns = frame.stamp_ns - stamp_ns
        if frame.rig != rig:
            return f"the calibration changed from {rig} to {frame.rig}"
        if step_ns < 0 or step_ns > max_gap_s * 1e9:
            return f"the stamp moved by {step_ns / 1e9:+.3f} s from one frame to the next"
        return ""

    def advance(self, frame: StereoFrame, max_gap_s: float) -> str:
        """As `break_before`; the frame is the one that the next is compared with."""
        reason = self.break_before(frame, max_gap_s)
        self._previous = (frame.rig, frame.stamp_ns)
        return reason

    def forget(self) -> None:
        """The next frame is the first one."""
        self._previous = None
