# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Cut squares out of images."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.datasets.transforms.scratch import Scratch


def cut_square(
    img: NDArray[np.uint8], left: int, top: int, side: int, fill: int, scratch: Scratch
) -> NDArray[np.uint8]:
    """Cut out a square that touches the image; a view of it if the square is inside.

    Args:
        img: (h, w, 3).
        left: First column; may be negative.
        top: First row; may be negative.
        side: Width and height.
        fill: Value of what lies outside of the image.
        scratch: Where the square is made if some of it lies outside.
    """
    return _cut(img, left, top, side, side, fill, scratch)


def resize_square(
    img: NDArray[np.uint8],
    left: int,
    top: int,
    side: int,
    size: int,
    fill: int,
    interpolation: int,
    scratch: Scratch,
    out: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Cut out a square and resize it: the very pixels of both steps, for less work.

    What lies outside of the image at the right and at the bottom is neither made nor resized:
    positions count from the left and top edge of the square, so nothing else depends on it.

    Args:
        img: (h, w, 3).
        left: First column of the square; may be negative.
        top: First row; may be negative.
        side: Its width and height.
        size: Width and height of the result.
        fill: Value of what lies outside of the image.
        interpolation: One of OpenCV's that reach no further than a pixel of the result:
            ``INTER_LINEAR`` or ``INTER_AREA``.
        scratch: Memory for what lies between.
        out: (size, size, 3) where the result goes.
    """
    height, width = img.shape[:2]
    # So much of the outside has an influence on pixels that are not all of it.
    margin = math.ceil(side / size) + 2
    columns, rows = (
        min(side, length - start + margin) for length, start in ((width, left), (height, top))
    )
    part = _cut(img, left, top, columns, rows, fill, scratch)
    if columns == rows == side:
        return cv2.resize(part, (size, size), out, interpolation=interpolation)
    factor = size / side
    inner = out[: max(1, round(rows * factor)), : max(1, round(columns * factor))]
    cv2.resize(part, None, inner, factor, factor, interpolation)
    out[: len(inner), inner.shape[1] :] = fill
    out[len(inner) :] = fill
    return out


def _cut(
    img: NDArray[np.uint8],
    left: int,
    top: int,
    columns: int,
    rows: int,
    fill: int,
    scratch: Scratch,
) -> NDArray[np.uint8]:
    height, width = img.shape[:2]
    right, bottom = left + columns, top + rows
    part = img[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if part.shape[:2] == (rows, columns):
        return part
    border = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    out = scratch.take(rows, columns, 3)
    return cv2.copyMakeBorder(part, *border, cv2.BORDER_CONSTANT, dst=out, value=(fill,) * 3)
