"""Live stereo cameras through OpenCV: one device with both images side by side, or two devices grabbed together.

A video file or a stream's address stands for a device, too. Knows nothing of ROS.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.options import option


class CameraError(SemanticStereoError):
    """A camera that cannot be opened, lacks the wanted mode, or gives no frame any more."""


class VideoEndedError(CameraError):
    """A video file gave its last frame."""


@dataclass(frozen=True)
class Config:
    """Which devices, and what is asked of them."""

    device: str = option(
        "0", "number or path (/dev/video0, /dev/v4l/by-id/...) of the camera, or a video file or a stream's address", dynamic=False
    )
    right_device: str = option("", "a second device for the right images; empty: `device` gives both side by side", dynamic=False)
    swap: bool = option(False, "exchange left and right", dynamic=False)
    calibration: str = option(
        "", "calibration file, folder, or 'left.yaml,right.yaml'; empty: images without camera_info, as a calibrator wants", dynamic=False
    )
    width: int = option(
        0, "width of one image (a side-by-side device is asked for twice as much); 0 = as it comes", unit="px", minimum=0, dynamic=False
    )
    height: int = option(0, "height of one image; 0 = as it comes", unit="px", minimum=0, dynamic=False)
    fps: float = option(0.0, "frames per second; 0 = as they come", unit="Hz", minimum=0.0, maximum=1000.0, dynamic=False)
    fourcc: str = option("MJPG", "pixel format asked of a device; uncompressed ones rarely fit two cameras into USB 2", dynamic=False)
    grey: bool = option(False, "send mono8 instead of bgr8", dynamic=False)
    loop: bool = option(False, "begin a video file again at its end", dynamic=False)
    reconnect_s: float = option(
        1.0, "how long to wait before a lost camera is opened again", unit="s", minimum=0.05, maximum=600.0, dynamic=False
    )
    max_spread_ms: float = option(
        5.0,
        "warn when the two devices give a frame further apart than this; they need a common trigger for moving scenes",
        unit="ms",
        minimum=0.0,
        maximum=1000.0,
        dynamic=False,
    )
    reliability: str = option("reliable", "what the image publishers offer", choices=("reliable", "best_effort"), dynamic=False)
    frame_id: str = option("camera_left_optical_frame", "frame id of images and camera_infos", dynamic=False)


class StereoCapture:
    """The opened camera of a Config. size_wh: of one image; rate_hz: what the device says, 0 when it says nothing.

    Raises CameraError when a device cannot be opened or has not the wanted mode.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._devices: list[tuple[str, cv2.VideoCapture]] = []
        names = [config.device, config.right_device] if config.right_device else [config.device]
        try:
            for name in names:
                self._devices.append((name, open_device(name)))
                self._ask(*self._devices[-1])
            self.size_wh = self._size_wh()
        except CameraError:
            self.close()
            raise
        capture = self._devices[0][1]
        self.is_file = not is_live(config.device)
        self.rate_hz = max(capture.get(cv2.CAP_PROP_FPS), 0.0)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        fourcc = "".join(chr((code >> shift) & 0xFF) for shift in (0, 8, 16, 24)) if code > 0 else "unknown"
        self.mode = f"{self.size_wh[0]}x{self.size_wh[1]} {fourcc} {self.rate_hz:g} Hz through {capture.getBackendName()}"

    def _ask(self, name: str, capture: cv2.VideoCapture) -> None:
        """The pixel format first: which sizes and rates a device has depends on it."""
        config = self.config
        if is_live(name):
            if config.fourcc:
                capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*f"{config.fourcc:4.4}"))
            if config.width:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width * self._per_frame)
            if config.height:
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
            if config.fps:
                capture.set(cv2.CAP_PROP_FPS, config.fps)

    @property
    def _per_frame(self) -> int:
        """Images in one frame of a device."""
        return 1 if self.config.right_device else 2

    def _size_wh(self) -> tuple[int, int]:
        sizes = []
        for name, capture in self._devices:
            width, height = (round(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width % self._per_frame:
                raise CameraError(f"camera {name} gives frames {width} px wide, which are no two images side by side")
            sizes.append((width // self._per_frame, height))
            for wanted, came, what in ((self.config.width, sizes[-1][0], "width"), (self.config.height, height, "height")):
                if wanted and wanted != came:
                    raise CameraError(
                        f"camera {name} gives images of {what} {came} px instead of the wanted {wanted}: "
                        "choose a mode that it has (v4l2-ctl --list-formats-ext -d DEVICE)"
                    )
        if sizes[0] != sizes[-1]:
            texts = [f"{width}x{height}" for width, height in sizes]
            raise CameraError(f"the two cameras must give one size, got {texts[0]} and {texts[1]}: set camera.width and camera.height")
        return sizes[0]

    def grab(self) -> float:
        """Take the next frame of each device without decoding it; blocks until it is there. Returns the seconds between the two grabs.

        Raises CameraError when a device gives none, VideoEndedError at the end of a file.
        """
        times_s = []
        for name, capture in self._devices:
            if not capture.grab():
                if is_live(name):
                    raise CameraError(f"camera {name} gives no frame: unplugged, used by another process, or out of USB bandwidth")
                raise VideoEndedError(f"the video {name} has ended")
            times_s.append(time.monotonic())
        return times_s[-1] - times_s[0]

    def retrieve(self) -> tuple[np.ndarray, np.ndarray]:
        """Decode what was grabbed: left and right, (H, W, 3) BGR or (H, W) grey uint8. Raises CameraError for a broken frame."""
        frames = []
        for name, capture in self._devices:
            done, frame = capture.retrieve()
            if not done:
                raise CameraError(f"camera {name} gave a frame that cannot be decoded")
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) if self.config.grey and frame.ndim == 3 else frame)
        if len(frames) == 1:
            frames = [frames[0][:, : self.size_wh[0]], frames[0][:, self.size_wh[0] :]]
        left, right = frames[::-1] if self.config.swap else frames
        return left, right

    def close(self) -> None:
        """Give the devices back."""
        for _, capture in self._devices:
            capture.release()


def is_live(name: str) -> bool:
    """True for what waits for its next frame by itself: a device or a stream, not a file."""
    return name.isdecimal() or name.startswith("/dev/") or "://" in name


def open_device(name: str) -> cv2.VideoCapture:
    """Open a device's number or path, a file or an address. Raises CameraError."""
    device_backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    if name.isdecimal():
        capture = cv2.VideoCapture(int(name), device_backend)
    else:
        capture = cv2.VideoCapture(name, device_backend if name.startswith("/dev/") else cv2.CAP_ANY)
    if not capture.isOpened():
        what = "is it plugged in, not in use, and may you read it (group video)?" if is_live(name) else "does the file exist?"
        raise CameraError(f"camera {name or '(no name)'} cannot be opened: {what}")
    return capture
