"""What the package's own video predictor answers for a clip on disk, with oracle's weights and any prompts, frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import oracle
from PIL import Image
from torch import Tensor

from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.tracking import ObjectPrompt

PREDICTOR = {
    "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
    # What the package's build_sam2_video_predictor sets; fill_hole_area stays 0, because it needs the CUDA extension.
    "binarize_mask_from_pts_for_mem_enc": True,
}


def predictor(state: dict[str, Tensor], image_size: int, name: str = oracle.MODEL):
    """The package's own video predictor with these weights. An image that was encoded once is not encoded again."""
    model = sam2_loading.assemble(state, name, image_size, PREDICTOR)
    encode, known = model.forward_image, {}

    def forward_image(image: Tensor) -> dict:
        key = image.numpy().tobytes()
        if key not in known:
            known[key] = encode(image)
        return {name: list(value) if isinstance(value, list) else value for name, value in known[key].items()}

    setattr(model, "forward_image", forward_image)  # noqa: B010, its type is the method's
    return model


def clip(count: int, height: int, width: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 frames: a camera that pans over oracle.textured_image."""
    image = oracle.textured_image(height + count, width + 3 * count, seed=2)
    return [np.ascontiguousarray(image[i : i + height, 3 * i : 3 * i + width]) for i in range(count)]


def as_jpegs(frames: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    """Write the frames as the package's predictor reads them; what JPEG left of them."""
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i}.jpg", quality=95)
    return [np.asarray(Image.open(folder / f"{i}.jpg").convert("RGB")) for i in range(len(frames))]


@dataclass(frozen=True)
class Told:
    """A prompt in pixels of the clip, for both."""

    points: tuple[tuple[float, float], ...] = ()
    positive: tuple[bool, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    def ours(self, shape: tuple[int, int], image_size: int) -> ObjectPrompt:
        return ObjectPrompt.at(shape, image_size, self.points, self.positive, self.box, self.mask)

    def tell(self, model, state: dict, frame: int, object_id: int) -> None:
        if self.mask is not None:
            model.add_new_mask(state, frame, object_id, self.mask)
        if self.points or self.box is not None:
            points = {"points": np.array(self.points, np.float32), "labels": np.array(self.positive, np.int32)} if self.points else {}
            model.add_new_points_or_box(state, frame, object_id, box=self.box, **points)


def reference(
    model, folder: Path, prompts: dict[int, dict[int, Told]], removed: dict[int, int] | None = None
) -> Iterator[dict[int, tuple[Tensor, float]]]:
    """Frame by frame, {object: (its (H, W) logits, its presence)}. prompts: {frame: {object: what is told}}; removed: {frame: object}."""
    removed = removed or {}
    state = model.init_state(str(folder))
    count: int = state["num_frames"]
    state["num_frames"] = 10_000  # in a short video the package reads fewer pointers, and places them otherwise
    stops: list[int] = sorted({*prompts, *removed, count})
    for start, stop in itertools.pairwise(stops):
        if start in removed:
            model.remove_object(state, removed[start], strict=True, need_output=False)
        for object_id, told in prompts.get(start, {}).items():
            told.tell(model, state, start, object_id)
        for frame, ids, logits in model.propagate_in_video(state, start, stop - 1 - start):
            yield {i: (logits[k, 0].clone(), _presence(state, k, frame)) for k, i in enumerate(ids)}


def _presence(state: dict, index: int, frame: int) -> float:
    outputs = state["output_dict_per_obj"][index]
    found = outputs["cond_frame_outputs"].get(frame) or outputs["non_cond_frame_outputs"][frame]
    return float(found["object_score_logits"])
