"""A stream of any length takes no more memory: neither tensors nor pages. Objects come and go on the way."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
import tracking_oracle

from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.objects import ObjectStream, Rules
from semantic_stereo_ros.models.sam2.tracking import ObjectPrompt, StreamTracker
from semantic_stereo_ros.types import ObjectState

SHAPE = (60, 80)
PERIOD = 12  # of what is told and found, frames


def tensors() -> tuple[int, int]:
    """(number, bytes) of all tensors alive."""
    gc.collect()
    alive = {id(x): x.numel() * x.element_size() for x in gc.get_objects() if issubclass(type(x), torch.Tensor)}
    return len(alive), sum(alive.values())


def resident_bytes() -> int:
    """Pages of this process in memory that no file backs."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this kernel does not tell")


def run(model, frames: int, sample):
    """Per period one look finds an object, one prompt comes and goes; sample() at the end of each."""
    stream = ObjectStream(
        StreamTracker(model, prompt_frames=2), Rules(key_frame_interval=PERIOD, max_objects=3, lost_frames=10, drop_frames=1)
    )
    images = tracking_oracle.clip(PERIOD, *SHAPE)
    samples, states = [], set()
    for i in range(frames):
        column = 4 * (i // PERIOD % 13)
        mask = torch.zeros(1, *SHAPE, dtype=torch.bool)
        mask[0, 20:40, column : column + 24] = True
        point = ObjectPrompt.at(SHAPE, model.image_size, [(40, 30)], [True])
        told = {"prompt:1": point, "prompt:2": point} if i % PERIOD == 3 else None
        followed = stream(images[i % PERIOD], told, lambda _, m=mask: m)
        states |= {o.state for o in followed.objects}
        if i % PERIOD == 5:
            stream.remove(["prompt:2"])
        if i % PERIOD == PERIOD - 1:
            stream.remove([o.key for o in followed.objects if o.key.startswith("track:")][:1])
            samples.append(sample())
    return samples, states


def test_no_tensor_more_than_after_the_first_frames(filled_state):
    model = sam2_loading.assemble(filled_state, oracle.MODEL, 64)
    samples, states = run(model, 5 * PERIOD, tensors)
    assert ObjectState.VISIBLE in states
    assert len(set(samples[2:])) == 1, samples


@pytest.mark.long
def test_resident_memory_does_not_grow_over_300_frames(filled_state):
    model = sam2_loading.assemble(filled_state, oracle.MODEL, 128)
    samples, _ = run(model, 300, resident_bytes)
    frames = PERIOD * np.arange(len(samples))
    warm = frames >= 60
    slope = np.polyfit(frames[warm], np.array(samples)[warm], 1)[0]
    assert slope < 0.1e6, (slope, samples)
