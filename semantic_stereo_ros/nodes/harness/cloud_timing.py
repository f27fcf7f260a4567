"""Arrays -> a filled, labeled 640x480 sensor_msgs/PointCloud2: ours against sensor_msgs_py's way and against the floor.

`python -m semantic_stereo_ros.nodes.harness.cloud_timing 30` prints the result as JSON; bench/bench_cloud.py runs it.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from semantic_stereo_ros.fusion.packing import CLOUD_DTYPE, pack_cloud, pack_rgb
from semantic_stereo_ros.nodes.messages.conversions import cloud_to_message, structured_to_cloud
from semantic_stereo_ros.types import LabeledCloud

SIZE_WH = (640, 480)


def make_cloud(seed: int = 0) -> LabeledCloud:
    """A full organised cloud of random content."""
    rng = np.random.default_rng(seed)
    shape = SIZE_WH[::-1]
    return LabeledCloud(
        xyz=rng.normal(0, 3, (*shape, 3)).astype(np.float32),
        rgb=rng.integers(0, 256, (*shape, 3), np.uint8),
        class_id=rng.integers(0, 3, shape, np.uint8),
        instance=rng.integers(0, 30, shape, np.uint32),
        confidence=rng.random(shape, np.float32),
    )


def run(repeats: int = 30) -> dict[str, Any]:
    """Median times in ms and ratios; candidates take turns.

    floor: one structured array assigned field by field (colours packed beforehand) and one copy of its bytes into a new array.array.
    create_cloud: structured array, tobytes, array('B', bytes) as sensor_msgs_py.point_cloud2.create_cloud does; theirs where installed.
    """
    cloud, header = make_cloud(), Header()
    fields = structured_to_cloud(np.zeros(1, CLOUD_DTYPE), header, False).fields
    candidates: dict[str, Callable[[], Any]] = {
        "ours": lambda: cloud_to_message(cloud, header),
        "create_cloud": _create_cloud(cloud, header, fields),
        "floor": _floor(cloud),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            if repeat:  # the first round warms up
                times[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: float(np.median(t)) for name, t in times.items()}
    return {
        "name": "cloud",
        "size_wh": list(SIZE_WH),
        "repeats": repeats,
        "median_ms": medians,
        "ours_to_floor": medians["ours"] / medians["floor"],
        "ours_to_create_cloud": medians["ours"] / medians["create_cloud"],
        "bars": {"ours_to_floor": 1.3, "ours_to_create_cloud": 1.0},
    }


def _floor(cloud: LabeledCloud) -> Callable[[], array]:
    columns = (*np.moveaxis(cloud.xyz, 2, 0), pack_rgb(cloud.rgb).view(np.float32), cloud.class_id, cloud.instance, cloud.confidence)
    names = CLOUD_DTYPE.names or ()

    def fill() -> array:
        records = np.empty(cloud.class_id.shape, CLOUD_DTYPE)
        for name, column in zip(names, columns):
            records[name] = column
        data = array("B")
        data.frombytes(records.view(np.uint8).data)
        return data

    return fill


def _create_cloud(cloud: LabeledCloud, header: Any, fields: Any) -> Callable[[], Any]:
    try:
        from sensor_msgs_py.point_cloud2 import create_cloud  # pyright: ignore[reportMissingImports]
    except ImportError:
        create_cloud = _plain_create_cloud
    return lambda: create_cloud(header, fields, pack_cloud(cloud))


def _plain_create_cloud(header: Any, fields: Any, points: np.ndarray) -> Any:
    message = PointCloud2(header=header, height=points.shape[0], width=points.shape[1], fields=fields, point_step=points.dtype.itemsize)
    data = array("B")
    data.frombytes(points.tobytes())
    message.row_step = message.point_step * message.width
    message.data = data
    return message


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]))))
