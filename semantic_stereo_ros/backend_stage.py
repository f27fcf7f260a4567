"""What the stages with backends share: one of several backends, loaded once, exchanged between two frames, reset with the stream."""

from __future__ import annotations

import logging
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

from semantic_stereo_ros.config import Choice, PipelineConfig
from semantic_stereo_ros.registry import STAGES_WITH_BACKENDS, backend_module
from semantic_stereo_ros.stream import Continuity
from semantic_stereo_ros.types import StereoFrame

logger = logging.getLogger(__name__)


class Backend(Protocol):
    """What StereoBackend and SegmentationBackend have in common."""

    stateful: bool

    def check(self) -> None: ...
    def load(self) -> None: ...
    def reset(self, reason: str) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class WithNotes(Protocol):
    """A backend that says what it does otherwise than asked (for want of memory, say)."""

    def notes(self) -> tuple[str, ...]: ...


AnyBackend = TypeVar("AnyBackend", bound=Backend)


class BackendStage(Generic[AnyBackend]):
    """A stage that one of several backends does: loaded once, exchanged when its options change, reset when the stream breaks.

    Everything is called between two frames, except `prepare`, which may run in another thread beside them.
    """

    name: str

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self._backend = self._make(config)
        self._loaded = False
        self._continuity = Continuity()

    @property
    def backend_name(self) -> str:
        """The backend in use."""
        return self.config.choice(self.name).backend

    def load(self) -> None:
        """Load the backend (weights, libraries). A second call does nothing. Raises what the backend raises."""
        if not self._loaded:
            self._backend.load()
            self._loaded = True

    def prepare(self, config: PipelineConfig) -> AnyBackend | None:
        """The backend that `config` asks for, for `adopt`; None when the present one is right. Loaded, unless it is free_first.

        Raises what the backend raises; the present one stays.
        """
        if _same_backend(config.choice(self.name), self.config.choice(self.name)):
            return None
        fresh = self._make(config)
        if self._loaded and not self._frees_first(config):
            _load_or_close(fresh)
        return fresh

    def adopt(self, config: PipelineConfig, fresh: AnyBackend | None) -> None:
        """Take another config, with the backend that `prepare` made for it. With free_first the old backend is closed, then the
        new one loaded; when that raises, the old one is loaded again.
        """
        if fresh is not None:
            self._backend.close()
            if self._loaded and self._frees_first(config):
                self._load_freed(fresh)
            self._backend = fresh
        self.config = config

    def _load_freed(self, fresh: AnyBackend) -> None:
        try:
            _load_or_close(fresh)
        except Exception:
            self._backend, self._loaded = self._make(self.config), False
            self.load()
            raise

    def reconfigure(self, config: PipelineConfig) -> None:
        """Take another config; the old backend stays when loading a new one raises."""
        self.adopt(config, self.prepare(config))

    def reset(self, reason: str) -> None:
        """Forget earlier frames."""
        self._forget(reason)
        self._continuity.forget()

    def notes(self) -> tuple[str, ...]:
        """What the backend does otherwise than asked, one sentence each."""
        return self._backend.notes() if isinstance(self._backend, WithNotes) else ()

    def close(self) -> None:
        """Free the backend. The stage is not used again."""
        self._backend.close()

    def _begin(self, frame: StereoFrame) -> None:
        self.load()
        reason = self._continuity.advance(frame, self.config.tracking.max_gap_s)
        if reason:
            self._forget(reason)

    def _forget(self, reason: str) -> None:
        if self._backend.stateful:
            logger.info("%s reset: %s", self.name, reason)
        self._backend.reset(reason)

    def _frees_first(self, config: PipelineConfig) -> bool:
        return config.choice(self.name).switch == "free_first"

    def _make(self, config: PipelineConfig) -> AnyBackend:
        return cast(AnyBackend, _make_backend(self.name, config.choice(self.name)))


def check_backends(config: PipelineConfig, before: PipelineConfig | None = None) -> None:
    """Raise what can be told without loading of the backends that `config` chooses, where `before` chooses others.

    ConfigError for options that do not fit each other; MissingDependencyError and InputFileError for what is not there.
    """
    for stage in STAGES_WITH_BACKENDS:
        choice = config.choice(stage)
        if before is None or not _same_backend(choice, before.choice(stage)):
            _make_backend(stage, choice).check()


def _same_backend(one: Choice, other: Choice) -> bool:
    return (one.backend, one.options) == (other.backend, other.options)


def _make_backend(stage: str, choice: Choice) -> Backend:
    return backend_module(stage, choice.backend).Backend(choice.options)


def _load_or_close(backend: Backend) -> None:
    try:
        backend.load()
    except Exception:
        backend.close()
        raise


def close_all(*fresh: Backend | None) -> None:
    """Close the backends that `prepare` made and nobody adopted."""
    for backend in fresh:
        if backend is not None:
            backend.close()
