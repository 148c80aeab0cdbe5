# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""NMS in numpy returns the results of mmcv."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.ops import nms as mmcv_nms

from mmface.deploy.runtime.nms import class_nms, nms


def crowd(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Create boxes in a small area, so that each overlaps many."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 200, (count, 2))
    sides = generator.uniform(10, 60, (count, 2))
    scores = generator.permutation(count) / count
    return np.hstack([corners, corners + sides]).astype(np.float32), scores.astype(np.float32)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('iou', [0.3, 0.45])
@pytest.mark.parametrize('count', [1, 2, 127, 128, 129, 3000])
def test_nms__equals_mmcv(count, iou, offset):
    bboxes, scores = crowd(count)
    _, expected = mmcv_nms(torch.tensor(bboxes), torch.tensor(scores), iou, offset)
    np.testing.assert_array_equal(nms(bboxes, scores, iou, offset), expected)


def test_nms__prefers_the_first_of_equal_scores():
    bboxes = np.array([[0, 0, 9, 9], [1, 0, 10, 9], [50, 0, 60, 9]], np.float32)
    assert nms(bboxes, np.full(3, 0.5, np.float32), 0.5).tolist() == [0, 2]


def test_nms__keeps_all_without_a_threshold():
    bboxes = np.zeros((3, 4), np.float32)
    assert nms(bboxes, np.array([0.1, 0.9, 0.5], np.float32), 0).tolist() == [1, 2, 0]


def test_nms__takes_none_and_boxes_without_area():
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.4).tolist() == []
    with np.errstate(all='raise'):
        kept = nms(np.ones((2, 4), np.float32), np.array([0.5, 0.6], np.float32), 0.4)
    assert kept.tolist() == [1, 0]


def test_class_nms__suppresses_each_class_apart():
    bboxes, scores = crowd(200)
    labels = np.arange(200) % 3
    kept = class_nms(bboxes, scores, labels, 0.3)
    assert (np.diff(scores[kept]) <= 0).all()
    for label in range(3):
        (index,) = np.nonzero(labels == label)
        expected = index[nms(bboxes[index], scores[index], 0.3)]
        np.testing.assert_array_equal(kept[labels[kept] == label], expected)
    np.testing.assert_array_equal(class_nms(bboxes, scores, None, 0.3), nms(bboxes, scores, 0.3))
    assert class_nms(bboxes[:0], scores[:0], labels[:0], 0.3).tolist() == []
