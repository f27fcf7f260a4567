"""Writes messages as they came over the wire into a rosbag2 MCAP, with their definitions, so that Foxglove and rosbags open it."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from semantic_stereo_ros.resources import share_file

PACKAGE = "semantic_stereo_ros"
OWN_MESSAGES = ("InstanceMasks", "InstanceRecord", "MaskLayer", "ObjectDistance", "ObjectDistanceArray")
BAG_VERSION = 9
MAX_WAITING = 200


def typestore() -> Typestore:
    """ROS 2 Jazzy's types and this package's, for reading and writing bags with rosbags."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name in OWN_MESSAGES:
        text = share_file(f"msg/{name}.msg").read_text(encoding="utf-8")
        types.update(get_types_from_msg(text, f"{PACKAGE}/msg/{name}"))
    store.register(types)
    return store


class Recorder:
    """A bag in the folder `path`, which must not exist yet; chunks are compressed with zstd, as MCAP readers understand.

    Topics are added before messages are written to them. A thread compresses and writes, so that `write` costs no time while the
    disk keeps up.
    """

    def __init__(self, path: Path) -> None:
        self._store = typestore()
        self._writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Any] = {}
        self._error: Exception | None = None
        self._waiting: queue.Queue[tuple[str, int, bytes] | None] = queue.Queue(maxsize=MAX_WAITING)
        self.counts: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add_topic(self, topic: str, message_type: str) -> None:
        """message_type: 'sensor_msgs/msg/Image' and the like."""
        self._connections[topic] = self._writer.add_connection(topic, message_type, typestore=self._store)
        self.counts[topic] = 0

    def write(self, topic: str, stamp_ns: int, serialized: bytes) -> None:
        """One serialised (CDR) message, received at `stamp_ns`. Waits when the disk does not keep up."""
        self._waiting.put((topic, stamp_ns, serialized))

    def close(self) -> None:
        """Write what waits and end the bag. Raises what writing raised, such as OSError for a full disk."""
        self._waiting.put(None)
        self._thread.join()
        self._writer.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._error is not None:
                continue  # keep emptying the queue, so that nobody waits for ever
            topic, stamp_ns, serialized = item
            try:
                self._writer.write(self._connections[topic], stamp_ns, serialized)
                self.counts[topic] += 1
            except Exception as error:  # raised by close
                self._error = error
