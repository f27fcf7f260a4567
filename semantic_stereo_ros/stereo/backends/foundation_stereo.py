"""FoundationStereo (Wen et al., CVPR 2025): a neural matcher; needs torch and published weights (research only)."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semantic_stereo_ros.checks import ConfigError, ImageError, missing_dependency
from semantic_stereo_ros.options import option
from semantic_stereo_ros.stereo.foundation_stereo_weights import checkpoint_of, show_licence
from semantic_stereo_ros.stereo.memory_fallback import SMALLEST_ROWS, Effort
from semantic_stereo_ros.stereo.network_canvas import Fit, fit
from semantic_stereo_ros.types import Disparity, StereoFrame, StereoRig
from semantic_stereo_ros.weights import cache

if TYPE_CHECKING:
    from torch import Tensor

    from semantic_stereo_ros.models.foundation_stereo.inference import Answer

logger = logging.getLogger(__name__)

MULTIPLE = 32
SLABS = (0, 64, 32, 16, 8, SMALLEST_ROWS)
HIERARCHICAL_ABOVE_PX = 1000
CPU_EXTRA_BYTES = 200 << 20
"""Of a CPU's budget, for what is not counted: libraries' code and scratch memory, and what malloc keeps."""
CARD_SHARE = 0.85
"""Share of a card's free memory that tensors may take; the rest is scratch memory of its libraries."""


@dataclass(frozen=True)
class Config:
    """Options of the network, of what it costs, and of the checks after it."""

    variant: str = option("auto", "size of the network; auto = that of the checkpoint", choices=("auto", "vits", "vitb", "vitl"))
    checkpoint: str = option(
        "", "file of the weights, or a name that `semantic-stereo weights list` shows; empty = the official ones of the variant"
    )
    iterations: int = option(16, "updates of the disparity; more is slower and finer", minimum=1, maximum=64)
    max_disp: int = option(0, "searched disparities of the scaled images, a multiple of 32; 0 = the checkpoint's", minimum=0, maximum=1024)
    scale: float = option(1.0, "size of the images that are matched; results keep the full size", minimum=0.1, maximum=1.0)
    hierarchical: str = option(
        "auto",
        f"match half-size images first, which reach twice as far, and start from that: auto = above {HIERARCHICAL_ABOVE_PX} px",
        choices=("off", "on", "auto"),
    )
    attention: str = option(
        "tokens", "form of the disparity transformer: tokens, or heads as in the official code since June 2025", choices=("tokens", "heads")
    )
    precision: str = option(
        "float32",
        "of the network on a GPU; fp16 stays within 0.02 px of float32 on average, bf16 does not; a CPU always works in float32",
        choices=("float32", "bf16", "fp16"),
    )
    device: str = option("auto", "auto (a GPU where there is one), cpu, cuda or cuda:N")
    compile: bool = option(False, "compile the network for each image size (torch.compile): the first frame takes minutes")
    stop_below_px: float = option(
        0.0, "end the updates when the mean change falls below this; 0 = make all", unit="px", minimum=0.0, maximum=10.0
    )
    warm_start: bool = option(False, "start from the previous frame's disparity")
    warm_iterations: int = option(0, "updates of a frame that starts from the previous one; 0 = iterations", minimum=0, maximum=64)
    memory_budget_mb: int = option(
        0, "the cost volume is worked on in slabs such that weights and tensors fit; 0 = automatic", unit="MB", minimum=0, maximum=1000000
    )
    invisible: bool = option(True, "make unknown what lies outside the right image: the network guesses there")
    left_right_check: bool = option(True, "match the exchanged images too, reduced, for sigma and confidence")
    check_scale: float = option(0.5, "size of the images of the left-right check", minimum=0.1, maximum=1.0)
    max_difference_px: float = option(
        3.0, "where the left-right check differs more, a pixel becomes unknown; 0 = never", unit="px", minimum=0.0, maximum=100.0
    )
    sigma_scale: float = option(1.0, "factor of sigma: measured errors divided by reported sigma", minimum=0.01, maximum=100.0)


class Backend:
    """The network on one device. When memory runs out it works in smaller slabs, then at a smaller scale, then with fewer iterations,
    then on the CPU; `notes` and the log say so, and it stays so until the images have another size.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stateful = config.warm_start
        self._model: Any = None
        self._run: Any = None
        self._asked = self._effort = Effort(0, config.scale, config.iterations, config.device)
        self._shape: tuple[int, int] | None = None
        self._previous: Tensor | None = None
        self._doubts: dict[str, str] = {}

    def check(self) -> None:
        """Raise ConfigError, InputFileError (no such checkpoint) or MissingDependencyError (no torch) for what can be told at once."""
        config = self.config
        if config.max_disp % 32:
            raise ConfigError(f"max_disp must be a multiple of 32, or 0 for the checkpoint's, got {config.max_disp}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
            raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {config.device!r}")
        if config.compile and config.stop_below_px:
            raise ConfigError(
                f"compile and stop_below_px {config.stop_below_px:g} exclude each other: a compiled graph makes a fixed number of updates; "
                "set stop_below_px to 0, or compile to false"
            )
        if importlib.util.find_spec("torch") is None:
            raise missing_dependency("torch", "torch", "the stereo backend foundation_stereo")
        checkpoint_of(config.checkpoint, config.variant)

    def load(self) -> None:
        """Map the checkpoint and put the network on its device. Raises what `check` raises, and InputFileError for a file that is wrong."""
        self.check()
        from semantic_stereo_ros.models import hardware

        device = hardware.choose_device(self.config.device)
        show_licence(checkpoint_of(self.config.checkpoint, self.config.variant)[0])
        self._asked = self._effort = dataclasses.replace(self._asked, device=str(device))
        self._shape = None
        self._place()

    def __call__(self, frame: StereoFrame) -> Disparity:
        """Match one pair. Raises ImageError when there is not memory enough even for the smallest effort."""
        from semantic_stereo_ros.models import hardware

        if frame.shape != self._shape:
            self._begin(frame)
        while True:
            try:
                return self._match(frame)
            except Exception as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                if hardware.is_out_of_memory(error):
                    recover = self._reduce
                elif self._run is not self._model and type(error).__module__.startswith("torch._"):
                    recover = self._do_not_compile
                else:
                    raise
            # Out here no exception holds the failed attempt's tensors any more.
            self._previous = None
            hardware.release(hardware.choose_device(self._effort.device))
            recover(frame, reason)

    def notes(self) -> tuple[str, ...]:
        """What is other than asked for, one sentence each; empty when all is as configured."""
        return tuple(self._doubts.values())

    def reset(self, reason: str) -> None:
        """The next frame does not start from the last one."""
        self._previous = None

    def close(self) -> None:
        """Free the network."""
        self._model = self._run = self._previous = None

    # Loading ------------------------------------------------------------------------------------------------------------------

    def _place(self) -> None:
        """Load the network onto the device of the present effort; the CPU where it does not fit."""
        from semantic_stereo_ros.models import hardware

        self._model = self._run = None
        wanted = self._effort.device
        try:
            model = self._load_model(wanted)
        except Exception as error:
            if wanted == "cpu" or not hardware.is_out_of_memory(error):
                raise
        else:
            import torch

            self._model = model
            self._run = torch.compile(model, dynamic=False) if self.config.compile else model
            return
        hardware.release(hardware.choose_device(wanted))
        self._effort = dataclasses.replace(self._asked, rows=SMALLEST_ROWS, device="cpu")
        self._doubt("memory", f"the weights do not fit on {wanted}, which is slow: works on the CPU; free it, or take a smaller variant")
        self._place()

    def _load_model(self, name: str) -> Any:
        from semantic_stereo_ros.models import hardware
        from semantic_stereo_ros.models.foundation_stereo import runtime as foundation_stereo_runtime

        config, device = self.config, hardware.choose_device(name)
        path, weights = checkpoint_of(config.checkpoint, config.variant)
        if weights is not None:
            cache.verify(weights, path)
        dtype = hardware.choose_dtype(config.precision, device)
        return foundation_stereo_runtime.load_ready(path, config.variant, config.max_disp, config.attention, device, dtype)

    # Memory -------------------------------------------------------------------------------------------------------------------

    def _begin(self, frame: StereoFrame) -> None:
        """Images of another size: start from what is asked for, and choose how much of the volume is worked on at a time."""
        self._shape, self._previous = frame.shape, None
        device = self._effort.device
        self._doubts.pop("budget", None)
        if device == self._asked.device:
            self._doubts.pop("memory", None)
        width, height = view_of(frame.rig, self._asked.scale).canvas_wh
        rows = self._rows((height, width))
        self._effort = dataclasses.replace(self._asked, device=device, rows=rows)

    def _rows(self, shape: tuple[int, int]) -> int:
        """The largest slab with which images of `shape` fit the budget; 0 = the volume as a whole, which is for a GPU only."""
        from semantic_stereo_ros.models import hardware
        from semantic_stereo_ros.models.foundation_stereo import runtime as foundation_stereo_runtime

        free = hardware.free_bytes(hardware.choose_device(self._effort.device))
        fixed = foundation_stereo_runtime.weight_bytes(self._model)
        slabs = SLABS
        if free is None:
            usual = foundation_stereo_runtime.rows_on_cpu(self._model, shape)
            slabs = (usual, *(rows for rows in SLABS if 0 < rows < usual))
            fixed += CPU_EXTRA_BYTES
        if self.config.memory_budget_mb:
            budget = self.config.memory_budget_mb * 2**20 - fixed
        elif free is not None:
            budget = int(CARD_SHARE * free)
        else:
            return slabs[0]
        needed = 0
        for rows in slabs:
            needed = foundation_stereo_runtime.peak_bytes(self._model, shape, rows)
            if needed <= budget:
                return rows
        height, width = shape
        fitting = self._asked.scale * (max(budget, 0) / needed) ** 0.5
        remedy = f"set scale to {fitting:.2f}" if fitting >= 0.2 else "set max_disp lower, the budget higher, or take a smaller variant"
        self._doubt(
            "budget",
            f"images of {width}x{height} need about {(needed + fixed) / 2**20:.0f} MB with the weights, more than the "
            f"{max(budget + fixed, 0) / 2**20:.0f} MB there are: {remedy}",
        )
        return SMALLEST_ROWS

    def _reduce(self, frame: StereoFrame, reason: str) -> None:
        """Take the next smaller effort. Raises ImageError below the smallest."""
        smaller = self._effort.less(frame.shape, self._asked)
        height, width = frame.shape
        if smaller is None:
            raise ImageError(
                f"images of {width}x{height} do not fit into memory even {self._effort.instead_of(self._asked)} ({reason}): "
                "free memory, give smaller images, or set max_disp lower"
            )
        moved, self._effort = smaller.device != self._effort.device, smaller
        if moved:
            self._place()
        self._doubt(
            "memory",
            f"out of memory with images of {width}x{height}: works {self._effort.instead_of(self._asked)}; free memory, or set scale, "
            f"max_disp or variant lower ({reason})",
        )

    def _do_not_compile(self, frame: StereoFrame, reason: str) -> None:
        self._run = self._model
        self._doubt("compile", f"the network cannot be compiled here and runs as it is; set compile to false ({reason})")

    def _doubt(self, key: str, text: str) -> None:
        if self._doubts.get(key) != text:
            logger.warning("%s", text)
        self._doubts[key] = text

    # One frame ----------------------------------------------------------------------------------------------------------------

    def _match(self, frame: StereoFrame) -> Disparity:
        import torch

        from semantic_stereo_ros.models import hardware, stereo_trust

        config, effort = self.config, self._effort
        view, device = view_of(frame.rig, effort.scale), hardware.choose_device(effort.device)
        with torch.inference_mode():
            left, right = (torch.from_numpy(x).to(device).permute(2, 0, 1)[None].float() for x in view.images(frame))
            answer = self._answer(left, right)
            unseen = stereo_trust.leaves_image(answer.disparity, right_columns(view))
            excess = self._excess(left, right, answer.disparity, unseen)
            sigma, confidence = stereo_trust.sigma_and_confidence(answer.spread, answer.mass, excess, unseen, config.sigma_scale)
            self._previous = answer.disparity if config.warm_start else None
            maps = [x[0, 0].cpu().numpy() for x in (answer.disparity, sigma, confidence, excess)]
        return self._disparity(view, *maps)

    def _answer(self, left: Tensor, right: Tensor) -> Answer:
        """The network's answer, from coarse to fine where that is asked for, from the last frame's where there is one."""
        from semantic_stereo_ros.models.foundation_stereo import inference

        config, previous, iterations = self.config, self._previous, self._effort.iterations
        options: dict[str, Any] = dict(rows=self._effort.rows or None, stop_below_px=config.stop_below_px)
        if previous is not None and previous.shape[-2:] == left.shape[-2:]:
            fewer = min(config.warm_iterations or iterations, iterations)
            return inference.predict(self._run, left, right, fewer, initial=previous, **options)
        coarse_first = self._coarse_first((left.shape[-1], left.shape[-2]))
        return (inference.predict_hierarchical if coarse_first else inference.predict)(self._run, left, right, iterations, **options)

    def _coarse_first(self, canvas_wh: tuple[int, int]) -> bool:
        return self.config.hierarchical == "on" or (self.config.hierarchical == "auto" and max(canvas_wh) > HIERARCHICAL_ABOVE_PX)

    def _excess(self, left: Tensor, right: Tensor, disparity: Tensor, unseen: Tensor) -> Tensor:
        """The left-right check: a second, reduced pass over the exchanged images; zeros where it is switched off."""
        import torch

        from semantic_stereo_ros.models import stereo_trust
        from semantic_stereo_ros.models.foundation_stereo import inference

        if not self.config.left_right_check:
            return torch.zeros_like(disparity)
        scale, iterations = self.config.check_scale, min(self._effort.iterations, max(4, self._effort.iterations // 2))
        small = stereo_trust.mirrored(left, right, scale)
        other = inference.predict(self._run, *small, iterations, rows=self._effort.rows or None).disparity
        size = (disparity.shape[-2], disparity.shape[-1])
        return stereo_trust.excess_px(disparity, stereo_trust.right_view(other, size), unseen, scale)

    def _disparity(self, view: Fit, disparity: np.ndarray, sigma: np.ndarray, confidence: np.ndarray, excess: np.ndarray) -> Disparity:
        """Maps of the network's images as those of the frame's, unknown where the options say so."""
        config, rig = self.config, view.rig
        searched = self._model.config.max_disp * (2 if self._coarse_first(view.canvas_wh) else 1)  # half-size images reach twice as far
        low, high = -view.shift, searched / view.factor - view.shift
        result, sigma_px = view.disparity_back(disparity), view.difference_back(sigma)
        belief = np.clip(view.difference_back(confidence) * np.float32(view.factor), 0, 1)  # no px: the factor is taken back
        with np.errstate(invalid="ignore"):
            known = np.isfinite(result) & (result >= low - 1) & (result <= high + 1)
            if config.invisible:
                match = np.arange(rig.size_wh[0]) - result
                known &= (match >= 0) & (match <= rig.size_wh[0] - 1)
            if config.left_right_check and config.max_difference_px:
                known &= view.difference_back(excess) <= config.max_difference_px
        nan = np.float32(np.nan)
        return Disparity(
            np.where(known, result, nan), np.where(known, sigma_px, nan), np.where(known, belief, np.float32(0)), rig, float(low), high
        )


def view_of(rig: StereoRig, scale: float) -> Fit:
    """The network's images: resized, no disparity below 0, padded to multiples of 32."""
    return fit(rig, (None, None), MULTIPLE, "pad", scale)


def right_columns(view: Fit) -> tuple[float, float]:
    """First and last column of the network's right image that the frame's right image reaches."""
    first = view.corner_xy[0] + max(-view.shift, 0) * view.factor
    return first, first + view.rig.size_wh[0] * view.factor - 1
