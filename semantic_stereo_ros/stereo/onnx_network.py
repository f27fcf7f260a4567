"""An ONNX file as a stereo network: what it is fed with, what runs it and where its disparity is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.models.onnx import metadata as onnx_metadata
from semantic_stereo_ros.models.onnx.session import available_providers, choose_providers, is_automatic, short, start
from semantic_stereo_ros.stereo.network_canvas import enlarged
from semantic_stereo_ros.stereo.onnx_family import SHOWN, Family, Input, family_names, find_family

logger = logging.getLogger(__name__)

PROVIDERS = "stereo.onnx.providers"
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8, "tensor(double)": np.float64}
OUTPUT_DTYPES = ("tensor(float)", "tensor(float16)", "tensor(double)")


@dataclass
class Network:
    """A session that takes the canvas' two images and gives its disparity.

    fixed_wh: the size that the graph is made for, None where it takes any. max_disparity_px: of the file, else of the family.
    """

    family: Family
    fixed_wh: tuple[int | None, int | None]
    max_disparity_px: float | None
    providers: tuple[str, ...]
    _session: Any
    _inputs: list[tuple[Input, Any]]
    _output: Any
    _path: Path

    @classmethod
    def load(
        cls, path: Path, family: str, providers: str, *, threads: int = 0, engine_cache: str = "", tensorrt_fp16: bool = False
    ) -> Network:
        """Start a session. family: a name, a YAML file, or auto. Raises ConfigError and InputFileError saying what does not fit."""
        asked = choose_providers(providers, PROVIDERS, available_providers())
        session = start(
            path,
            asked,
            key=PROVIDERS,
            required=not is_automatic(providers),
            threads=threads,
            engine_cache=engine_cache,
            tensorrt_fp16=tensorrt_fp16,
        )
        running = tuple(session.get_providers())
        metadata = session.get_modelmeta().custom_metadata_map
        if onnx_metadata.LICENCE in metadata:
            logger.warning("%s: %s", path.name, metadata[onnx_metadata.LICENCE])
        chosen = family_of(family, metadata, path)
        logger.info("%s: %s, run by %s", path.name, metadata.get(onnx_metadata.MODEL, chosen.description), ", ".join(running))
        inputs = match_inputs(chosen, session.get_inputs(), path)
        limit = metadata.get(onnx_metadata.MAX_DISPARITY_PX)
        return cls(
            family=chosen,
            fixed_wh=fixed_size(chosen, inputs, path),
            max_disparity_px=chosen.max_disparity_px if limit is None else float(limit),
            providers=running,
            _session=session,
            _inputs=inputs,
            _output=find_output(chosen, session.get_outputs(), path),
            _path=path,
        )

    def __call__(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Two (h, w, 3) uint8 RGB images -> disparity (h, w) float32, px of them. Raises ConfigError when the network fails or its
        output is no map of the images.
        """
        feed = {node.name: self._tensor(item, node, (left, right)) for item, node in self._inputs}
        try:
            (answer,) = self._session.run([self._output.name], feed)
        except Exception as error:
            height, width = left.shape[:2]
            raise ConfigError(
                f"{self._path.name} fails on images of {width}x{height}: {short(error)}; check stereo.onnx.family, or multiple_of in it"
            ) from error
        return self._disparity(answer, left.shape[:2])

    def _tensor(self, item: Input, node: Any, pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        dtype, family = DTYPES[node.type], self.family
        height, width = (round(n * item.scale) for n in pair[0].shape[:2])
        if item.shows == ("zeros",):
            free = {-1: width, -2: height} if family.layout == "nchw" else {-2: width, -3: height}
            shape = [n if isinstance(n, int) else free.get(axis - len(node.shape), 1) for axis, n in enumerate(node.shape)]
            return np.zeros(shape, dtype)
        parts = [prepared(pair[SHOWN[what]], (width, height), family, dtype) for what in item.shows]
        x = np.concatenate(parts, 2)[None]
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if family.layout == "nchw" else x)

    def _disparity(self, answer: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        output = self.family.output
        values = np.asarray(answer, np.float32)
        said = f"{self._path.name} answers an array of shape {values.shape}"
        if values.ndim == 4:
            if values.shape[0] != 1:
                raise ConfigError(f"{said}, but one map was expected: export the model for a batch of 1")
            channels = values[0] if output.layout == "nchw" else values[0].transpose(2, 0, 1)
            if output.channel >= len(channels):
                raise ConfigError(f"{said} with {len(channels)} channels, but the family's output.channel is {output.channel}")
            values = channels[output.channel]
        elif values.ndim == 3 and values.shape[0] == 1:
            values = values[0]
        if values.ndim != 2 or min(values.shape) < 2:
            raise ConfigError(f"{said}, which is no map of the image: check the output's name and layout in the family")
        along_y, along_x = (n / m for n, m in zip(shape, values.shape))
        if abs(along_y / along_x - 1) > 0.1:
            raise ConfigError(f"{said}, which does not cover images of {shape[1]}x{shape[0]}: check the output's layout in the family")
        factor = {"px": 1.0, "output_px": along_x, "width": float(shape[1])}[output.unit]
        return enlarged(values * np.float32(output.sign * factor), (shape[1], shape[0]))


def prepared(image: np.ndarray, size_wh: tuple[int, int], family: Family, dtype: Any) -> np.ndarray:
    """(h, w, 3) uint8 RGB -> (H, W, C) of the family's colour and normalisation."""
    if image.shape[1::-1] != size_wh:
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
    if family.colour == "bgr":
        image = image[..., ::-1]
    elif family.colour == "grey":
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    if dtype is np.uint8:
        return image
    values = image.astype(np.float32) * np.float32(family.scale)
    return ((values - np.array(family.mean, np.float32)) / np.array(family.std, np.float32)).astype(dtype)


def family_of(name: str, metadata: Mapping[str, str], path: Path) -> Family:
    own = metadata.get(onnx_metadata.FAMILY, name)
    if name != "auto" and name in family_names() and own != name:
        raise ConfigError(f"{path.name} says that it is of the family {own}, but {name} is asked for: set stereo.onnx.family to auto")
    if name != "auto":
        return find_family(name)
    if onnx_metadata.FAMILY not in metadata:
        raise ConfigError(
            f"{path.name} does not say what it expects: set stereo.onnx.family to one of {', '.join(family_names())}, or to a YAML file"
        )
    return find_family(metadata[onnx_metadata.FAMILY])


def match_inputs(family: Family, nodes: Sequence[Any], path: Path) -> list[tuple[Input, Any]]:
    """The graph's inputs by name or order, checked. Raises ConfigError."""
    listed = ", ".join(f"{node.name} {_shape(node)}" for node in nodes)
    said = f"{path.name} has the inputs {listed}"
    if len(nodes) != len(family.inputs):
        raise ConfigError(f"{said}, but the family {family.name} has {len(family.inputs)}: set stereo.onnx.family to the right one")
    by_name = {node.name: node for node in nodes}
    pairs = []
    for item, node in zip(family.inputs, nodes):
        if item.name is not None:
            if item.name not in by_name:
                raise ConfigError(f"{said}, but none {item.name!r}, as the family {family.name} names it: set the right stereo.onnx.family")
            node = by_name[item.name]
        if node.type not in DTYPES:
            raise ConfigError(f"{path.name}: the input {node.name} is {node.type}, which no image is: expected one of {', '.join(DTYPES)}")
        plain = family.scale == 1 and set(family.mean) == {0.0} and set(family.std) == {1.0}
        if node.type == "tensor(uint8)" and not plain:
            raise ConfigError(f"{path.name}: the input {node.name} is uint8, but the family {family.name} normalises: take that out of it")
        if item.shows != ("zeros",):
            _check_channels(item, node, family, path)
        pairs.append((item, node))
    return pairs


def _check_channels(item: Input, node: Any, family: Family, path: Path) -> None:
    if len(node.shape) != 4:
        raise ConfigError(f"{path.name}: the input {node.name} must have 4 dimensions, got {_shape(node)}")
    batch, channels = node.shape[0], node.shape[1 if family.layout == "nchw" else 3]
    if isinstance(batch, int) and batch != 1:
        raise ConfigError(f"{path.name}: the input {node.name} takes {batch} images at once, got {_shape(node)}: export it for 1")
    wanted = family.channels * len(item.shows)
    if isinstance(channels, int) and channels != wanted:
        raise ConfigError(
            f"{path.name}: the input {node.name} has shape {_shape(node)}, {channels} channels where the family {family.name} "
            f"({family.colour}, {family.layout}) gives {wanted}: set the right stereo.onnx.family"
        )


def fixed_size(family: Family, inputs: list[tuple[Input, Any]], path: Path) -> tuple[int | None, int | None]:
    """(width, height) that the graph is made for, None along an axis that it leaves open. Raises ConfigError when its inputs disagree."""
    found: dict[str, set[int]] = {"width": set(), "height": set()}
    places = {"height": 2, "width": 3} if family.layout == "nchw" else {"height": 1, "width": 2}
    for item, node in inputs:
        for axis, place in places.items():
            if item.shows != ("zeros",) and isinstance(node.shape[place], int):
                found[axis].add(round(node.shape[place] / item.scale))
    for axis, sizes in found.items():
        if len(sizes) > 1 or min(sizes, default=1) < 1:
            listed = ", ".join(f"{node.name} {_shape(node)}" for _, node in inputs)
            raise ConfigError(f"{path.name}: by the family {family.name} its inputs have no one {axis}: {listed}")
    width, height = (next(iter(found[axis]), None) for axis in ("width", "height"))
    return width, height


def find_output(family: Family, nodes: Sequence[Any], path: Path) -> Any:
    listed = ", ".join(f"{node.name} {node.type} {_shape(node)}" for node in nodes)
    name = family.output.name
    node = nodes[0] if name is None else next((n for n in nodes if n.name == name), None)
    if node is None:
        raise ConfigError(f"{path.name} has no output {name!r}, as the family {family.name} names it, only {listed}: set another family")
    if node.type not in OUTPUT_DTYPES:
        raise ConfigError(f"{path.name}: the output {node.name} must be a disparity in floating point, but the outputs are {listed}")
    return node


def _shape(node: Any) -> str:
    return "(" + ", ".join("?" if n is None else str(n) for n in node.shape) + ")"
