"""The streaming tracker against the package's own video predictor, on the same frames, prompts and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tracking_oracle
from tracking_oracle import Told

from semantic_stereo_ros.checks import ConfigError, ImageError
from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.tracking import ObjectPrompt, StreamTracker

SMALL = 128  # side of the model's image where masks may be coarse
MASK = np.zeros((200, 280), bool)
MASK[70:150, 30:110] = True


@pytest.fixture(scope="module")
def predictor(filled_state):
    return tracking_oracle.predictor(filled_state, 256)


@pytest.fixture(scope="module")
def small_predictor(filled_state):
    return tracking_oracle.predictor(filled_state, SMALL)


def stream(tracker, frames, prompts, removed=None):
    """Frame by frame, {object: (its (H, W) logits, its presence)}, as tracking_oracle.reference."""
    shape = frames[0].shape[:2]
    for i, frame in enumerate(frames):
        if removed and i in removed:
            tracker.remove([str(removed[i])])
        told = {str(k): p.ours(shape, tracker.image_size) for k, p in prompts.get(i, {}).items()}
        found = tracker.step(tracker.encode(frame), told)
        logits = F.interpolate(found.logits, shape, mode="bilinear", align_corners=False)[:, 0]
        yield {int(k): (logits[n], float(found.presence[n])) for n, k in enumerate(found.keys)}


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of the masks of two logits; two empty ones agree."""
    a, b = a > 0, b > 0
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


@dataclass
class Comparison:
    """Over all frames and objects. logits: largest difference; seen, unseen: how often the reference saw an object well, or not."""

    iou: float = 1.0
    logits: float = 0.0
    presence: float = 0.0
    seen: int = 0
    unseen: int = 0

    @property
    def equal(self) -> bool:
        return self.iou >= 0.99 and self.logits < 0.01 and self.presence < 0.01


def compare(ours, theirs) -> Comparison:
    found = Comparison()
    for frame, (mine, their) in enumerate(zip(ours, theirs, strict=True)):
        assert mine.keys() == their.keys(), f"frame {frame}"
        for key, (logits, presence) in their.items():
            found.iou = min(found.iou, iou(mine[key][0], logits))
            found.logits = max(found.logits, float((mine[key][0] - logits).abs().max()))
            found.presence = max(found.presence, abs(mine[key][1] - presence))
            area = float((logits > 0).float().mean())
            found.seen += presence > 0 and 0.002 < area < 0.7
            found.unseen += presence <= 0 and area == 0
    return found


MIRRORED = np.ascontiguousarray(MASK[:, ::-1])
BOX = Told(box=(160, 100, 240, 180), points=((200, 140),), positive=(True,))
PROMPTS = {
    0: {1: Told(points=((130, 90),), positive=(True,)), 2: BOX},
    2: {3: Told(mask=MASK), 4: Told(points=((60, 160), (75, 160), (250, 30)), positive=(True, True, False))},
    5: {1: Told(points=((150, 100), (165, 100)), positive=(True, True)), 5: Told(mask=MIRRORED, points=((200, 110),), positive=(True,))},
}
COARSE_PROMPTS = {0: {1: Told(mask=MASK), 2: BOX}, 2: {3: Told(mask=MIRRORED)}, 4: {1: Told(mask=np.roll(MASK, 40, axis=1))}}


def test_objects_that_come_and_go_are_followed_as_the_video_predictor_does(predictor, tmp_path):
    frames = tracking_oracle.as_jpegs(tracking_oracle.clip(9, 200, 280), tmp_path)
    theirs = list(tracking_oracle.reference(predictor, tmp_path, PROMPTS, removed={4: 2}))
    found = compare(stream(StreamTracker(predictor), frames, PROMPTS, removed={4: 2}), theirs)
    assert found.equal, found
    assert [sorted(objects) for objects in theirs] == [[1, 2]] * 2 + [[1, 2, 3, 4]] * 2 + [[1, 3, 4]] + [[1, 3, 4, 5]] * 4
    assert found.seen == sum(len(objects) for objects in theirs)
    for objects in theirs:
        logits = [values[0] for values in objects.values()]
        assert all(iou(a, b) < 0.9 for i, a in enumerate(logits) for b in logits[:i])


def test_what_is_remembered_decides_the_masks(small_predictor, tmp_path):
    """So these comparisons would see a memory that is missing: a frame, a prompt, or the pointers alone."""
    frames = tracking_oracle.as_jpegs(tracking_oracle.clip(9, 200, 280), tmp_path)
    theirs = list(tracking_oracle.reference(small_predictor, tmp_path, COARSE_PROMPTS))
    assert compare(stream(StreamTracker(small_predictor), frames, COARSE_PROMPTS), theirs).equal
    for memory_frames, prompt_frames in ((5, 4), (1, 4), (6, 1)):
        tracker = StreamTracker(small_predictor, memory_frames, prompt_frames)
        assert not compare(stream(tracker, frames, COARSE_PROMPTS), theirs).equal, (memory_frames, prompt_frames)
    without_pointers = StreamTracker(small_predictor)
    without_pointers._limits = *without_pointers._limits[:2], 5
    assert not compare(stream(without_pointers, frames, COARSE_PROMPTS), theirs).equal


def test_unseen_objects_are_remembered_as_the_video_predictor_does(filled_state, tmp_path):
    head = dict(filled_state)
    name = "sam_mask_decoder.pred_obj_score_head.layers.2."
    head[name + "weight"] = filled_state[name + "weight"] * 40
    head[name + "bias"] = filled_state[name + "bias"] - 6
    model = tracking_oracle.predictor(head, SMALL)
    frames = tracking_oracle.as_jpegs(tracking_oracle.clip(12, 200, 280), tmp_path)
    theirs = list(tracking_oracle.reference(model, tmp_path, COARSE_PROMPTS))
    found = compare(stream(StreamTracker(model), frames, COARSE_PROMPTS), theirs)
    assert found.equal, found
    assert found.seen >= 8
    assert found.unseen >= 8


def test_a_full_memory_forgets_as_the_video_predictor_does(small_predictor, tmp_path, monkeypatch):
    """Longer than any pointer is read, with more prompted frames than are kept."""
    frames = tracking_oracle.as_jpegs(tracking_oracle.clip(22, 200, 280), tmp_path)
    again = [{1: Told(mask=np.roll(MASK, 10 * i, axis=1))} for i in range(3)]
    prompts = {0: {**again[0], 2: BOX}, 3: again[1], 5: again[2]}
    monkeypatch.setattr(small_predictor, "max_cond_frames_in_attn", 2)
    theirs = list(tracking_oracle.reference(small_predictor, tmp_path, prompts))
    tracker = StreamTracker(small_predictor, prompt_frames=2)
    found = compare(stream(tracker, frames, prompts), theirs)
    assert found.equal, found
    assert found.seen == 44
    for bank in tracker._banks.values():
        assert len(bank.prompted) <= 2
        assert len(bank.recent) == 15
        assert sum(memory.features is not None for memory in bank.recent.values()) == 6


def test_the_first_sam_2_is_followed_too(filled_state, tmp_path):
    name = "sam2_hiera_tiny"
    state = {entry: filled_state[entry] for entry in sam2_loading.build(name, SMALL).state_dict()}
    model = tracking_oracle.predictor(state, SMALL, name)
    frames = tracking_oracle.as_jpegs(tracking_oracle.clip(8, 200, 280), tmp_path)
    theirs = list(tracking_oracle.reference(model, tmp_path, COARSE_PROMPTS))
    found = compare(stream(StreamTracker(model), frames, COARSE_PROMPTS), theirs)
    assert found.equal, found
    assert found.seen == 2 * 2 + 6 * 3


def test_all_objects_pass_together_where_their_memories_allow_it(small_predictor, monkeypatch):
    frames = tracking_oracle.clip(5, 200, 280)
    sizes: list[int] = []
    attend = small_predictor.memory_attention.forward
    monkeypatch.setattr(small_predictor.memory_attention, "forward", lambda **k: sizes.append(k["memory"].shape[1]) or attend(**k))
    prompts = {0: {i: Told(points=((30.0 * i, 60.0),), positive=(True,)) for i in range(1, 6)}}
    together = list(stream(StreamTracker(small_predictor), frames, prompts))
    assert sizes == [5] * 4
    sizes.clear()
    apart = list(stream(StreamTracker(small_predictor, objects_per_pass=2), frames, prompts))
    assert sizes == [2, 2, 1] * 4
    assert compare(together, apart).equal


def test_an_object_that_comes_later_has_its_own_times(small_predictor):
    """With one prompted frame each and full memories, objects of different age are one batch, and are what they are alone."""
    frames = tracking_oracle.clip(20, 200, 280)
    first, second = Told(points=((130, 90),), positive=(True,)), Told(mask=MASK)
    both = list(stream(StreamTracker(small_predictor), frames, {0: {1: first}, 2: {2: second}}))
    alone = list(stream(StreamTracker(small_predictor), frames[2:], {0: {2: second}}))
    assert all(torch.allclose(a[2][0], b[2][0], atol=1e-3) for a, b in zip(both[2:], alone, strict=True))


def test_wrong_numbers_and_prompts_are_named(small_predictor):
    with pytest.raises(ConfigError, match=r"remembers 1\.\.6 recent frames, got memory_frames 7"):
        StreamTracker(small_predictor, memory_frames=7)
    with pytest.raises(ConfigError, match="prompt_frames and objects_per_pass must be 1 or more, got 0 and 16"):
        StreamTracker(small_predictor, prompt_frames=0)
    tracker = StreamTracker(small_predictor)
    prompt = ObjectPrompt.at((200, 280), SMALL, [(5, 5)], [True])
    with pytest.raises(ConfigError, match="call step with its features first"):
        tracker.prompt({"a": prompt})
    with pytest.raises(ImageError, match="the image"):
        tracker.encode(np.zeros((20, 20), np.uint8))
    with pytest.raises(ConfigError, match="object a has neither points nor a mask"):
        tracker.step(tracker.encode(np.zeros((20, 20, 3), np.uint8)), {"a": ObjectPrompt()})


def test_half_precision_sees_the_same_objects(small_predictor):
    frames = tracking_oracle.clip(4, 200, 280)
    prompts = {0: {1: Told(mask=MASK), 2: BOX}}
    exact = list(stream(StreamTracker(small_predictor), frames, prompts))
    rough = list(stream(StreamTracker(small_predictor, dtype=torch.bfloat16), frames, prompts))
    assert compare(rough, exact).iou > 0.8
    assert all(values[0].dtype == torch.float32 for values in rough[-1].values())
