# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Resize an image to sides that the network takes, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FaceStretch(BaseTransform):
    """Stretch each side to the next multiple of ``divisor``, as Star-Clouds' CenterFace does.

    Bilinear, not antialiased. Made for testing: labels have to come afterwards. Sets ``img_shape``
    (h, w) and ``scale_factor`` (w_scale, h_scale), which differ.

    Args:
        divisor: What both sides are multiples of afterwards.
        scale: (width, height) within which the image is fitted first, keeping the ratio of its
            sides; the larger of the two bounds the long side. Default ``None``: as it is.

    Raises:
        ValueError: If there are labels already.
    """

    def __init__(self, divisor: int = 32, scale: Sequence[int] | None = None) -> None:
        self.divisor = divisor
        self.scale = None if scale is None else (int(scale[0]), int(scale[1]))

    def transform(self, results: dict) -> dict:
        """Resize the image."""
        refuse_labels(results, 'FaceStretch')
        height, width = results['img'].shape[:2]
        fitted = (width, height)
        if self.scale is not None:
            fitted = mmcv.rescale_size(fitted, self.scale)
        columns, rows = (max(-(-side // self.divisor), 1) * self.divisor for side in fitted)
        results['img'] = mmcv.imresize(results['img'], (columns, rows), backend='cv2')
        results['img_shape'] = (rows, columns)
        results['scale_factor'] = (columns / width, rows / height)
        return results


def refuse_labels(results: dict, name: str) -> None:
    """Say that ``LoadFaceAnnotations`` comes too early in a pipeline for testing.

    Raises:
        ValueError: If there are labels already.
    """
    if isinstance(results.get('gt_bboxes'), np.ndarray):
        raise ValueError(
            f'{name} is for testing, where labels stay in pixels of the image as stored: '
            'put LoadFaceAnnotations behind it'
        )
