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
from PIL.TiffImagePlugin import ImageFileDirectory_v2

#: Formats that Pillow may decode. Missing on purpose: formats that start a program (EPS), that are
#: not images of pixels (PDF, WMF), and scientific ones.
FORMATS = (
    *('AVIF', 'BMP', 'DDS', 'DIB', 'GIF', 'ICNS', 'ICO', 'JPEG', 'JPEG2000', 'PCX', 'PNG'),
    *('PPM', 'PSD', 'QOI', 'SGI', 'SPIDER', 'SUN', 'TGA', 'TIFF', 'WEBP', 'XBM', 'XPM'),
)
#: Modes of images with floating-point values or 32-bit integers.
_NO_RANGE = ('F', 'I')
#: First bytes of Radiance HDR, OpenEXR and PFM.
_FLOAT = (b'#?RADIANCE', b'#?RGBE', b'\x76\x2f\x31\x01', b'PF\n', b'Pf\n')
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_LOG_LUMINANCE, _IEEE_FLOAT = (32844, 32845), 3


NO_RANGE = (
    'it holds floating-point numbers or 32-bit integers, whose range is not known: convert it to '
    '8 or 16 bits'
)


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
        ValueError: The values are floating-point numbers or 32-bit integers.
    """
    if image.mode in _NO_RANGE:
        raise ValueError(NO_RANGE)
    if image.mode.startswith('I;16'):
        grey = (np.asarray(image).astype(np.uint16) // 256).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    rgb = image.convert('RGB')
    return np.asarray(cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR), np.uint8)


def check_range(data: bytes) -> None:
    """Check that the values of an image have a known range.

    Of a floating-point image, OpenCV makes 8 bits in a way that depends on the format: it scales
    Radiance HDR by 255, cuts PFM (an image of 0 to 1 becomes black) and changes the contrast of
    TIFF with logarithmic values, which is how it writes float32 itself.

    Raises:
        ValueError: The values are floating-point numbers or 32-bit integers.
    """
    if data.startswith(_FLOAT) or (data.startswith(_TIFF) and _has_no_range(data)):
        raise ValueError(NO_RANGE)


def _has_no_range(tiff: bytes) -> bool:
    try:
        tags = ImageFileDirectory_v2(tiff[: 16 if b'+' in tiff[:4] else 8])
        file = io.BytesIO(tiff)
        file.seek(tags.next)
        tags.load(file)
        bits = max(tags.get(_BITS_PER_SAMPLE, (1,)))
        floating = _IEEE_FLOAT in tags.get(_SAMPLE_FORMAT, (1,))
        return floating or bits > 16 or tags.get(_PHOTOMETRIC) in _LOG_LUMINANCE
    except Exception:  # damaged; decoding reports that
        return False
