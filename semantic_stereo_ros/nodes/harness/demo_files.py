"""What a person looks at after the demo, made from the recorded bag: pictures, a video and a cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader

from semantic_stereo_ros.checks import InputFileError
from semantic_stereo_ros.io.cloud import write_ply
from semantic_stereo_ros.io.images import decode_image
from semantic_stereo_ros.io.writers import write_png
from semantic_stereo_ros.msg import ObjectDistance, ObjectDistanceArray
from semantic_stereo_ros.nodes.harness.demo_graph import DemoResult
from semantic_stereo_ros.nodes.harness.recording import typestore
from semantic_stereo_ros.synthetic.scoring import Estimate
from semantic_stereo_ros.types import ObjectState

PICTURES = 4
VIDEO_FPS = 15.0


def estimates_of(message: ObjectDistanceArray) -> list[Estimate]:
    """The objects of a message in the form that synthetic.scoring compares with the truth."""
    return [_estimate(item) for item in message.objects]


def _estimate(item: ObjectDistance) -> Estimate:
    box = tuple(int(v) for v in item.box_xyxy) if item.label else None
    return Estimate(item.object_id, ObjectState(item.state).name, box, item.distance_m, item.distance_sigma_m)  # pyright: ignore[reportArgumentType]


def write_demo_files(result: DemoResult, directory: Path) -> list[Path]:
    """Overlays at PICTURES moments, demo.mp4 of all overlays, and cloud.ply of the middle frame, from the demo's bag.

    Raises InputFileError when the bag has no overlays or the video cannot be written.
    """
    if result.bag is None:
        raise InputFileError("the demo was not recorded, so there is nothing to write: run it with record=True")
    with AnyReader([result.bag], default_typestore=typestore()) as reader:
        overlays = list(_messages(reader, "overlay"))
        clouds = list(_messages(reader, "points"))
    if not overlays:
        raise InputFileError(f"the bag {result.bag} holds no overlay: did pipeline_node fail? See {result.log}")
    files = []
    for number in np.linspace(0, len(overlays) - 1, PICTURES + 1, dtype=int)[1:]:
        path = directory / f"overlay_{number:04d}.png"
        write_png(path, _image(overlays[number]))
        files.append(path)
    files.append(_write_video(directory / "demo.mp4", overlays))
    if clouds:
        files.append(_write_cloud(directory / "cloud.ply", clouds[len(clouds) // 2]))
    return files


def _messages(reader: AnyReader, topic: str):
    connections = [c for c in reader.connections if c.topic.endswith(f"/{topic}")]
    for connection, _, data in reader.messages(connections=connections):
        yield reader.deserialize(data, connection.msgtype)


def _image(message) -> np.ndarray:
    return decode_image(message.data, message.width, message.height, message.encoding, message.step, bool(message.is_bigendian))


def _write_video(path: Path, overlays: list) -> Path:
    size_wh = (overlays[0].width, overlays[0].height)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), VIDEO_FPS, size_wh)
    if not video.isOpened():
        raise InputFileError(f"OpenCV could not open {path} for writing an MPEG-4 video: is its ffmpeg plugin missing?")
    for overlay in overlays:
        video.write(cv2.cvtColor(_image(overlay), cv2.COLOR_RGB2BGR))
    video.release()
    return path


def _write_cloud(path: Path, message) -> Path:
    fields = {f.name: f.offset for f in message.fields}
    kinds = {"x": "<f4", "y": "<f4", "z": "<f4", "rgb": "<u4", "label": "<u4", "instance": "<u4", "confidence": "<f4"}
    names = [name for name in kinds if name in fields]
    layout: Any = {
        "names": names,
        "formats": [kinds[n] for n in names],
        "offsets": [fields[n] for n in names],
        "itemsize": message.point_step,
    }
    points = np.frombuffer(message.data, np.dtype(layout))
    rgb = (points["rgb"][:, None] >> np.array([16, 8, 0], np.uint32) & 255).astype(np.uint8)
    xyz = np.stack([points["x"], points["y"], points["z"]], axis=1)
    write_ply(path, xyz, rgb, points["label"].astype(np.uint8), points["instance"], points["confidence"])
    return path
