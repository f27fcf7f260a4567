"""Small ONNX graphs that are stereo networks of known behaviour: a real block matcher, and ones that say what they were fed with."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

OPSET = 17
LAST = 2**62


def onnx() -> Any:
    return pytest.importorskip("onnx", reason="onnx is not installed: pip install 'semantic_stereo_ros[export]'")


class Graph:
    """Nodes one after the other; each method returns the name of what it computes."""

    def __init__(self, inputs: dict[str, list], kind: int = 1) -> None:
        self._helper = onnx().helper
        self.inputs = [self._helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
        self.nodes: list = []
        self.constants: list = []

    def constant(self, value) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx().numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def slice(self, x: str, start: int, stop: int, axis: int, step: int = 1) -> str:
        return self.op("Slice", x, *(self.constant(np.array([v], np.int64)) for v in (start, stop, axis, step)))

    def save(self, path: Path, outputs: dict[str, str], metadata: dict[str, str] | None = None, kind: int = 1, rank: int = 4) -> Path:
        """outputs: what the graph calls each of the computed things."""
        helper = self._helper
        nodes = self.nodes + [helper.make_node("Identity", [inside], [name]) for name, inside in outputs.items()]
        results = [helper.make_tensor_value_info(name, kind, [None] * rank) for name in outputs]
        graph = helper.make_graph(nodes, "tiny", self.inputs, results, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        helper.set_model_props(model, metadata or {})
        onnx().checker.check_model(model)
        onnx().save(model, path)
        return path


def matcher(path: Path, height: int | str = "height", width: int | str = "width", levels: int = 64) -> Path:
    """A matcher by summed squared differences over 9x9, a parabola between whole pixels; left, right -> disparity (1, 1, H, W)."""
    g = Graph({"left": [1, 3, height, width], "right": [1, 3, height, width]})
    padded = g.op("Pad", "right", g.constant(np.array([0, 0, 0, levels, 0, 0, 0, 0], np.int64)), mode="edge")
    costs = []
    for d in range(levels):
        shifted = g.slice(padded, levels - d, -d if d else LAST, 3)
        difference = g.op("Sub", "left", shifted)
        costs.append(g.op("ReduceMean", g.op("Mul", difference, difference), axes=[1]))
    cost = g.op("AveragePool", g.op("Concat", *costs, axis=1), kernel_shape=[9, 9], pads=[4, 4, 4, 4])
    best = g.op("ArgMin", cost, axis=1)
    best = g.op("Clip", best, g.constant(np.int64(1)), g.constant(np.int64(levels - 2)))
    one = g.constant(np.int64(1))
    before, at, behind = (g.op("GatherElements", cost, index, axis=1) for index in (g.op("Sub", best, one), best, g.op("Add", best, one)))
    curvature = g.op("Sub", g.op("Add", before, behind), g.op("Mul", at, g.constant(np.float32(2))))
    curvature = g.op("Max", curvature, g.constant(np.float32(1e-6)))
    step = g.op("Div", g.op("Sub", before, behind), g.op("Mul", curvature, g.constant(np.float32(2))))
    step = g.op("Clip", step, g.constant(np.float32(-0.5)), g.constant(np.float32(0.5)))
    metadata = {"semantic_stereo.family": "semantic_stereo", "semantic_stereo.max_disparity_px": str(levels)}
    return g.save(path, {"disparity": g.op("Add", g.op("Cast", best, to=1), step)}, metadata)


def mean_of_channel(g: Graph, name: str, channel: int, axis: int = 1) -> str:
    """(1, 1, 1, 1): the mean of one channel of an input."""
    return g.op("ReduceMean", g.slice(g.op("Cast", name, to=1), channel, channel + 1, axis), axes=[0, 1, 2, 3])


def constant_map(g: Graph, value: str, shape: list[int]) -> str:
    return g.op("Expand", value, g.constant(np.array(shape, np.int64)))


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@functools.cache
def contract_options() -> dict[str, str]:
    """Options under which the stereo backend onnx is a real matcher. Skips without onnx."""
    return {"model": str(matcher(Path(_folder().name) / "matcher.onnx"))}
