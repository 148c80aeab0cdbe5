# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read a picture."""

from __future__ import annotations

import contextlib
import os

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmface.datasets.transforms.scratch import Scratch

READS_INTO = 'dst' in (cv2.imread.__doc__ or '')  # OpenCV 4.11 and older do not.
END_OF_JPEG = b'\xff\xd9'  # A truncated file does not end with it.


@TRANSFORMS.register_module()
class LoadFaceImage(BaseTransform):
    """Read the picture at ``img_path`` as uint8 BGR (h, w, 3).

    Grey pictures become three equal channels, alpha is left out, and the orientation in the
    EXIF data is applied, as OpenCV does by default. If ``img`` is there already (a user gave
    an array), it is taken as it is.

    A JPEG file whose size is known (``height`` and ``width`` of the item) is decoded straight into
    its array.

    Sets ``img``, ``img_shape`` and ``ori_shape`` (h, w), ``height`` and ``width``.
    """

    def __init__(self) -> None:
        self._scratch = Scratch()

    def transform(self, results: dict) -> dict:
        """Read the picture.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no picture or ends too early.
        """
        if results.get('img') is None:
            size = results.get('height') or 0, results.get('width') or 0
            results['img'] = _read(results['img_path'], *size, self._scratch)
        results['height'], results['width'] = shape = results['img'].shape[:2]
        results['img_shape'] = results['ori_shape'] = shape
        return results


def _read(path: str, height: int, width: int, scratch: Scratch) -> np.ndarray:
    """Read a picture whose size the labels say; 0 or a wrong size only takes longer."""
    try:
        with open(path, 'rb', buffering=0) as file:  # noqa: PTH123, ten times as fast
            file.seek(-len(END_OF_JPEG), os.SEEK_END)
            whole = file.read() == END_OF_JPEG
    except FileNotFoundError:
        raise FileNotFoundError(
            f'the picture {path} does not exist. Check the data path, or make the data '
            'again with tools/data/prepare_widerface.py'
        ) from None
    except OSError:  # too short to seek
        whole = False
    if whole and height and width and READS_INTO and path.isascii():
        # Without a place for the pixels OpenCV makes one of its own and copies from there. It
        # refuses one of another size: the labels are wrong, or the picture is stored turned.
        with contextlib.suppress(cv2.error):
            img = cv2.imread(path, scratch.take(height, width, 3), cv2.IMREAD_COLOR)
            if img is not None:
                return img
    # From memory OpenCV refuses a truncated JPEG; from a file it would give a picture that
    # is grey from some row on.
    data = np.fromfile(path, dtype=np.uint8)
    img = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if img is None:
        raise ValueError(
            f'the picture {path} ({data.size} bytes) cannot be read: it is truncated or not a '
            'picture. Get the file again, or take it out of the labels'
        )
    return img
