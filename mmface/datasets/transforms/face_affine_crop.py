# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace's random crop, resized to a square."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.scratch import Scratch
from mmface.datasets.transforms.square import resize_square
from mmface.structures import scale_keypoints, translate_keypoints

BORDERS = (0.1, 0.2, 0.25)  # CenterNet, sample/multi_pose.py
ANTIALIAS_BELOW = 0.5  # Below this scale, bilinear interpolation skips pixels.


@TRANSFORMS.register_module()
class FaceAffineCrop(BaseTransform):
    """Crop a random square, black outside the image, and resize it to ``size``.

    The side is a random choice of ``crop_choice`` times the long side of the image. The centre
    is uniform along each axis, except for a border at both ends of the image. The border is
    0.1, 0.2 or 0.25 of the side of the square (one choice for both axes). It is halved until a
    range remains. This is the crop of the CenterFace projects (``multi_pose.py``). Their affine
    map does nothing else unless it rotates. There are two differences:

    * The square starts at a whole pixel and is resized once with ``cv2.resize``, which is
      faster and more precise than ``cv2.warpAffine``. Below half the size, by ``INTER_AREA``.
    * Coordinates refer to the edges of pixels, as everywhere in this package: a scale s
      maps x to s x. The references warp pixel indices, and the centre of a pixel is half a pixel
      further. So their content is shifted by (1 - s) / 2 px of the result against their labels.

    The square may contain no face: a crop of only background is a sample too. Boxes and
    keypoints are not clipped. Faces that are completely outside the square are dropped.

    Args:
        size: Side of the result in pixels.
        crop_choice: Sides to choose from, relative to the long side of the image.

    Raises:
        ValueError: A side is not positive.
    """

    def __init__(self, size: int, crop_choice: Sequence[float] = (1.0,)) -> None:
        if not crop_choice or min(crop_choice) <= 0:
            raise ValueError(f'crop_choice: expected positive numbers, found {crop_choice}')
        if size < 1:
            raise ValueError(f'size: expected at least 1 pixel, found {size}')
        self.size = int(size)
        self.crop_choice = tuple(crop_choice)
        self._square, self._resized = Scratch(), Scratch()

    def transform(self, results: dict) -> dict:
        """Crop and resize image, boxes and keypoints, and set ``img_shape``."""
        height, width = results['img'].shape[:2]
        left, top, side = self.draw(width, height)
        scale = self.size / side
        mode = cv2.INTER_AREA if scale < ANTIALIAS_BELOW else cv2.INTER_LINEAR
        out = self._resized.take(self.size, self.size, 3)
        square = (results['img'], left, top, side)
        results['img'] = resize_square(*square, self.size, 0, mode, self._square, out)
        results['img_shape'] = (self.size, self.size)

        start = np.array((left, top), np.float32)
        corners = (results['gt_bboxes'].reshape(-1, 2, 2) - start) * np.float32(scale)
        keypoints = translate_keypoints(results['gt_keypoints'], (-left, -top))
        seen = np.clip(corners, 0, self.size)
        wide, high = (seen[:, 1] > seen[:, 0]).T
        kept = wide & high
        results['gt_bboxes'] = corners[kept].reshape(-1, 4)
        results['gt_keypoints'] = scale_keypoints(keypoints[kept], (scale, scale))
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][kept]
        return results

    def draw(self, width: int, height: int) -> tuple[int, int, int]:
        """Draw a random square.

        Args:
            width: Width of the image.
            height: Height of the image.

        Returns:
            left, top and side in pixels of the image; left and top may be negative.
        """
        side = max(1, round(max(width, height) * np.random.choice(self.crop_choice)))
        border = side * np.random.choice(BORDERS)
        x, y = (_draw_centre(length, border) for length in (width, height))
        return x - side // 2, y - side // 2, side


def _draw_centre(length: int, border: float) -> int:
    while length - int(border) <= int(border):
        border /= 2
    return int(np.random.randint(int(border), length - int(border)))
