"""What is found on key frames and what is followed between them come from one encoding of the frame."""

from __future__ import annotations

import numpy as np
import oracle
import torch

from semantic_stereo_ros.models.sam2.image import Sam2Image, embedding_of
from semantic_stereo_ros.models.sam2.objects import ObjectStream, Rules
from semantic_stereo_ros.models.sam2.tracking import StreamTracker
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, find_masks
from semantic_stereo_ros.segmentation.following import Follower
from semantic_stereo_ros.types import StereoFrame, StereoRig

OPTIONS = Options(points_per_side=6, min_iou=0.8, min_stability=0.7)


def test_the_trackers_features_are_the_generators_embedding(model):
    image = oracle.textured_image(model.image_size, model.image_size)
    shared = embedding_of(model, StreamTracker(model).encode(image).maps, (256, 256))
    own = Sam2Image(model).encode(image)
    assert shared.shape_hw == own.shape_hw
    for mine, theirs in zip([shared.image, *shared.high_res], [own.image, *own.high_res], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_objects_are_found_followed_and_found_again(model):
    rig = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.1)
    single, looks = Sam2Image(model), []

    def find(rgb8: np.ndarray, features) -> torch.Tensor:
        shape = rgb8.shape[:2]
        masks = as_masks(find_masks(single, rgb8, OPTIONS, embedding_of(model, features.maps, shape)), shape)
        looks.append(len(masks))
        return masks

    stream = ObjectStream(StreamTracker(model), Rules(key_frame_interval=3, max_objects=6, lost_frames=10, drop_frames=60))
    follow = Follower(stream, model.image_size, find)
    found = []
    for i in range(4):
        image = oracle.moving_image(i)
        found.append(follow(StereoFrame(image, image, rig), None))
    keys = [{instance.source_key for instance in masks.object_instances} for masks in found]
    assert len(looks) == 2
    assert min(looks) >= 6
    assert keys[0] == {f"track:{n}" for n in range(1, 7)}
    assert len(keys[0] & keys[1] & keys[2] & keys[3]) >= 4
    assert len(follow.objects) == 6
    assert found[3].labels.shape == (240, 320)
