# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read an image."""

from __future__ import annotations

import mmengine.registry
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.jpeg_rows import open_image
from mmface.datasets.transforms.scratch import Scratch


@TRANSFORMS.register_module()
class LoadFaceImage(BaseTransform):
    """Read the image at ``img_path`` as uint8 BGR (h, w, 3).

    Grey images become three equal channels, alpha is dropped, and the EXIF orientation is
    applied, as OpenCV does by default. If ``img`` exists already (the user passed an array), it
    is used unchanged.

    Sets ``img``, ``img_shape`` and ``ori_shape`` (h, w), ``height`` and ``width``.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()

    def transform(self, results: dict) -> dict:
        """Read the image.

        Raises:
            FileNotFoundError: The file does not exist.
            ValueError: The file is not an image or is truncated.
        """
        if results.get('img') is None:
            results['img'] = open_image(results).decode(self._scratch)
        results['height'], results['width'] = shape = results['img'].shape[:2]
        results['img_shape'] = results['ori_shape'] = shape
        return results


# mmdet's DetInferencer replaces the step of a test pipeline whose type ends in LoadImageFromFile,
# and refuses pipelines without one. As mmface.LoadImageFromFile our class has such a name.
mmengine.registry.Registry(
    'transform', parent=mmengine.registry.TRANSFORMS, scope='mmface'
).register_module(name='LoadImageFromFile', module=LoadFaceImage)
