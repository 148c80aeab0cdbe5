# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Data-anchor sampling, which gives a random face the size of one of a list of anchors."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray

from mmface.datasets.transforms.scratch import Scratch
from mmface.structures import scale_keypoints

INTERPOLATIONS = (
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_AREA,
    cv2.INTER_NEAREST,
    cv2.INTER_LANCZOS4,
)


@TRANSFORMS.register_module()
class DataAnchorSample(BaseTransform):
    """Shrink an image so that a random face becomes as large as a random smaller anchor.

    As in chenjun2hao's CenterFace (``utils.py``) and MindSpore's (``augmentations.py``): a face
    of w x h has the side sqrt((w + 1)(h + 1)); the anchor nearest to it is the k-th; the
    target is drawn from the first min(k, ``max_choices``) anchors and the image is resized by
    target / side x 2^u, u uniform in [-1, 1], with a random interpolation.

    The crop that follows there, as ``FaceAffineCrop``, takes a share of the long side
    and resizes it to a fixed square. So the ratio has no influence on the size that faces
    get, only on the detail they are left with. Hence images are not enlarged here: pixels
    would be made only to be thrown away. What differs: the interpolation of those images is
    that of the crop alone. A ratio above 1 still counts in ``min_keypoint_area``.

    Faces to ignore are not chosen; an image without other faces is left as it is. The
    references draw from all faces, fail without one, and scale the labels in the data set
    itself, so that they drift from epoch to epoch.

    Args:
        anchors: Sides in pixels, ascending.
        max_choices: How many of the smallest anchors may be a target: 5 and 11 in the references.
        max_side: No ratio gives an image a larger area than this side squared.
        min_keypoint_area: Keypoints of faces with at most this area, in square pixels of the
            image resized by the ratio, get weight 0: 16 for chenjun2hao, 8 for MindSpore.

    Raises:
        ValueError: If the anchors are not positive and ascending, or nothing may be chosen.
    """

    def __init__(
        self,
        anchors: Sequence[float],
        max_choices: int,
        max_side: float = 12000,
        min_keypoint_area: float = 16,
    ) -> None:
        steps = np.diff([0, *anchors])
        if not len(anchors) or (steps <= 0).any():
            raise ValueError(f'anchors: expected positive ascending sides, found {anchors}')
        if max_choices < 1:
            raise ValueError(f'max_choices: expected at least 1, found {max_choices}')
        self.anchors = np.array(anchors, float)
        self.max_choices = max_choices
        self.max_side = max_side
        self.min_keypoint_area = min_keypoint_area
        self._scratch = Scratch()

    def transform(self, results: dict) -> dict:
        """Resize image, boxes and keypoints; sets ``img_shape``."""
        bboxes = results['gt_bboxes']
        learned = bboxes[~results['gt_ignore_flags']]
        if not len(learned):
            return results
        height, width = results['img'].shape[:2]
        ratio = self.draw(width, height, learned)
        interpolation = INTERPOLATIONS[np.random.randint(len(INTERPOLATIONS))]

        area = (bboxes[:, 2:] - bboxes[:, :2]).prod(axis=1) * ratio**2
        keypoints = results['gt_keypoints'].copy()
        keypoints[area <= self.min_keypoint_area, :, 2] = 0
        if ratio < 1:
            size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
            # Whole pixels: the axes may differ a little, and the labels go with the pixels.
            factor = (size[0] / width, size[1] / height)
            out = self._scratch.take(size[1], size[0], 3)
            results['img'] = cv2.resize(results['img'], size, out, interpolation=interpolation)
            results['img_shape'] = (size[1], size[0])
            results['gt_bboxes'] = bboxes * np.array(factor * 2, np.float32)
            keypoints = scale_keypoints(keypoints, factor)
        results['gt_keypoints'] = keypoints
        return results

    def draw(self, width: int, height: int, bboxes: NDArray[np.float32]) -> float:
        """Draw the ratio by which the image changes its size.

        Args:
            width: Width of the image.
            height: Height of the image.
            bboxes: (n, 4) at least one box to choose.
        """
        box = bboxes[np.random.randint(len(bboxes))]
        # A box may be inverted where labels of images of unknown size are wrong.
        side = float(np.sqrt(np.maximum(box[2:] - box[:2] + 1, 1).prod()))
        nearest = int(np.abs(self.anchors - side).argmin())
        target = self.anchors[np.random.randint(min(nearest + 1, self.max_choices))]
        ratio = target / side * 2 ** np.random.uniform(-1, 1)
        return float(min(ratio, self.max_side / np.sqrt(width * height)))
