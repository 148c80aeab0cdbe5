# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadFaceImage(BaseTransform):
    """Read the picture at ``img_path`` as uint8 BGR (h, w, 3).

    Grey pictures become three equal channels, alpha is left out, and the orientation in the
    EXIF data is applied, as OpenCV does by default. If ``img`` is there already (a user gave
    an array), it is taken as it is.

    Sets ``img``, ``img_shape`` and ``ori_shape`` (h, w), ``height`` and ``width``.
    """

    def transform(self, results: dict) -> dict:
        """Read the picture.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no picture or ends too early.
        """
        if results.get('img') is None:
            results['img'] = _read(results['img_path'])
        results['height'], results['width'] = shape = results['img'].shape[:2]
        results['img_shape'] = results['ori_shape'] = shape
        return results


def _read(path: str) -> np.ndarray:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'the picture {path} does not exist. Check the data path, or make the data '
            'again with tools/data/prepare_widerface.py'
        )
    data = np.fromfile(path, dtype=np.uint8)
    # From memory OpenCV refuses a truncated JPEG; from a file it would give a picture that
    # is grey from some row on.
    img = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if img is None:
        raise ValueError(
            f'the picture {path} ({data.size} bytes) cannot be read: it is truncated or not a '
            'picture. Get the file again, or take it out of the labels'
        )
    return img
