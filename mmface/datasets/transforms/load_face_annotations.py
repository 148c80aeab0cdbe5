# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Turn the labels of an image into the ground truth of a sample."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadFaceAnnotations(BaseTransform):
    """Copy the labels of an image to the keys that the following transforms read.

    In training it comes before the geometric transforms. In testing it comes after the resize,
    so that the ground truth stays in pixels of the image as stored. Predictions use these
    pixels too.

    Sets ``gt_bboxes`` (n, 4) float32, ``gt_bboxes_labels`` (n,) int64, ``gt_keypoints`` (n, K, 3)
    float32 and ``gt_ignore_flags`` (n,) bool. An image without labels (inference) has no faces.
    """

    def transform(self, results: dict) -> dict:
        """Add the ground truth."""
        bboxes = results.get('bboxes', np.zeros((0, 4), np.float32))
        count = len(bboxes)
        results['gt_bboxes'] = bboxes
        results['gt_bboxes_labels'] = results.get('labels', np.zeros(count, np.int64))
        results['gt_keypoints'] = results.get('keypoints', np.zeros((count, 5, 3), np.float32))
        results['gt_ignore_flags'] = results.get('ignore_flags', np.zeros(count, bool))
        return results
