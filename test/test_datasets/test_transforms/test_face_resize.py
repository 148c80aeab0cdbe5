# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Resizing: sizes, factors, boxes and keypoints."""

from __future__ import annotations

import numpy as np
import pytest

from mmface.datasets.transforms import FaceResize


def make_results(height, width) -> dict:
    return dict(
        img=np.full((height, width, 3), 7, np.uint8),
        gt_bboxes=np.array([[-4, 8, 40, 1000]], np.float32),
        gt_keypoints=np.array([[[10, 20, 1], [-1, -1, 0]]], np.float32),
    )


@pytest.mark.parametrize(
    ('height', 'width', 'shape'),
    [
        (1385, 1024, (640, 473)),  # 1024 * 640 / 1385 = 473.18
        (678, 1024, (424, 640)),  # 678 * 640 / 1024 = 423.75
        (577, 1024, (361, 640)),  # 360.625: rounded, while a plain int() gives 360
        (100, 100, (640, 640)),
        (3, 4000, (1, 640)),  # 0.48: never 0
    ],
)
def test_keep_ratio__sides_are_rounded(height, width, shape):
    results = FaceResize((640, 640), keep_ratio=True)(make_results(height, width))
    assert results['img'].shape[:2] == results['img_shape'] == shape
    assert results['scale_factor'] == (shape[1] / width, shape[0] / height)


def test_keep_ratio__long_and_short_bound():
    # 1100 x 1650 in either order: factor min(1650 / 1024, 1100 / 768).
    for scale in ((1650, 1100), (1100, 1650)):
        results = FaceResize(scale, keep_ratio=True)(make_results(768, 1024))
        assert results['img_shape'] == (1100, 1467)


def test_resize__each_axis_has_its_factor():
    results = FaceResize((200, 50))(make_results(100, 100))
    assert results['scale_factor'] == (2.0, 0.5)
    assert results['gt_bboxes'].tolist() == [[-8, 4, 80, 500]]
    assert results['gt_keypoints'].tolist() == [[[20, 10, 1], [-2, -0.5, 0]]]
    assert results['gt_bboxes'].dtype == results['gt_keypoints'].dtype == np.float32


def test_resize__cuts_at_the_border_on_request():
    results = FaceResize((200, 50), bbox_clip_border=True)(make_results(100, 100))
    assert results['gt_bboxes'].tolist() == [[0, 4, 80, 50]]
    assert results['gt_keypoints'].tolist() == [[[20, 10, 1], [0, 0, 0]]]


def test_resize__image_alone():
    results = FaceResize((20, 10))(dict(img=np.zeros((5, 5, 3), np.uint8)))
    assert results['img'].shape == (10, 20, 3)
