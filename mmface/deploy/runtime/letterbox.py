# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Fit images into the input of a network, and record their positions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.deploy.model_spec import ModelSpec
from mmface.utils.images import as_bgr, shrinkage

LETTERBOXES = ('exact', 'insightface')
CANVASES = ('full', 'tight')
MIN_DIVISOR = 32
_WARP_LIMIT = 32767  # cv2.warpAffine stores pixel coordinates in 16 bits


class Placement(NamedTuple):
    """Position of an image in the network's input.

    The point p of the input is (p - offset) / scale in the original image, separately for x and y.

    Attributes:
        scale: Input pixels per pixel of the image, x and y.
        offset: Position of the image's top-left corner in the input, x and y.
        content: Height and width of the part of the input that is not padding, from its top-left
            corner. Boxes can be clipped to it. With 'centre' it is the whole input.
        size: Height and width of the input.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    content: tuple[int, int]
    size: tuple[int, int]

    @property
    def original(self) -> tuple[int, int]:
        """Return height and width of the original image."""
        height, width = (
            (side - 2 * start) / factor
            for side, start, factor in zip(
                self.content, self.offset[::-1], self.scale[::-1], strict=True
            )
        )
        return round(height), round(width)


def place(
    image: NDArray[np.generic],
    spec: ModelSpec,
    size: tuple[int, int] | None = None,
    letterbox: str = 'exact',
    canvas: str = 'full',
    max_pixels: int | None = None,
) -> tuple[NDArray[np.uint8], Placement]:
    """Resize an image as the model needs it.

    Args:
        image: See ``as_bgr``.
        spec: Only ``resize`` and ``strides`` are used.
        size: Height and width of the input; default ``spec.size``. (0, 0): the size of the image,
            rounded up to multiples of 32 (or of the largest stride).
        letterbox: 'exact', as ``tools/test.py`` tests the model, or 'insightface', as that package
            does: sizes are rounded down, and the scale of the height is used for both axes.
        canvas: 'full', or 'tight' to pad only to the next multiples of 32 ('keep_ratio' only).
        max_pixels: If the input has the size of the image, larger images are shrunk to about this
            number of pixels. ``None``: no limit.

    Returns:
        Pixels uint8 (h, w, 3), blue green red, for the top-left corner of the input, where (h, w)
        is ``Placement.content``, and the placement.

    Raises:
        ValueError: The input is not an image, or an option is unknown.
    """
    _check('letterbox', letterbox, LETTERBOXES)
    _check('canvas', canvas, CANVASES)
    pixels = as_bgr(image)
    height, width = pixels.shape[:2]
    divisor = size_divisor(spec)
    size = spec.size if size is None else size
    as_is = size == (0, 0)
    shrink = 1.0
    if as_is:
        shrink = shrinkage(height * width, max_pixels)
        rows, columns = (max(round(side * shrink), 1) for side in (height, width))
        size = (_round_up(rows, divisor), _round_up(columns, divisor))
    if spec.resize == 'stretch':
        scale = (size[1] / width, size[0] / height)
        return _resize(pixels, size), Placement(scale, (0.0, 0.0), size, size)
    factor = shrink if as_is else min(size[1] / width, size[0] / height)
    if spec.resize == 'centre':
        return _centre(pixels, size, factor)
    if letterbox == 'insightface':
        content = _insightface_content(height, width, size)
        scale = (content[0] / height,) * 2
    else:
        content = (max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1))
        scale = (content[1] / width, content[0] / height)
    if canvas == 'tight':
        size = (_round_up(content[0], divisor), _round_up(content[1], divisor))
    return _resize(pixels, content), Placement(scale, (0.0, 0.0), content, size)


def to_blob(
    contents: Sequence[NDArray[np.uint8]],
    placements: Sequence[Placement],
    spec: ModelSpec,
    letterbox: str = 'exact',
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Build a normalized batch from placed images whose inputs have the same size.

    The padding is 0 after normalization with the letterbox 'exact' and black with 'insightface'.

    Args:
        contents: Pixels from ``place``.
        placements: Placements from ``place``.
        spec: Only ``mean``, ``std``, ``rgb`` and ``normalized_inside`` are used.
        letterbox: As for ``place``.
        out: Array for the batch, float32 of its shape. Default: a new array.

    Returns:
        float32 (B, 3, H, W); this is ``out`` if it was given.
    """
    height, width = placements[0].size
    shape = (len(contents), 3, height, width)
    blob = np.empty(shape, np.float32) if out is None else out
    tables, padding = _tables(spec.mean, spec.std, spec.normalized_inside, letterbox)
    for batch, pixels in zip(blob, contents, strict=True):
        rows, columns = pixels.shape[:2]
        for channel, (plane, table) in enumerate(zip(batch, tables, strict=True)):
            source = cv2.extractChannel(pixels, 2 - channel if spec.rgb else channel)
            cv2.LUT(source, table, dst=plane[:rows, :columns])
            plane[rows:] = padding[channel]
            plane[:rows, columns:] = padding[channel]
    return blob


def to_canvas(
    pixels: NDArray[np.uint8], placement: Placement, fill: Sequence[int] = (0, 0, 0)
) -> NDArray[np.uint8]:
    """Pad a placed image to the input's size: uint8 (H, W, 3), blue green red.

    Args:
        pixels: Pixels from ``place``.
        placement: Placement from ``place``.
        fill: Blue, green and red of the padding.
    """
    rows, columns = pixels.shape[:2]
    height, width = placement.size
    if (rows, columns) == (height, width):
        return pixels
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = fill
    canvas[:rows, :columns] = pixels
    return canvas


def size_divisor(spec: ModelSpec) -> int:
    """Return the number of which the sides of the input must be multiples."""
    return max(MIN_DIVISOR, *spec.strides)


def _centre(
    pixels: NDArray[np.uint8], size: tuple[int, int], factor: float
) -> tuple[NDArray[np.uint8], Placement]:
    height, width = pixels.shape[:2]
    if max(height, width) > _WARP_LIMIT:
        raise ValueError(
            f'image of {height}x{width} (height x width): sides of more than {_WARP_LIMIT} '
            'pixels cannot be centred in an input; shrink the image first'
        )
    offset = ((size[1] - factor * width) / 2, (size[0] - factor * height) / 2)
    # OpenCV maps pixel indices, which are 1/2 less than the positions of the pixel centres.
    shift = (factor - 1) / 2
    matrix = np.array([[factor, 0, offset[0] + shift], [0, factor, offset[1] + shift]])
    warped = cv2.warpAffine(pixels, matrix, (size[1], size[0]))
    return np.asarray(warped, np.uint8), Placement((factor, factor), offset, size, size)


def _insightface_content(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    # The order of the operations decides how a size is rounded down.
    ratio = height / width
    if ratio > size[0] / size[1]:
        return size[0], max(int(size[0] / ratio), 1)
    return max(int(size[1] * ratio), 1), size[1]


def _resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(cv2.resize(pixels, (size[1], size[0])), np.uint8)


@lru_cache(maxsize=16)
def _tables(
    mean: tuple[float, ...], std: tuple[float, ...], normalized_inside: bool, letterbox: str
) -> tuple[tuple[NDArray[np.float32], ...], tuple[float, ...]]:
    """Return tables of the input value for each pixel value, and the padding, per channel."""
    values = np.arange(256, dtype=np.float32)
    tables = tuple(
        values if normalized_inside else (values - np.float32(m)) / np.float32(s)
        for m, s in zip(mean, std, strict=True)
    )
    if letterbox == 'insightface':
        return tables, tuple(float(table[0]) for table in tables)
    return tables, tuple(mean) if normalized_inside else (0.0,) * len(mean)


def _round_up(side: int, divisor: int) -> int:
    return -(-side // divisor) * divisor


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f'{name} {value!r}: expected one of {", ".join(allowed)}')
