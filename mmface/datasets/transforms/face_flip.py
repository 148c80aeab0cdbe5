# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Flip an image with its faces."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.scratch import Scratch
from mmface.structures import FLIP_INDICES_5, flip_bboxes, flip_keypoints


@TRANSFORMS.register_module()
class FaceFlip(BaseTransform):
    """Flip horizontally at random, and swap the left and right keypoints.

    Standard flips keep the order of the keypoints, which teaches a model that the left eye may
    be on the right. Coordinates refer to the edges of pixels, so x becomes width - x. The
    CenterFace projects use pixel indices and width - 1 - x. Sets ``flip`` and
    ``flip_direction``.

    Args:
        prob: Probability of a flip.
        flip_indices: Source index of each keypoint after a flip. Default ``None``: as the item
            says (``flip_indices`` of the data set), else those of the five keypoints.
    """

    def __init__(self, prob: float = 0.5, flip_indices: Sequence[int] | None = None) -> None:
        self.prob = prob
        self.flip_indices = None if flip_indices is None else tuple(flip_indices)
        self._scratch = Scratch()

    def transform(self, results: dict) -> dict:
        """Flip image, boxes and keypoints with probability ``prob``."""
        results['flip'] = bool(np.random.rand() < self.prob)
        results['flip_direction'] = 'horizontal' if results['flip'] else None
        if results['flip']:
            img = results['img']
            width = img.shape[1]
            out = self._scratch.take(*img.shape) if img.dtype == np.uint8 else None
            results['img'] = cv2.flip(img, 1, out)
            results['gt_bboxes'] = flip_bboxes(results['gt_bboxes'], width)
            indices = self.flip_indices or results.get('flip_indices', FLIP_INDICES_5)
            results['gt_keypoints'] = flip_keypoints(results['gt_keypoints'], width, indices)
        return results
