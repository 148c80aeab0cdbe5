# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from mmface.models import FaceDataPreprocessor
from mmface.models.task_modules.padded_ground_truth import CROWD


def build(**kwargs) -> FaceDataPreprocessor:
    return FaceDataPreprocessor(mean=[127.5] * 3, std=[128.0] * 3, **kwargs)


def make_image(height: int, width: int, value: int = 255) -> torch.Tensor:
    return torch.full((3, height, width), value, dtype=torch.uint8)


def test_forward__pads_with_zero_after_normalisation():
    sample = DetDataSample()
    out = build(pad_size=(64, 64))(dict(inputs=[make_image(40, 50)], data_samples=[sample]))
    assert out['inputs'].shape == (1, 3, 64, 64)
    assert (out['inputs'][..., :40, :50] == (255 - 127.5) / 128).all()
    assert (out['inputs'][..., 40:, :] == 0).all()
    assert (out['inputs'][..., :, 50:] == 0).all()
    assert sample.batch_input_shape == (64, 64)


def test_forward__swaps_bgr_to_rgb():
    bgr = make_image(32, 32, 0)
    bgr[0] = 255
    for swap, channel in ((True, 2), (False, 0)):
        out = build(bgr_to_rgb=swap)(dict(inputs=[bgr], data_samples=None))['inputs']
        assert (out[0, channel] > 0.9).all()
        assert (out[0, 2 - channel] < -0.9).all()


def test_forward__stacked_and_padded_ways_give_the_same_pixels():
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    stacked = build()(dict(inputs=images, data_samples=None))['inputs']
    padded = build()(dict(inputs=[*images, make_image(96, 64)], data_samples=None))['inputs']
    assert torch.equal(stacked, padded[:2, :, :64])


def test_forward__size_grows_to_the_divisor():
    out = build(pad_size_divisor=32)(
        dict(inputs=[make_image(33, 64), make_image(20, 70)], data_samples=None)
    )
    assert out['inputs'].shape == (2, 3, 64, 96)


def test_forward__labels_become_tensors():
    """Convert arrays: workers send arrays, because they cost less to transfer."""
    boxes, points = np.ones((2, 4), np.float32), torch.ones(2, 5, 3)
    sample = DetDataSample()
    sample.gt_instances = InstanceData(bboxes=boxes, keypoints=points)
    sample.ignored_instances = InstanceData(bboxes=boxes[:0])
    build()(dict(inputs=[make_image(32, 32)], data_samples=[sample]))
    assert torch.equal(sample.gt_instances.bboxes, torch.ones(2, 4))
    assert sample.gt_instances.keypoints is points
    assert sample.ignored_instances.bboxes.shape == (0, 4)


def test_forward__warns_once_of_a_crowd():
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        preprocessor = build()
        for training, faces in (
            (True, CROWD),
            (False, CROWD + 1),
            (True, CROWD + 1),
            (True, CROWD + 1),
        ):
            sample = DetDataSample(metainfo={'img_path': 'event/crowd.jpg'})
            sample.gt_instances = InstanceData(bboxes=np.ones((faces, 4), np.float32))
            preprocessor(dict(inputs=[make_image(32, 32)], data_samples=[sample]), training)
    finally:
        logger.removeHandler(handler)
    assert len(lines) == 1
    assert f'event/crowd.jpg has {CROWD + 1} labelled faces, more than {CROWD}' in lines[0]


def test_forward__image_larger_than_the_padding_is_refused():
    with pytest.raises(ValueError, match='does not fit the padded size'):
        build(pad_size=(64, 64))(dict(inputs=[make_image(65, 10)], data_samples=None))
