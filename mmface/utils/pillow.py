# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Open images with Pillow: formats, HEIF, animations and pages. Does not need torch."""

from __future__ import annotations

import importlib.util
import io
import os
from functools import cache
from typing import IO

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

#: Formats that Pillow may decode. Missing on purpose: formats that start a program (EPS), that are
#: not images of pixels (PDF, WMF), and scientific ones.
FORMATS = (
    *('AVIF', 'BMP', 'DDS', 'DIB', 'GIF', 'ICNS', 'ICO', 'JPEG', 'JPEG2000', 'PCX', 'PNG'),
    *('PPM', 'PSD', 'QOI', 'SGI', 'SPIDER', 'SUN', 'TGA', 'TIFF', 'WEBP', 'XBM', 'XPM'),
)
#: Modes of images with floating-point values or 32-bit integers. Their range is not known.
_NO_RANGE = ('F', 'I')


class Refused(ValueError):
    """An image that Pillow can decode but whose values have no known range."""


@cache
def heif_installed() -> bool:
    """Return whether HEIF files can be read. The first call makes Pillow able to open them."""
    if importlib.util.find_spec('pillow_heif') is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


@cache
def _formats() -> tuple[str, ...]:
    """Return those of ``FORMATS`` that this Pillow has."""
    PIL.Image.init()
    wanted = (*FORMATS, 'HEIF') if heif_installed() else FORMATS
    return tuple(name for name in wanted if name in PIL.Image.OPEN)


def open_image(file: str | os.PathLike[str] | IO[bytes] | bytes) -> PIL.Image.Image:
    """Open an image, of which only the header is read.

    Args:
        file: Path, opened file or content.

    Raises:
        OSError: The file cannot be read or is not an image.
        ValueError: The same, or the image has too many pixels.
    """
    formats = (*FORMATS, 'HEIF') if heif_installed() else FORMATS
    try:
        return PIL.Image.open(
            io.BytesIO(file) if isinstance(file, bytes) else file, formats=formats
        )
    except PIL.Image.DecompressionBombError as error:  # neither OSError nor ValueError
        raise ValueError(str(error)) from error


def to_bgr(image: PIL.Image.Image) -> NDArray[np.uint8]:
    """Decode to uint8 (H, W, 3) BGR: alpha is dropped, of 16 bits the high byte is used.

    Raises:
        OSError: The data are truncated or damaged.
        Refused: The values are floating-point numbers or 32-bit integers.
    """
    if image.mode in _NO_RANGE:
        raise Refused(
            'it holds floating-point numbers or 32-bit integers, whose range is not known: '
            'convert it to 8 bits'
        )
    if image.mode.startswith('I;16'):
        grey = (np.asarray(image).astype(np.uint16) // 256).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    rgb = image.convert('RGB')
    return np.asarray(cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR), np.uint8)
