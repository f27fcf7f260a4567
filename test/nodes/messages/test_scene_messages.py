"""What stereo_node and segmentation_node publish, back into types: exact where float32 allows it."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no messages to convert")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from rclpy.serialization import deserialize_message, serialize_message
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, disparity_to_message, make_header, rig_to_infos
from semantic_stereo_ros.nodes.messages.object_messages import masks_message
from semantic_stereo_ros.nodes.messages.scene_messages import LEFT_OUT, frame_of, message_to_disparity, message_to_segmentation
from semantic_stereo_ros.types import Disparity, GroundPlane, Instance, LabelLayer, Segmentation, StereoRig

HEADER = make_header(5_000_000_007, "left_optical")
RIG = StereoRig((64, 48), 100.0, 101.0, 31.5, 23.5, 0.2)


def through_dds(message):
    return deserialize_message(serialize_message(message), type(message))


def some_disparity(rig):
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 50, rig.shape).astype(np.float32)
    values[rng.random(rig.shape) < 0.2] = np.nan
    sigma = np.where(np.isnan(values), np.nan, rng.uniform(0.1, 2, rig.shape)).astype(np.float32)
    confidence = np.where(np.isnan(values), 0, rng.uniform(0, 1, rig.shape)).astype(np.float32)
    return Disparity(values, sigma, confidence, rig, min_px=-2.0, max_px=62.0)


def messages_of(disparity):
    images = [array_to_image(array, HEADER) for array in (disparity.sigma_px, disparity.confidence)]
    sigma, confidence = map(through_dds, images)
    return through_dds(disparity_to_message(disparity, HEADER)), sigma, confidence


@pytest.mark.parametrize("doffs_px", [0.0, 7.3])
def test_disparity_there_and_back(doffs_px):
    rig = dataclasses.replace(RIG, doffs_px=doffs_px)
    sent = some_disparity(rig)
    came = message_to_disparity(*messages_of(sent), rig)
    step = np.spacing(np.float32(50 + doffs_px)) if doffs_px else 0.0
    np.testing.assert_allclose(came.disparity_px, sent.disparity_px, rtol=0, atol=step)
    assert np.array_equal(came.sigma_px, sent.sigma_px, equal_nan=True) and np.array_equal(came.confidence, sent.confidence)
    assert came.rig == rig and (came.min_px, came.max_px) == (pytest.approx(-2.0, abs=1e-5), pytest.approx(62.0, abs=1e-5))


def test_confidence_that_was_not_sent_is_unknown():
    sent = some_disparity(RIG)
    message, sigma, _ = messages_of(sent)
    came = message_to_disparity(message, sigma, None, RIG)
    assert came.confidence.shape == RIG.shape and np.isnan(came.confidence).all()


def test_a_disparity_of_another_calibration_is_refused():
    message, sigma, confidence = messages_of(some_disparity(RIG))
    with pytest.raises(CalibrationError, match=r"baseline of 0.2 m, but the camera_infos of its stamp say 100 px and 0.4 m"):
        message_to_disparity(message, sigma, confidence, dataclasses.replace(RIG, baseline_m=0.4))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda message, sigma: setattr(message.image, "encoding", "16UC1"), "disparity must have the encoding 32FC1, got '16UC1'"),
        (lambda message, sigma: setattr(sigma, "width", 32), "disparity_sigma must have the rig's size"),
        (lambda message, sigma: sigma.data.pop(), "cut short"),
    ],
)
def test_impossible_disparities_are_refused(spoil, words):
    message, sigma, confidence = messages_of(some_disparity(RIG))
    spoil(message, sigma)
    with pytest.raises(ImageError, match=words):
        message_to_disparity(message, sigma, confidence, RIG)


def some_segmentation(ground):
    labels = np.zeros(RIG.shape, np.uint16)
    labels[5:20, 5:30], labels[25:40, 10:20] = 1, 65535
    parts = np.zeros(RIG.shape, np.uint16)
    parts[5:10, 5:10] = 1
    instances = (
        Instance(1, class_id=7, class_name="person", score=0.75, source_key="sam:4"),
        Instance(65535, score=0.1),
        Instance(1, layer=1, parent=1, score=0.5),
    )
    return Segmentation((LabelLayer(labels), LabelLayer(parts, "part")), instances, ground)


@pytest.mark.parametrize("ground", [None, GroundPlane(np.array([0.1, -0.98, -0.17]), 1.234567890123, 0.0123456789)])
def test_segmentation_there_and_back(ground):
    sent = some_segmentation(ground)
    came = message_to_segmentation(through_dds(masks_message(sent, HEADER)))
    assert came is not None
    assert [layer.level for layer in came.layers] == ["object", "part"]
    assert all(np.array_equal(a.labels, b.labels) and a.labels.dtype == np.uint16 for a, b in zip(came.layers, sent.layers))
    assert [dataclasses.replace(i, score=0.0) for i in came.instances] == [dataclasses.replace(i, score=0.0) for i in sent.instances]
    assert [i.score for i in came.instances] == [float(np.float32(i.score)) for i in sent.instances]
    if ground is None:
        assert came.ground is None
    else:
        assert came.ground is not None and np.array_equal(came.ground.normal, ground.normal)
        assert (came.ground.offset_m, came.ground.sigma_m) == (ground.offset_m, ground.sigma_m)


def test_a_frame_that_was_left_out_is_not_one_without_objects():
    nothing = Segmentation((LabelLayer(np.zeros(RIG.shape, np.uint16)),), ())
    assert message_to_segmentation(through_dds(masks_message(LEFT_OUT, HEADER))) is None
    assert message_to_segmentation(through_dds(masks_message(nothing, HEADER))) is not None


def test_impossible_masks_are_refused():
    message = masks_message(some_segmentation(None), HEADER)
    message.instances[0].layer = 3
    with pytest.raises(ImageError, match="layer 3, but the masks have 2"):
        message_to_segmentation(message)
    message = masks_message(some_segmentation(None), HEADER)
    message.layers[1].labels.encoding = "mono8"
    with pytest.raises(ImageError, match="layer 'part' must have the encoding mono16"):
        message_to_segmentation(message)


def test_a_frame_after_stereo_has_no_right_image_and_costs_no_memory():
    disparity = some_disparity(RIG)
    frame = frame_of(RIG, 5, disparity=disparity)
    assert frame.right_image is None and frame.left.strides == (0, 0) and not frame.left.any()
    assert frame.measured is not None and frame.measured.disparity_px is disparity.disparity_px
    left = np.full((*RIG.shape, 3), 9, np.uint8)
    assert frame_of(RIG, 5, left=left).left is left


def test_the_rig_comes_back_from_its_infos():
    from semantic_stereo_ros.nodes.messages.conversions import infos_to_rig

    rig = dataclasses.replace(RIG, doffs_px=7.3)
    came = infos_to_rig(*map(through_dds, rig_to_infos(rig, HEADER)))
    for name in ("fx", "fy", "cx", "cy", "baseline_m", "doffs_px"):
        assert getattr(came, name) == pytest.approx(getattr(rig, name), rel=1e-14)
    assert came.size_wh == rig.size_wh


def test_disparity_message_has_the_type_of_the_topic():
    assert isinstance(messages_of(some_disparity(RIG))[0], DisparityImage)
