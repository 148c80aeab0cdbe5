# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Any picture that OpenCV reads, as blue, green, red in 8 bits."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def as_bgr(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Give a picture as uint8 (H, W, 3), blue green red; one that is so already is not copied.

    Grey pictures (H, W) and (H, W, 1) get three equal channels, the alpha channel of (H, W, 4)
    is dropped, and of 16-bit pictures the high byte is taken, as ``cv2.imread`` does by itself.

    Args:
        image: uint8 or uint16.

    Raises:
        ValueError: If it is no array, another type or shape, or has no pixels.
    """
    if not isinstance(image, np.ndarray):
        hint = (
            'cv2.imread gives None for a file that is missing or no picture'
            if image is None
            else 'read files with cv2.imread first'
        )
        raise ValueError(f'picture: expected a numpy array, found {type(image).__name__}; {hint}')
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f'picture of shape {image.shape}: expected (height, width, 3) in the order blue, '
            'green, red, (height, width, 4) with alpha, or (height, width) for grey'
        )
    if 0 in image.shape:
        raise ValueError(f'picture of shape {image.shape}: it has no pixels')
    if image.dtype == np.uint16:
        image = (image // 256).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(
            f'picture of type {image.dtype}: expected uint8 (or uint16); multiply floats of 0 to '
            '1 by 255 and convert them with .astype(numpy.uint8)'
        )
    if image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(image[..., :3])
