# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Letterbox an image: fit it into the middle of a black square and keep its aspect ratio."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.face_stretch import refuse_labels


@TRANSFORMS.register_module()
class FaceLetterbox(BaseTransform):
    """Fit an image into the middle of a black square of ``size``.

    The CenterFace of chenjun2hao, Ascend and MindSpore is tested with this (``fix_res`` in
    ``base_detector.py``). Both axes have the same scale, size / long side, and the offset may
    be a fraction of a pixel. Bilinear, without antialiasing. It is for testing: labels must be
    loaded after it. Sets ``img_shape`` (size, size), ``scale_factor`` (w_scale, h_scale) and
    ``pad_offset``, the x and y of the image's top-left corner in the square. A position p in the
    square is (p - pad_offset) / scale_factor in the image.

    Args:
        size: Side of the square in pixels.
        aligned: Whether coordinates refer to the edges of pixels, as everywhere in this
            package. ``False`` gives exactly the pixels of the references, which warp pixel
            indices: the image is then shifted (1 - scale) / 2 px to the right and bottom.

    Raises:
        ValueError: Labels are loaded already, or the square has no area.
    """

    def __init__(self, size: int, aligned: bool = True) -> None:
        if size < 1:
            raise ValueError(f'size: expected at least 1 pixel, found {size}')
        self.size = int(size)
        self.aligned = aligned

    def transform(self, results: dict) -> dict:
        """Letterbox the image."""
        refuse_labels(results, 'FaceLetterbox')
        height, width = results['img'].shape[:2]
        scale = self.size / max(height, width)
        offset = ((self.size - scale * width) / 2, (self.size - scale * height) / 2)
        # OpenCV maps pixel indices, which are 1/2 less than the coordinates of pixel centres.
        shift = (scale - 1) / 2 if self.aligned else 0.0
        matrix = np.array([[scale, 0, offset[0] + shift], [0, scale, offset[1] + shift]])
        results['img'] = cv2.warpAffine(results['img'], matrix, (self.size, self.size))
        results['img_shape'] = (self.size, self.size)
        results['scale_factor'] = (scale, scale)
        results['pad_offset'] = offset
        return results
