# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""SCRFD's random square crop."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from mmface.datasets.transforms.jpeg_rows import open_image
from mmface.datasets.transforms.scratch import Scratch
from mmface.datasets.transforms.square import cut_square, resize_square

TRIES_PER_SCALE = 250  # As in SCRFD.
MAX_SCALES = 50
MAX_GROWN_SCALE = 2.0


@TRANSFORMS.register_module()
class RandomSquareCrop(BaseTransform):
    """Crop a square that contains the centre of at least one face.

    The side is a random choice of ``crop_choice`` times the short side of the image. Pixels
    outside the image are filled. Along an axis on which the image is larger than the square,
    the position is uniform over the squares inside the image. Along any other axis it is uniform
    over the squares that contain the whole axis. Positions are drawn until the centre of a
    face that is not ignored is strictly inside. After 250 draws another scale is drawn (or, if no
    choice exceeds 1, the scale is multiplied by 1.2). Faces whose centre is not strictly inside
    are dropped. Order and distribution of the draws are those of SCRFD (arXiv 2105.04714,
    RandomSquareCrop of its code). That code never ends if no square is acceptable. Here, images
    without a face to learn take the first square. After 50 scales the last square is taken,
    although it contains no centre.

    Without ``LoadFaceImage`` before it, it reads the image itself and decodes only the rows down
    to the bottom of the square. A square inside the image is a view; no pixel is copied.

    Args:
        crop_choice: Sides to choose from, relative to the short side of the image.
        bbox_clip_border: Whether boxes and keypoints are clipped at the border of the square.
            Default ``None``: as the item says (``bbox_clip_border`` of the data set), else true.
        fill: Value of the pixels outside the image. 128 as in SCRFD.
        size: Side in pixels to resize the square to. The result is that of a ``FaceResize`` to
            (size, size) after this transform, but filled pixels at the right and bottom cost
            nothing. Default ``None``: no resize.
    """

    def __init__(
        self,
        crop_choice: Sequence[float],
        bbox_clip_border: bool | None = None,
        fill: int = 128,
        size: int | None = None,
    ) -> None:
        if not crop_choice or min(crop_choice) <= 0:
            raise ValueError(f'crop_choice: expected positive numbers, found {crop_choice}')
        self.crop_choice = tuple(crop_choice)
        self.bbox_clip_border = bbox_clip_border
        self.fill = fill
        self.size = size
        self._image, self._square, self._resized = Scratch(), Scratch(), Scratch()

    def transform(self, results: dict) -> dict:
        """Crop image, boxes and keypoints.

        Sets ``img_shape``, with ``size`` also ``scale_factor``, and what ``LoadFaceImage`` sets
        if that transform was not used before.

        Raises:
            FileNotFoundError: The image must be read but does not exist.
            ValueError: The image cannot be read.
        """
        image = None
        if results.get('img') is None:
            image = open_image(results)
            height, width = image.height, image.width
            results.update(height=height, width=width, ori_shape=(height, width))
        else:
            height, width = results['img'].shape[:2]
        bboxes = results['gt_bboxes']
        centres = (bboxes[:, :2] + bboxes[:, 2:]) / 2
        left, top, side = self.draw(width, height, centres[~results['gt_ignore_flags']])

        kept = _inside(centres[:, 0], centres[:, 1], left, top, side)
        for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
            results[key] = results[key][kept]
        keypoints = results['gt_keypoints'][kept]
        # Boxes and keypoints together: for few faces, the number of numpy calls is the cost.
        points = np.concatenate([bboxes[kept].reshape(-1, 2, 2), keypoints[..., :2]], axis=1)
        start = np.array((left, top), np.float32)
        clip = self.bbox_clip_border
        if results.get('bbox_clip_border', True) if clip is None else clip:
            np.maximum(points, start, out=points)
            np.minimum(points, start + side, out=points)
        points -= start
        if self.size is not None:
            points *= np.float32(self.size / side)
        results['gt_bboxes'] = points[:, :2].reshape(-1, 4)
        keypoints[..., :2] = points[:, 2:]
        results['gt_keypoints'] = keypoints

        # Pixels come last, because they evict from the cache the data of the steps above.
        if image is not None:
            results['img'] = image.decode(self._image, top + side)
        square = (results['img'], left, top, side)
        if self.size is None:
            results['img'] = cut_square(*square, self.fill, self._square)
        else:
            out = self._resized.take(self.size, self.size, 3)
            results['img'] = resize_square(
                *square, self.size, self.fill, cv2.INTER_LINEAR, self._square, out
            )
            results['scale_factor'] = (self.size / side, self.size / side)
        results['img_shape'] = results['img'].shape[:2]
        return results

    def draw(self, width: int, height: int, centres: NDArray[np.float32]) -> tuple[int, int, int]:
        """Draw a random square.

        Args:
            width: Width of the image.
            height: Height of the image.
            centres: (n, 2) x, y of the centres, one of which must be inside.

        Returns:
            left, top and side in pixels of the image; left and top may be negative.
        """
        scale = self._draw_scale()
        x, y = centres[:, 0], centres[:, 1]
        for _ in range(MAX_SCALES):
            side = max(1, int(scale * min(width, height)))
            for _ in range(TRIES_PER_SCALE):
                left, top = _draw_start(width, side), _draw_start(height, side)
                if not len(centres) or _inside(x, y, left, top, side).any():
                    return left, top, side
            if max(self.crop_choice) > 1:
                scale = self._draw_scale()
            else:
                scale = min(scale * 1.2, MAX_GROWN_SCALE)
        return left, top, side

    def _draw_scale(self) -> float:
        # Same draw as np.random.choice, which would create an array of the choices every time.
        return self.crop_choice[np.random.randint(len(self.crop_choice))]


def _draw_start(size: int, side: int) -> int:
    """Draw the start of a square along an axis. The upper bound is exclusive, as in SCRFD."""
    room = size - side
    return 0 if room == 0 else int(np.random.randint(min(room, 0), max(room, 0)))


def _inside(
    x: NDArray[np.float32], y: NDArray[np.float32], left: int, top: int, side: int
) -> NDArray[np.bool_]:
    return (x > left) & (x < left + side) & (y > top) & (y < top + side)
