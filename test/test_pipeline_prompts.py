"""Prompts on their way through the pipeline to a backend that takes them, and how long they last."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.prompts import Box3dPrompt, BoxPrompt, PromptError, PromptSet
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import OrientedBox

STEP_NS = 100_000_000


@pytest.fixture(scope="module")
def truth():
    return random_sequence(21, 1, (320, 240))[0]


@pytest.fixture
def pipeline(drawn_backend):
    result = Pipeline(from_flat({"segmentation.backend": drawn_backend}))
    yield result
    result.close()


def at(truth, step: int):
    return dataclasses.replace(truth.frame, stamp_ns=step * STEP_NS)


def names(scene) -> dict[str | None, str]:
    return {i.source_key: i.class_name for i in scene.segmentation.instances}


def test_a_prompted_object_gets_its_distance_and_class(pipeline, truth):
    item = max(truth.visible_objects, key=lambda o: o.pixels)
    rows, columns = np.nonzero(truth.instance_ids == item.object_id)
    middle = [np.percentile(columns, 30), np.percentile(rows, 30), np.percentile(columns, 70), np.percentile(rows, 70)]
    x_min, y_min, x_max, y_max = (float(round(v)) for v in middle)
    pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(7, (x_min, y_min, x_max, y_max), class_name="thing"),)))
    scene = pipeline(at(truth, 1))
    scene = pipeline(at(truth, 2))
    assert names(scene) == {"prompt:7": "thing"}
    found = next(o for o in scene.objects if o.label == 1)
    assert found.class_name == "thing" and found.distance_m == pytest.approx(item.distance_m, rel=0.1)


def test_a_3d_box_reaches_the_backend_as_a_2d_one(pipeline, truth):
    rig = truth.rig
    box = OrientedBox(np.array([0.0, 0.0, 4.0]), np.array([1.0, 1.0, 0.01]), np.array([0.0, 0.0, 0.0, 1.0]))
    pipeline.segmentation.set_prompts(PromptSet((Box3dPrompt(1, box),)))
    rows, columns = np.nonzero(pipeline(at(truth, 1)).segmentation.labels)
    half = 0.5 / 3.995
    assert (columns.min(), columns.max()) == pytest.approx((rig.cx - rig.fx * half, rig.cx + rig.fx * half), abs=1)
    assert (rows.min(), rows.max()) == pytest.approx((rig.cy - rig.fy * half, rig.cy + rig.fy * half), abs=1)


def test_prompts_last_until_the_stream_breaks(pipeline, truth):
    pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(1, (10, 10, 60, 60)),)))
    assert names(pipeline(at(truth, 10))) and names(pipeline(at(truth, 11)))
    assert not names(pipeline(at(truth, 1))) and pipeline.segmentation.prompts.object_ids == ()


def test_prompts_set_before_a_new_stream_are_for_it(pipeline, truth):
    pipeline(at(truth, 10))
    pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(1, (10, 10, 60, 60)),)))
    assert names(pipeline(at(truth, 1)))


def test_prompts_that_do_not_fit_are_refused_and_the_old_ones_stay(pipeline, truth):
    pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(1, (10, 10, 60, 60)),)))
    pipeline(at(truth, 1))
    pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(2, (1000, 10, 1060, 60)),)))
    with pytest.raises(PromptError, match="outside the 320x240 image"):
        pipeline(at(truth, 2))
    assert names(pipeline(at(truth, 3))).keys() == {"prompt:1"}


def test_prompts_go_on_with_another_backend_that_takes_some(pipeline, truth):
    pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(1, (10, 10, 60, 60)),)))
    pipeline(at(truth, 1))
    pipeline.reconfigure(from_flat({"segmentation.backend": "drawn", "segmentation.drawn.radius_px": 3}))
    assert names(pipeline(at(truth, 2)))
    pipeline.reconfigure(from_flat({"segmentation.backend": "geometric"}))
    pipeline(at(truth, 3))
    assert pipeline.segmentation.prompts.object_ids == ()
    with pytest.raises(PromptError, match=r"'geometric' takes no prompts; choose segmentation\.backend .*drawn"):
        pipeline.segmentation.set_prompts(PromptSet((BoxPrompt(1, (10, 10, 60, 60)),)))
