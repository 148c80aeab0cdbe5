# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Conversion back to the pixels of the original image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmface.deploy.runtime import Detections, Placement
from mmface.deploy.runtime.decode import to_original as to_original_in_numpy
from mmface.models.task_modules.original_image import keep_inside, to_original


def faces(keypoints: bool = True) -> InstanceData:
    generator = torch.Generator().manual_seed(0)
    found = InstanceData(bboxes=torch.rand(6, 4, generator=generator) * 200)
    if keypoints:
        found.keypoints = torch.rand(6, 5, 3, generator=generator) * 200
    return found


@pytest.mark.parametrize('offset', [None, (0.0, 0.0), (12.5, 7.25)])
@pytest.mark.parametrize('keypoints', [True, False])
def test_to_original__is_that_of_the_runtime(offset, keypoints):
    found = faces(keypoints)
    scale = (0.5, 0.75)
    arrays = Detections(
        found.bboxes.numpy(),
        np.ones(6, np.float32),
        found.keypoints[..., :2].numpy() if keypoints else None,
    )
    place = Placement(scale, offset or (0.0, 0.0), (100, 120), (128, 128))
    expected = to_original_in_numpy(arrays, place)
    weights = found.keypoints[..., 2] if keypoints else None
    back = to_original(
        found, dict(scale_factor=scale, **({'pad_offset': offset} if offset else {}))
    )
    np.testing.assert_allclose(back.bboxes, expected.bboxes, rtol=1e-6)
    x, y = offset or (0.0, 0.0)
    assert back.bboxes[0, 0] == pytest.approx((arrays.bboxes[0, 0] - x) / 0.5)
    assert back.bboxes[0, 3] == pytest.approx((arrays.bboxes[0, 3] - y) / 0.75)
    if keypoints:
        np.testing.assert_allclose(back.keypoints[..., :2], expected.keypoints, rtol=1e-6)
        assert torch.equal(back.keypoints[..., 2], weights)
    else:
        assert 'keypoints' not in back


def test_keep_inside__cuts_and_drops():
    bboxes = torch.tensor([[-5.0, -5, 10, 10], [90, 0, 130, 60], [101, 0, 110, 9], [0, 50, 9, 70]])
    found = keep_inside(InstanceData(bboxes=bboxes, scores=torch.arange(4.0)), (50, 100))
    assert found.bboxes.tolist() == [[0, 0, 10, 10], [90, 0, 100, 50]]
    assert found.scores.tolist() == [0, 1]
