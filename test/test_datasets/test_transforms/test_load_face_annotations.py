# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Labels become ground truth."""

from __future__ import annotations

import numpy as np

from mmface.datasets.transforms import LoadFaceAnnotations


def test_load__types_and_shapes():
    results = LoadFaceAnnotations()(
        dict(
            bboxes=np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32),
            keypoints=np.ones((2, 5, 3), np.float32),
            ignore_flags=np.array([False, True]),
        )
    )
    assert results['gt_bboxes'].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert results['gt_bboxes'].dtype == results['gt_keypoints'].dtype == np.float32
    assert results['gt_bboxes_labels'].tolist() == [0, 0]
    assert results['gt_bboxes_labels'].dtype == np.int64
    assert results['gt_ignore_flags'].tolist() == [False, True]


def test_load__a_image_without_labels_has_no_faces():
    results = LoadFaceAnnotations()({})
    assert results['gt_bboxes'].shape == (0, 4)
    assert results['gt_keypoints'].shape == (0, 5, 3)
    assert results['gt_bboxes_labels'].shape == results['gt_ignore_flags'].shape == (0,)
