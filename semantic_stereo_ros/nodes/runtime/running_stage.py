"""A stage at work: called by one thread at a time, and given another config between two frames without a pause for loading."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.nodes.runtime.worker import LatestOnlyWorker
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.stages import FusionStage, SegmentationStage, StereoStage

logger = logging.getLogger(__name__)

StageT = TypeVar("StageT", Pipeline, StereoStage, SegmentationStage, FusionStage)


class RunningStage(Generic[StageT]):
    """A loaded stage, and a thread that loads beside the frames what another config needs. The old backend serves until then.

    loading: the config that is being loaded, None between two. Both callbacks come on that thread: on_switched() when another config
    is in use, on_failed(used, wanted, error) when it cannot be and the one in use stays.
    """

    def __init__(
        self, stage: StageT, on_switched: Callable[[], None], on_failed: Callable[[PipelineConfig, PipelineConfig, Exception], None]
    ) -> None:
        self.stage: StageT = stage
        self.loading: PipelineConfig | None = None
        self._on_switched = on_switched
        self._on_failed = on_failed
        self._lock = threading.Lock()
        self._loader = LatestOnlyWorker(self._switch, lambda error: logger.error("%s", error, exc_info=error), "switch")

    @contextmanager
    def using(self) -> Iterator[StageT]:
        """The stage, for calls between which nobody else calls it and nothing is exchanged."""
        with self._lock:
            yield self.stage

    def switch_to(self, config: PipelineConfig) -> None:
        """Take another config as soon as it is loaded; of several that wait, the newest."""
        if self.stage.config != config:
            self._loader.submit(config)

    def stop(self, timeout_s: float) -> bool:
        """Finish what is being loaded and switch no more; the stage stays open. False if it did not end in time."""
        return self._loader.stop(timeout_s)

    def _switch(self, config: PipelineConfig) -> None:
        self.loading = config
        try:
            fresh: Any = self.stage.prepare(config)
            with self._lock:
                self.stage.adopt(config, fresh)
        except Exception as error:
            self._on_failed(self.stage.config, config, error)
        else:
            self._on_switched()
        finally:
            self.loading = None
