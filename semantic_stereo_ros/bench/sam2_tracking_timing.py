"""The streaming tracker and the package's own video predictor, side by side: what bench_sam2_tracking measures."""

from __future__ import annotations

import contextlib
import io
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from semantic_stereo_ros.bench.random_weights import random_weights
from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.objects import paint
from semantic_stereo_ros.models.sam2.tracking import ObjectPrompt, StreamTracker, normalised

MODEL = "sam2.1_hiera_tiny"
SHAPE = (480, 640)
OBJECTS = (1, 4)
WARM_FRAMES = 16  # then memories are full
PREDICTOR = {"_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor", "binarize_mask_from_pts_for_mem_enc": True}


def measure(repeats: int) -> dict[str, Any]:
    """See bench_sam2_tracking.run. Raises MissingDependencyError without the package."""
    gpu = torch.cuda.is_available()
    size, rounds = (1024, repeats) if gpu else (256, max(3, repeats // 5))
    device, dtype = torch.device("cuda" if gpu else "cpu"), torch.bfloat16 if gpu else torch.float32
    state = random_weights(sam2_loading.build(MODEL, size, PREDICTOR).state_dict())
    model: Any = sam2_loading.assemble(state, MODEL, size, PREDICTOR).to(device)
    frames = _frames(WARM_FRAMES + rounds)
    result: dict[str, Any] = {"name": "sam2_tracking", "model": MODEL, "image_size": size, "device": str(device), "rounds": rounds}
    for objects in OBJECTS:
        result[f"objects_{objects}"] = _race(model, frames, objects, dtype)
    return result


def _frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    image = np.kron(rng.integers(0, 255, (SHAPE[0] // 16, SHAPE[1] // 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    return [np.roll(image, 2 * i, axis=1) for i in range(count)]


def _race(model: Any, frames: list[np.ndarray], objects: int, dtype: torch.dtype) -> dict[str, Any]:
    boxes = [(40.0 + 140 * i, 100.0, 150.0 + 140 * i, 300.0) for i in range(objects)]
    state = _predictor_state(model, frames)
    racers = {"tracker": _tracker(model, frames, boxes, dtype), "predictor": _predictor(model, state, boxes, dtype)}
    seconds: dict[str, list[float]] = {name: [] for name in racers}
    held: dict[str, list[int]] = {name: [] for name in racers}
    for _ in frames:
        for name, racer in racers.items():
            start = time.perf_counter()
            held[name].append(next(racer))
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    ms = {name: 1e3 * float(np.median(values[WARM_FRAMES:])) for name, values in seconds.items()}
    growth = {name: (values[-1] - values[WARM_FRAMES]) / (len(frames) - 1 - WARM_FRAMES) for name, values in held.items()}
    growth["predictor"] += sum(image.numel() * image.element_size() for image in state["images"]) / len(frames)
    return {
        "ms_per_frame": ms,
        "predictor_to_tracker": ms["predictor"] / ms["tracker"],
        "bytes_per_further_frame": growth,
        "tracker_bytes_per_object": held["tracker"][-1] / objects,
    }


def _tracker(model: Any, frames: list[np.ndarray], boxes: list[tuple], dtype: torch.dtype) -> Iterator[int]:
    """A frame at each step; the bytes held after it."""
    tracker = StreamTracker(model, dtype=dtype)
    prompts = {str(i): ObjectPrompt.at(SHAPE, model.image_size, box_xyxy=box) for i, box in enumerate(boxes)}
    for i, frame in enumerate(frames):
        paint(tracker.step(tracker.encode(frame), prompts if i == 0 else None), SHAPE)
        yield tracker.memory_bytes


def _predictor_state(model: Any, frames: list[np.ndarray]) -> dict[str, Any]:
    """What the predictor's init_state makes of a folder of these frames."""
    by_object = ("point_inputs_per_obj", "mask_inputs_per_obj", "output_dict_per_obj", "temp_output_dict_per_obj", "frames_tracked_per_obj")
    return {
        "images": [normalised(frame, model.image_size, model.device)[0] for frame in frames],
        "num_frames": len(frames),
        "offload_video_to_cpu": False,
        "offload_state_to_cpu": False,
        "video_height": SHAPE[0],
        "video_width": SHAPE[1],
        "device": model.device,
        "storage_device": torch.device(model.device),
        "cached_features": {},
        "constants": {},
        "obj_id_to_idx": OrderedDict(),
        "obj_idx_to_id": OrderedDict(),
        "obj_ids": [],
        **{name: {} for name in by_object},
    }


def _predictor(model: Any, state: dict[str, Any], boxes: list[tuple], dtype: torch.dtype) -> Iterator[int]:
    """A frame at each step; the bytes of all outputs that are kept."""

    def arithmetic():
        return torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)

    with torch.inference_mode(), arithmetic(), contextlib.redirect_stderr(io.StringIO()):
        for i, box in enumerate(boxes):
            model.add_new_points_or_box(state, 0, i, box=box)
        propagation = model.propagate_in_video(state)
    while True:
        with torch.inference_mode(), arithmetic(), contextlib.redirect_stderr(io.StringIO()):
            _, _, logits = next(propagation)
            (logits > 0).cpu()
        yield _held(state)


def _held(state: dict[str, Any]) -> int:
    names = ("maskmem_features", "pred_masks", "obj_ptr", "object_score_logits")
    outputs = [out for both in state["output_dict_per_obj"].values() for kind in both.values() for out in kind.values()]
    return sum(out[name].numel() * out[name].element_size() for out in outputs for name in names)
