"""Any stereo network in an ONNX file, through onnxruntime: two images in, a disparity out, by the conventions of its family."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semantic_stereo_ros.checks import ConfigError, InputFileError, missing_dependency
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.network_canvas import Fit, fit
from semantic_stereo_ros.stereo.onnx_family import find_family
from semantic_stereo_ros.stereo.onnx_network import Network
from semantic_stereo_ros.stereo.refine import consistent_difference
from semantic_stereo_ros.stereo.uncertainty import CONSTANT_SIGMA_PX
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig


@dataclass(frozen=True)
class Config:
    """Options of the network, of what it runs on, and of the checks after it."""

    model: str = option("", "the .onnx file")
    family: str = option(
        "auto",
        "what the model expects and answers: a name of config/onnx, or a YAML file; auto = what the file says, which "
        "`semantic-stereo export` wrote",
    )
    providers: str = option(
        "auto", "what runs the network, comma-separated, first choice first: tensorrt, cuda, cpu, ...; auto = those three, if there"
    )
    threads: int = option(0, "threads of the CPU provider; 0 = one per core", minimum=0, maximum=256)
    engine_cache: str = option("", "folder in which TensorRT keeps what it compiled; empty = it compiles at each start, for minutes")
    tensorrt_fp16: bool = option(False, "let TensorRT compute in half precision")
    fit: str = option(
        "auto",
        "how images of another size than the model's are brought to it: pad reduces and repeats edges, stretch resizes; auto = as the "
        "family says",
        choices=("auto", "pad", "stretch"),
    )
    scale: float = option(1.0, "size of the images that a model which takes any size sees", minimum=0.1, maximum=1.0)
    invisible: bool = option(True, "make unknown what lies outside the right image: networks guess there")
    left_right_check: bool = option(False, "match the exchanged images too, for sigma and confidence; takes twice the time")
    max_difference_px: float = option(
        3.0, "where the left-right check differs more, a pixel becomes unknown", unit="px", minimum=0.1, maximum=100.0
    )
    sigma_px: float = option(
        CONSTANT_SIGMA_PX, "standard deviation of disparity where no check raises it", unit="px", minimum=0.01, maximum=100.0
    )
    confidence: float = option(0.9, "confidence of each known pixel where no check lowers it", minimum=0.01, maximum=1.0)


class Backend:
    """One onnxruntime session."""

    stateful = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self._network: Network | None = None
        self._fit: Fit | None = None

    def check(self) -> None:
        """Raise ConfigError (no model, a wrong family), InputFileError (no such file) or MissingDependencyError (no onnxruntime)."""
        if not self.config.model:
            raise ConfigError("the stereo backend onnx needs a model: set stereo.onnx.model to an .onnx file")
        path = Path(self.config.model).expanduser()
        if not path.is_file():
            raise InputFileError(f"the ONNX model {path} {'is a folder' if path.is_dir() else 'does not exist'}: check stereo.onnx.model")
        if self.config.family != "auto":
            find_family(self.config.family)
        if importlib.util.find_spec("onnxruntime") is None:
            raise missing_dependency("onnxruntime", "onnx", "the stereo backend onnx")

    def load(self) -> None:
        """Read the model and start onnxruntime. Raises what `check` raises, and ConfigError when model and family do not fit."""
        self.check()
        config = self.config
        self._network = Network.load(
            Path(config.model).expanduser(),
            config.family,
            config.providers,
            threads=config.threads,
            engine_cache=config.engine_cache,
            tensorrt_fp16=config.tensorrt_fp16,
        )
        self._fit = None

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair. Raises ConfigError when the network does not take images of the frame's size or answers something else."""
        if self._network is None:
            self.load()
        network = self._network
        assert network is not None
        if self._fit is None or self._fit.rig != frame.rig:
            self._fit = self._fit_for(network, frame.rig)
        view = self._fit
        left, right = view.images(frame)
        canvas_px = network(left, right)
        disparity_px = view.disparity_back(canvas_px)
        known = np.isfinite(disparity_px)
        if self.config.invisible:
            known &= visible(disparity_px)
        sigma_px = np.full(frame.shape, self.config.sigma_px, np.float32)
        confidence = np.full(frame.shape, self.config.confidence, np.float32)
        if self.config.left_right_check:
            # The right image's disparity: both mirrored, what was on the right is on the left.
            mirrored = network(np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1]))[:, ::-1]
            difference_px = view.difference_back(consistent_difference(canvas_px, np.ascontiguousarray(mirrored)))
            known &= difference_px <= self.config.max_difference_px
            # Two answers to one question, each with this sigma, differ by sqrt(2) of it.
            np.hypot(sigma_px, difference_px * np.float32(np.sqrt(0.5)), out=sigma_px)
            confidence *= 1 - difference_px / np.float32(self.config.max_difference_px)
        nan = np.float32(np.nan)
        return Disparity(
            np.where(known, disparity_px, nan),
            np.where(known, sigma_px, nan),
            np.where(known, confidence, np.float32(0)),
            frame.rig,
            *self._range(network, view, disparity_px[known]),
        )

    def _fit_for(self, network: Network, rig: StereoRig) -> Fit:
        how = network.family.fit if self.config.fit == "auto" else self.config.fit
        return fit(rig, network.fixed_wh, network.family.multiple_of, how, self.config.scale)

    def _range(self, network: Network, view: Fit, found_px: np.ndarray) -> tuple[float, float]:
        """The searched range in the frame's px, as far as the model says it; a regressing network may go beyond."""
        limit = network.max_disparity_px
        most = view.rig.size_wh[0] if limit is None else limit / view.factor - view.shift
        least = float(-view.shift)
        if found_px.size:
            least, most = min(least, float(found_px.min())), max(most, float(found_px.max()))
        return least, float(most)

    def reset(self, reason: str) -> None:
        """Nothing is kept between frames."""

    def close(self) -> None:
        """Free the session."""
        self._network = self._fit = None


def visible(disparity_px: np.ndarray) -> np.ndarray:
    """(H, W) bool: the match of a pixel lies within the right image."""
    width = disparity_px.shape[1]
    with np.errstate(invalid="ignore"):
        match = np.arange(width, dtype=np.float32) - disparity_px
        return (match >= 0) & (match <= width - 1)
