"""Named intermediates of a FoundationStereo, taken by hooks: for the parity tests, and for finding where two implementations part.

Names are those of the published reference tensors. The plain form has all of them; what the inference form makes in slabs of rows is put
together again, and what it never makes, or makes in another order, is in NOT_IN_INFERENCE_FORM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models.foundation_stereo.fast.inference_form import InferenceForm
from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
from semantic_stereo_ros.models.foundation_stereo.volume import GROUPS

DINO = "feature.dino.depth_anything."
LEVELS = ("04", "08", "16")
OUTPUTS = {
    f"{DINO}pretrained.blocks.0": "dino_block0",
    **{f"{DINO}depth_head.scratch.refinenet{i}": f"dpt_path_{i}" for i in (1, 2, 3, 4)},
    "feature.dino": "vit_feat",
    "feature.stem": "edge_stem",
    **{f"feature.stages.{i}": f"edge_stage{i}" for i in range(4)},
    **{f"feature.{name}": name for name in ("deconv32_16", "deconv16_8", "deconv8_4")},
    "cost_agg.atts.4": "agg_dt",
    "cost_agg.atts.4.sa.0": "agg_dt_layer0",
    **{f"cnet.outputs{level}.{i}": f"cnet{level}_{i}" for level in LEVELS for i in (0, 1)},
    "spx_gru": "spx_logits",
}
INPUTS = {
    f"{DINO}pretrained": "dino_in",
    f"{DINO}pretrained.blocks.0": "dino_tokens_in",
    "cost_agg.conv2": "agg_conv1",
    "cost_agg.conv3": "agg_conv2",
    "cost_agg.conv3_up": "agg_conv3",
    "cost_agg.conv2_up": "agg_up16",
    "cost_agg.atts.4": "agg_patch",
}
PLAIN_OUTPUTS = {"corr_stem": "corr_stem", "cost_agg.conv1_up": "agg_conv1_up", "cost_agg": "cost_agg", "classifier": "logits"}
PLAIN_INPUTS = {"cost_agg": "corr_feature_att"}
NOT_IN_INFERENCE_FORM = frozenset({"gwc_volume", "concat_volume", "corr_stem"})


class StageRecorder:
    """With it around passes, `passes` holds clones of each one's intermediates by name. On one thread; not for compiled networks."""

    def __init__(self, model: FoundationStereo) -> None:
        self.passes: list[dict[str, Tensor]] = []
        self.tensors: dict[str, Tensor] = {}
        self._model = model
        self._undo: list[Callable[[], object]] = []
        self._step = self._level = 0

    def __enter__(self) -> StageRecorder:
        for path, name in OUTPUTS.items():
            self._after(path, lambda _, result, name=name: self.add(name, result))
        for path, name in INPUTS.items():
            self._before(path, lambda args, name=name: self.add(name, args[0]))
        self._after(f"{DINO}pretrained", self._tokens)
        self._after(f"{DINO}depth_head", lambda _, x: self.add("dpt_out", self._resized(x)))
        self._after("feature", lambda _, found: [self.add(f"feat{s}", f) for s, f in zip((4, 8, 16, 32), found[0])])
        self._wrap(self._model.cost_agg, "hourglass", lambda x: self.add("agg_up8", x))
        self._after("sam", self._attended)
        self._before("update_block.encoder", lambda args: self.add(f"disp_in_{self._step}", args[1]))
        self._before("update_block", self._before_step)
        self._after("update_block", self._after_step)
        self._before("spx_2_gru", lambda args: (self.add("mask_feat_last", args[0]), self.add("stem_2x", args[1])))
        self._undo.append(self._model.register_forward_hook(self._end).remove)
        (self._in_slabs if isinstance(self._model, InferenceForm) else self._at_once)()
        return self

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()

    def add(self, name: str, value: Tensor) -> None:
        self.tensors[name] = value.clone()

    def _at_once(self) -> None:
        for path, name in PLAIN_OUTPUTS.items():
            self._after(path, lambda _, result, name=name: self.add(name, result))
        for path, name in PLAIN_INPUTS.items():
            self._before(path, lambda args, name=name: self.add(name, args[0]))
        self._before("corr_stem", lambda args: self.add("gwc_volume", args[0][:, :GROUPS]))
        self._before("corr_stem", lambda args: self.add("concat_volume", args[0][:, GROUPS:]))
        self._before("update_block.encoder", lambda args: self.add(f"geo_feat_{self._step}", args[0]))

    def _in_slabs(self) -> None:
        model = self._model
        assert isinstance(model, InferenceForm)
        self._wrap(model, "volume_slabs", lambda slabs: self._noted("corr_feature_att", slabs))
        self._wrap(model.cost_agg, "doubled", lambda slab: self._append("agg_conv1_up", slab))
        self._wrap(model.cost_agg, "up", lambda slabs: self._noted("cost_agg", slabs))
        self._wrap(model, "matching", lambda found: self.add("logits", found[1][:, None]))
        self._wrap(model.update_block.encoder, "reduce", None, lambda args: self._append(f"geo_feat_{self._step}", args[0]))

    def _noted(self, name: str, slabs: Iterator[tuple[Tensor | None, bool]]) -> Iterator[tuple[Tensor | None, bool]]:
        for slab, last in slabs:
            if slab is not None:
                self._append(name, slab)
            yield slab, last

    def _append(self, name: str, slab: Tensor) -> None:
        """The next rows of a tensor."""
        before = [self.tensors[name]] if name in self.tensors else []
        self.tensors[name] = torch.cat([*before, slab], -2)

    def _tokens(self, _: Any, maps: list[Tensor]) -> None:
        for index in (0, 3):
            self.add(f"dino_feat{index}", maps[index].flatten(2).transpose(1, 2))

    def _resized(self, x: Tensor) -> Tensor:
        """The head's map at the size of the transformer's input, as the original has it before it is reduced."""
        return F.interpolate(x, self.tensors["dino_in"].shape[-2:], mode="bilinear", align_corners=True)

    def _attended(self, args: tuple, result: Tensor) -> None:
        level, self._level = LEVELS[self._level], self._level + 1
        self.add(f"inp{level}", args[0])
        self.add(f"att{level}", result)

    def _before_step(self, args: tuple) -> None:
        if self._step == 0:
            context, motion = args
            self.add("motion_0", motion)
            for level, hidden in zip(LEVELS, context.hidden):
                self.add(f"net{level}_0", hidden)

    def _after_step(self, args: tuple, delta: Tensor) -> None:
        self.add(f"delta_{self._step}", delta)
        if self._step == 0:
            for level, hidden in zip(LEVELS, args[0].hidden):
                self.add(f"net{level}_1", hidden)
        self._step += 1

    def _end(self, _: nn.Module, args: tuple, found: Any) -> None:
        self.add("init_disp", found.initial)
        self.add("disparity", found.disparity)
        self.passes.append(self.tensors)
        self.tensors, self._step, self._level = {}, 0, 0

    def _before(self, path: str, take: Callable[[tuple], Any]) -> None:
        def hook(_: nn.Module, args: tuple) -> None:
            take(args)

        self._undo.append(self._model.get_submodule(path).register_forward_pre_hook(hook).remove)

    def _after(self, path: str, take: Callable[[tuple, Any], Any]) -> None:
        def hook(_: nn.Module, args: tuple, result: Any) -> None:
            take(args, result)

        self._undo.append(self._model.get_submodule(path).register_forward_hook(hook).remove)

    def _wrap(self, owner: nn.Module, method: str, take: Callable[[Any], Any] | None, before: Callable[[tuple], Any] | None = None) -> None:
        """`take` sees what a method returns, `before` its arguments; what `take` returns, a generator, goes on in its place."""
        original = getattr(owner, method)

        def wrapped(*args: Any, **options: Any) -> Any:
            if before is not None:
                before(args)
            result = original(*args, **options)
            seen = None if take is None else take(result)
            return result if seen is None else seen

        object.__setattr__(owner, method, wrapped)
        self._undo.append(lambda: object.__delattr__(owner, method))
