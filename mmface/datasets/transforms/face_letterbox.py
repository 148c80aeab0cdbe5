# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Put an image, its ratio kept, into the middle of a black square."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.face_stretch import refuse_labels


@TRANSFORMS.register_module()
class FaceLetterbox(BaseTransform):
    """Fit an image into the middle of a black square of ``size``.

    What chenjun2hao's, Ascend's and MindSpore's CenterFace are tested with (``fix_res`` in
    ``base_detector.py``): one scale for both axes, size / long side, and fractions of
    pixels where they come. Bilinear, not antialiased. Made for testing: labels have to come
    afterwards. Sets ``img_shape`` (size, size), ``scale_factor`` (w_scale, h_scale) and
    ``pad_offset``, x and y of the image's corner in the square: a position p of the square is
    (p - pad_offset) / scale_factor in the image.

    Args:
        size: Side of the square in pixels.
        aligned: Whether positions are those of the edges of pixels, as everywhere in this
            package. ``False`` gives the very pixels of the references, which warp indices
            of pixels: the image then lies (1 - scale) / 2 px further to the right and bottom.

    Raises:
        ValueError: If there are labels already, or the square has no area.
    """

    def __init__(self, size: int, aligned: bool = True) -> None:
        if size < 1:
            raise ValueError(f'size: expected at least 1 pixel, found {size}')
        self.size = int(size)
        self.aligned = aligned

    def transform(self, results: dict) -> dict:
        """Warp the image."""
        refuse_labels(results, 'FaceLetterbox')
        height, width = results['img'].shape[:2]
        scale = self.size / max(height, width)
        offset = ((self.size - scale * width) / 2, (self.size - scale * height) / 2)
        # OpenCV maps indices, which are 1/2 less than the positions of the centres of pixels.
        shift = (scale - 1) / 2 if self.aligned else 0.0
        matrix = np.array([[scale, 0, offset[0] + shift], [0, scale, offset[1] + shift]])
        results['img'] = cv2.warpAffine(results['img'], matrix, (self.size, self.size))
        results['img_shape'] = (self.size, self.size)
        results['scale_factor'] = (scale, scale)
        results['pad_offset'] = offset
        return results
