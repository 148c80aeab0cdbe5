# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import pytest
import torch
from mmengine.structures import InstanceData

from mmface.models.task_modules.padded_ground_truth import bucket_size, pack_ground_truth

CPU = torch.device('cpu')


def faces(count: int, points: int | None = None) -> InstanceData:
    instances = InstanceData(
        bboxes=torch.rand(count, 4) + 1, labels=torch.zeros(count, dtype=torch.long)
    )
    if points is not None:
        instances.keypoints = torch.rand(count, points, 3)
    return instances


@pytest.mark.parametrize(
    ('count', 'size'), [(0, 32), (1, 32), (32, 32), (33, 64), (2048, 2048), (2500, 4096)]
)
def test_bucket_size__doubles_without_end(count, size):
    assert bucket_size(count) == size


def test_pack__keeps_every_face_and_marks_padding():
    batch = [faces(0, 5), faces(3, 5), faces(33, 5)]
    packed = pack_ground_truth(batch, CPU, num_keypoints=5)
    assert packed.bboxes.shape == (3, 64, 4)
    assert packed.keypoints is not None
    assert packed.keypoints.shape == (3, 64, 5, 3)
    assert packed.mask.sum(1).tolist() == [0, 3, 33]
    torch.testing.assert_close(packed.bboxes[1, :3], batch[1].bboxes)
    torch.testing.assert_close(packed.keypoints[2, :33], batch[2].keypoints)
    assert not packed.bboxes[~packed.mask].any()


def test_pack__without_keypoints():
    assert pack_ground_truth([faces(2)], CPU).keypoints is None


@pytest.mark.parametrize('points', [None, 4])
def test_pack__missing_keypoints_are_named(points):
    with pytest.raises(ValueError, match='predicts 5 keypoints'):
        pack_ground_truth([faces(2, points)], CPU, num_keypoints=5)
