"""Now and then: are the pair's rows aligned, is left left? The cheap measure often, the thorough one seldom or when there is cause."""

from __future__ import annotations

from collections.abc import Callable

from semantic_stereo_ros.geometry.epipolar import check_pair
from semantic_stereo_ros.geometry.row_watch import measure_rows
from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.runtime.node_options import DiagnosticsConfig, InputConfig
from semantic_stereo_ros.types import Disparity, StereoFrame

RECHECK_S = 3.0
"""How often the thorough check is repeated while it finds something, so that a mended fault is soon forgotten."""


class PairWatch:
    """Of one stream; to be called on the worker's thread after a frame is published, so that no answer waits for it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rows_s = self._check_s = float("-inf")
        self._rows_known = True

    def look(
        self, health: StreamHealth, frame: StereoFrame, disparity: Disparity, inputs: InputConfig, config: DiagnosticsConfig, now_s: float
    ) -> None:
        """Keep health.row_error and health.pair_findings. A frame without a right image has neither."""
        if frame.right_image is None:
            return
        lost = False
        if config.row_period_s > 0 and now_s >= self._rows_s + config.row_period_s:
            self._rows_s = now_s
            health.row_error = measure_rows(frame, disparity)
            lost, self._rows_known = self._rows_known and not health.row_error.known, health.row_error.known
        if inputs.health_period_s <= 0:
            health.pair_findings = ()
            return
        period_s = min(RECHECK_S, inputs.health_period_s) if health.pair_findings else inputs.health_period_s
        if lost or now_s >= self._check_s + period_s:
            self._check_s = now_s
            health.pair_findings = check_pair(frame, disparity.searched_to_px)
            for finding in health.pair_findings:
                self._say(finding.message)
