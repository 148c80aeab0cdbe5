# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Data-anchor sampling, which scales a random face to the size of an anchor from a list."""

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

    This follows chenjun2hao's CenterFace (``utils.py``) and MindSpore's (``augmentations.py``).
    A face of w x h has the side sqrt((w + 1)(h + 1)). The anchor nearest to it is the k-th. The
    target is drawn from the first min(k, ``max_choices``) anchors. The image is resized by
    target / side x 2^u, u uniform in [-1, 1], with a random interpolation.

    The crop that follows in the references, as in ``FaceAffineCrop``, takes a fraction of the
    long side and resizes it to a fixed square. So the ratio does not change the final size of
    the faces, only their detail. Therefore images are not enlarged here: the extra pixels would
    be discarded again. The only difference: those images are interpolated by the crop alone. A
    ratio above 1 still counts for ``min_keypoint_area``.

    Faces to ignore are not chosen. An image without other faces is not changed. The references
    draw from all faces and fail if there is none. They also scale the labels inside the data
    set, so that the labels drift from epoch to epoch.

    Args:
        anchors: Sides in pixels, ascending.
        max_choices: Number of the smallest anchors that may be a target. The references use 5
            and 11.
        max_side: The ratio is limited so that the image area is at most this side squared.
        min_keypoint_area: Keypoints of faces with at most this area get weight 0. The area is in
            square pixels of the image resized by the ratio: 16 for chenjun2hao, 8 for MindSpore.

    Raises:
        ValueError: The anchors are not positive and ascending, or ``max_choices`` is below 1.
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
        """Resize image, boxes and keypoints, and set ``img_shape``."""
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
            # Sides are whole pixels: the two factors may differ slightly. Labels use both.
            factor = (size[0] / width, size[1] / height)
            out = self._scratch.take(size[1], size[0], 3)
            results['img'] = cv2.resize(results['img'], size, out, interpolation=interpolation)
            results['img_shape'] = (size[1], size[0])
            results['gt_bboxes'] = bboxes * np.array(factor * 2, np.float32)
            keypoints = scale_keypoints(keypoints, factor)
        results['gt_keypoints'] = keypoints
        return results

    def draw(self, width: int, height: int, bboxes: NDArray[np.float32]) -> float:
        """Draw the resize ratio of the image.

        Args:
            width: Width of the image.
            height: Height of the image.
            bboxes: (n, 4) boxes to choose from, at least one.
        """
        box = bboxes[np.random.randint(len(bboxes))]
        # A box may be inverted if labels are wrong and the size of the image is unknown.
        side = float(np.sqrt(np.maximum(box[2:] - box[:2] + 1, 1).prod()))
        nearest = int(np.abs(self.anchors - side).argmin())
        target = self.anchors[np.random.randint(min(nearest + 1, self.max_choices))]
        ratio = target / side * 2 ** np.random.uniform(-1, 1)
        return float(min(ratio, self.max_side / np.sqrt(width * height)))
