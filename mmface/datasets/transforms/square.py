# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Crop squares from images."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.datasets.transforms.scratch import Scratch


def cut_square(
    img: NDArray[np.uint8], left: int, top: int, side: int, fill: int, scratch: Scratch
) -> NDArray[np.uint8]:
    """Crop a square that overlaps the image. Return a view if the square is inside the image.

    Args:
        img: (h, w, 3).
        left: First column; may be negative.
        top: First row; may be negative.
        side: Width and height.
        fill: Value of the pixels outside the image.
        scratch: Memory for the square if a part of it is outside.
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
    """Crop a square and resize it. The pixels equal those of both steps, with less work.

    Pixels outside the image at the right and bottom are neither created nor resized. Coordinates
    start at the left and top edge of the square, so nothing else depends on them.

    Args:
        img: (h, w, 3).
        left: First column of the square; may be negative.
        top: First row; may be negative.
        side: Its width and height.
        size: Width and height of the result.
        fill: Value of the pixels outside the image.
        interpolation: An OpenCV interpolation that reads at most one pixel of the result
            further: ``INTER_LINEAR`` or ``INTER_AREA``.
        scratch: Memory for the intermediate image.
        out: (size, size, 3), receives the result.
    """
    height, width = img.shape[:2]
    # This many pixels outside the image influence result pixels that are partly inside.
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
