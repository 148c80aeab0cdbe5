# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Resize an image to sides that the network accepts, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.utils.images import check_limit, shrinkage


@TRANSFORMS.register_module()
class FaceStretch(BaseTransform):
    """Stretch each side to the next multiple of ``divisor``, as Star-Clouds' CenterFace does.

    Bilinear, without antialiasing. It is for testing: labels must be loaded after it. Sets
    ``img_shape`` (h, w) and ``scale_factor`` (w_scale, h_scale), which differ.

    Args:
        divisor: Both sides of the result are multiples of this.
        scale: (width, height) into which the image is fitted first, with its aspect ratio.
            The larger value limits the long side. Default ``None``: the size is kept.
        max_pixels: Larger images are shrunk to about this number of pixels, as ``FaceDetector``
            does. ``None``: no limit.

    Raises:
        ValueError: Labels are loaded already.
    """

    def __init__(
        self,
        divisor: int = 32,
        scale: Sequence[int] | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.divisor = divisor
        self.scale = None if scale is None else (int(scale[0]), int(scale[1]))
        check_limit(max_pixels)
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        """Resize the image."""
        refuse_labels(results, 'FaceStretch')
        height, width = results['img'].shape[:2]
        fitted = (width, height)
        if self.scale is not None:
            fitted = mmcv.rescale_size(fitted, self.scale)
        shrink = shrinkage(fitted[0] * fitted[1], self.max_pixels)
        fitted = (round(fitted[0] * shrink), round(fitted[1] * shrink))
        columns, rows = (max(-(-side // self.divisor), 1) * self.divisor for side in fitted)
        results['img'] = mmcv.imresize(results['img'], (columns, rows), backend='cv2')
        results['img_shape'] = (rows, columns)
        results['scale_factor'] = (columns / width, rows / height)
        return results


def refuse_labels(results: dict, name: str) -> None:
    """Check that a pipeline for testing does not call ``LoadFaceAnnotations`` too early.

    Raises:
        ValueError: Labels are loaded already.
    """
    if isinstance(results.get('gt_bboxes'), np.ndarray):
        raise ValueError(
            f'{name} is for testing, where labels stay in pixels of the image as stored: '
            'put LoadFaceAnnotations after it'
        )
