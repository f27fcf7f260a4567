"""The demo's cart passes behind the crate: exact disparity and masks, no keys; the truth says which object a mask is."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.fusion import measure as fusion
from semantic_stereo_ros.synthetic import demo_sequence
from semantic_stereo_ros.tracking.tracker import Tracker
from semantic_stereo_ros.types import Disparity, ObjectState, Segmentation

CART = 8


@pytest.fixture(scope="module")
def scenes():
    sequence = demo_sequence(90, (320, 240))
    return [sequence[i] for i in range(24, 66)]


@pytest.mark.parametrize("with_pose", [True, False])
def test_no_id_switches_and_the_cart_is_occluded_then_back(scenes, with_pose):
    tracker, id_of, cart_states = Tracker(), {}, []
    for scene in scenes:
        field = Disparity(scene.disparity_px, np.full_like(scene.disparity_px, 0.1), np.ones_like(scene.disparity_px), scene.frame.rig)
        keyed = Segmentation.from_labels(scene.instance_ids)
        truth_of = {i.label: int((i.source_key or "").removeprefix("id:")) for i in keyed.instances}
        masks = dataclasses.replace(keyed, instances=tuple(dataclasses.replace(i, source_key=None) for i in keyed.instances))
        frame = scene.frame if with_pose else dataclasses.replace(scene.frame, pose_world_camera=None)
        objects = tracker(frame, field, masks, fusion.measure(field, masks, fusion.Config()))
        for o in objects:
            if o.label is not None:
                assert id_of.setdefault(truth_of[o.label], o.object_id) == o.object_id, "an object's id changed"
        cart_states += [o.state for o in objects if o.object_id == id_of[CART]]
    assert len(set(id_of.values())) == len(id_of) == 8
    assert len(cart_states) == len(scenes)
    assert cart_states[0] == cart_states[-1] == ObjectState.VISIBLE
    assert cart_states.count(ObjectState.OCCLUDED) >= 5
