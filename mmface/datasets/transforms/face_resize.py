# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Resize image, boxes and keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.scratch import Scratch
from mmface.structures import clip_points, scale_keypoints


@TRANSFORMS.register_module()
class FaceResize(BaseTransform):
    """Resize with bilinear interpolation, without antialiasing, as SCRFD was trained and tested.

    With ``keep_ratio`` the image becomes as large as fits into ``scale``, and each side is
    int(side * factor + 0.5). Sets ``img_shape`` (h, w) and ``scale_factor`` (w_scale, h_scale).
    The two scales may differ slightly because sides are whole pixels.

    Args:
        scale: (width, height) in pixels. With ``keep_ratio`` the larger value limits the long
            side and the smaller value the short side.
        keep_ratio: Whether to keep the aspect ratio.
        bbox_clip_border: Whether to clip boxes and keypoints at the border of the image. This
            has no effect after a crop that clips them.
    """

    def __init__(
        self, scale: Sequence[int], keep_ratio: bool = False, bbox_clip_border: bool = False
    ) -> None:
        self.scale = (int(scale[0]), int(scale[1]))
        self.keep_ratio = keep_ratio
        self.bbox_clip_border = bbox_clip_border
        self._scratch = Scratch()

    def transform(self, results: dict) -> dict:
        """Resize the image and, if there are any, boxes and keypoints."""
        height, width = results['img'].shape[:2]
        size = self.scale
        if self.keep_ratio:
            fitted = mmcv.rescale_size((width, height), size)
            size = (max(fitted[0], 1), max(fitted[1], 1))
        img = results['img']
        # Outside training, images may have other types: arrays that users pass.
        out = self._scratch.take(size[1], size[0], 3) if img.dtype == np.uint8 else None
        results['img'] = cv2.resize(img, size, out, interpolation=cv2.INTER_LINEAR)
        results['img_shape'] = (size[1], size[0])
        results['scale_factor'] = factor = (size[0] / width, size[1] / height)
        if 'gt_bboxes' in results:
            bboxes = results['gt_bboxes'] * np.array(factor * 2, np.float32)
            keypoints = scale_keypoints(results['gt_keypoints'], factor)
            if self.bbox_clip_border:
                bboxes = clip_points(bboxes.reshape(-1, 2, 2), (0, 0), size).reshape(-1, 4)
                keypoints[..., :2] = clip_points(keypoints[..., :2], (0, 0), size)
            results['gt_bboxes'] = bboxes
            results['gt_keypoints'] = keypoints
        return results
