# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Decode image files, with one rule for orientation, damage and size. Does not need torch.

The table shows how each fault of a file is handled. The training column is with
``max_bad_images``, see :mod:`mmface.datasets.bad_images`.

=============================  ==================  =================  ======================
file                           training            testing            detection, ``--decode``
=============================  ==================  =================  ======================
only the end marker missing    used                used               used
data damaged inside            used, warned once   error              used, warned once
cut before its end             another image       error              error of this file
not an image, or missing       another image       error              error of this file
values are floating point      another image       error              error of this file
more pixels than the limit     another image       error              error of this file
size unlike the label          another image       error              (no label)
=============================  ==================  =================  ======================
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray

from mmface.utils.pillow import check_range, open_image, to_bgr
from mmface.utils.png import check_png

#: (H, W, 3) BGR.
Image = NDArray[np.uint8]
OnDamage = Callable[[str], None]

#: Images with more pixels are refused before they are decoded. Same limit as Pillow.
MAX_PIXELS = 178_956_970
#: EXIF tag. Images with the values 5 to 8 are rotated by a quarter turn.
ORIENTATION = 274
END_MARKER = b'\xff\xd9'
EXIF = b'Exif\x00\x00'
# Messages of libjpeg for a truncated file and for damaged data. All other messages are about kinds
# of files that simplejpeg cannot decode.
_CUT, _DAMAGED = 'Premature end of JPEG file', 'Corrupt JPEG data'
_OTHER_FRAME = 'Unsupported JPEG process'
#: Second byte of the markers of baseline, extended and progressive frames, which it can decode.
_KNOWN_FRAMES = (0xC0, 0xC1, 0xC2)


class BadImage(ValueError):
    """A file that cannot be used as an image. The message names the file."""


def is_jpeg(data: bytes) -> bool:
    """Return whether the data start as JPEG. simplejpeg's test also requires the end marker."""
    return data[:3] == b'\xff\xd8\xff'


def refuse_damaged(message: str) -> None:
    """Raise ``BadImage``. An evaluation handles damaged data this way."""
    raise BadImage(message)


@lru_cache(4096)
def warn_damaged(message: str) -> None:
    """Log a warning, only once per message."""
    logging.getLogger('mmface').warning(message)


def decode_image(
    data: bytes | NDArray[np.uint8],
    path: str | os.PathLike[str],
    on_damage: OnDamage = warn_damaged,
) -> Image:
    """Decode the content of an image file to uint8 BGR, rotated by its EXIF orientation.

    Grey becomes three equal channels, alpha is dropped, 16 bits become 8. The orientation is
    applied to all formats in the same way, with any version of OpenCV.

    Args:
        data: The content; an array is (n,).
        path: Path of the file, for messages.
        on_damage: Called with a message if the data are damaged inside but can be decoded.

    Raises:
        BadImage: The content cannot be decoded, or has more than ``MAX_PIXELS``.
    """
    data = bytes(data)
    check_pixels(data, path)
    image = decode_jpeg(data, path, on_damage) if is_jpeg(data) else None
    if image is None:
        image = _decode_any(data, path)
    return turn(image, orientation(data))


def decode_jpeg(
    data: bytes,
    path: str | os.PathLike[str],
    on_damage: OnDamage = warn_damaged,
    out: NDArray[np.uint8] | None = None,
) -> Image | None:
    """Decode a JPEG file to uint8 BGR, without rotation.

    Args:
        data: The content.
        path: Path of the file, for messages.
        on_damage: See ``decode_image``.
        out: Memory that may be used for the pixels, uint8 (H, W, 3).

    Returns:
        The image, or None if only OpenCV can decode this kind of JPEG (four colours, for
        example).

    Raises:
        BadImage: The file is truncated.
    """
    try:
        return simplejpeg.decode_jpeg(data, 'BGR', buffer=out, strict=True)
    except ValueError as error:
        reason = str(error)
    if reason.startswith(_CUT):
        try:  # some programs do not write the end marker; no pixel is lost by that
            closed = data.rstrip(b'\0') + END_MARKER
            return simplejpeg.decode_jpeg(closed, 'BGR', buffer=out, strict=True)
        except ValueError:
            raise BadImage(
                f'image {path} ({len(data)} bytes) is cut before its end: download or copy it again'
            ) from None
    if reason.startswith(_OTHER_FRAME) and _first_frame(data) in _KNOWN_FRAMES:
        lax = None  # damage that looks like the start of another frame, at which libjpeg stops
    elif reason.startswith(_DAMAGED):
        lax = simplejpeg.decode_jpeg(data, 'BGR', buffer=out, strict=False)
    else:
        return None
    on_damage(
        f'image {path} has damaged data inside ({reason}): some of its rows are wrong; '
        'download or copy it again, or remove it from the labels'
    )
    return lax


def _first_frame(data: bytes) -> int:
    """Return the second byte of the first marker that starts a frame (SOF), 0 if there is none."""
    place = 2
    while len(data) > place + 3 and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # tables, reserved
            return marker
        place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    return 0


def check_pixels(data: bytes, path: str | os.PathLike[str]) -> None:
    """Check the number of pixels in the header of an image file.

    Raises:
        BadImage: The number is above ``MAX_PIXELS``.
    """
    try:
        if is_jpeg(data):
            height, width = simplejpeg.decode_jpeg_header(data, strict=False)[:2]
        else:
            with open_image(data) as image:
                width, height = image.size
    except PIL.Image.DecompressionBombError as error:
        raise BadImage(f'image {path}: {error}') from None
    except Exception:  # Pillow does not know it or it is damaged; decoding reports that
        return
    _check_size(width, height, path)


def orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, that must still be applied to decoded pixels.

    It is 1 for TIFF files, because every decoder rotates them.
    """
    if EXIF not in data and data[:4] not in (b'\x89PNG', b'RIFF') and data[4:8] != b'ftyp':
        return 1
    try:
        with open_image(data) as image:
            return exif_orientation(image)
    except Exception:  # Pillow does not know the format
        return 1


def exif_orientation(image: PIL.Image.Image) -> int:
    """Return the same as ``orientation``, for an image that Pillow has opened."""
    if image.format == 'TIFF':
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block; the image itself may be intact
        return 1
    return value if value in range(1, 9) else 1


def turn(image: Image, orientation: int) -> Image:
    """Rotate and flip decoded pixels according to an EXIF orientation from 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = cv2.transpose(image)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else np.asarray(cv2.flip(image, flip), np.uint8)


def decode_page(path: str | os.PathLike[str], page: int) -> Image:
    """Decode one page of a TIFF file to uint8 BGR; see ``decode_image``.

    Raises:
        BadImage: The page cannot be decoded, or has more than ``MAX_PIXELS``.
    """
    try:
        with open_image(path) as image:
            image.seek(page)
            _check_size(image.width, image.height, path)
            return to_bgr(image)
    except BadImage:
        raise
    except Exception as error:  # its decoders raise many types on damaged data
        raise BadImage(f'image {path}, page {page + 1} cannot be read: {error}') from error


def _check_size(width: int, height: int, path: str | os.PathLike[str]) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(
            f'image {path} has {width}x{height} pixels, more than the limit of {MAX_PIXELS:,}'
        )


def _decode_any(data: bytes, path: str | os.PathLike[str]) -> Image:
    """Decode with OpenCV, or with Pillow if OpenCV does not know the format."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        check_png(data)
        check_range(data)
    except ValueError as error:
        raise BadImage(f'image {path} ({len(data)} bytes) cannot be read: {error}') from error
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:  # more pixels than OpenCV accepts
        raise BadImage(f'image {path}: OpenCV cannot read it: {error.err}') from error
    if image is not None:
        return np.asarray(image, np.uint8)
    try:
        with open_image(data) as opened:
            return to_bgr(opened)
    except Exception as error:  # its decoders raise many types on damaged data
        reason = (
            'it is truncated, not an image, or in a format that neither OpenCV nor Pillow knows. '
            'Download or copy it again, or skip it'
        )
        if isinstance(error, PIL.UnidentifiedImageError):
            error = ValueError(reason)
        raise BadImage(f'image {path} ({len(data)} bytes) cannot be read: {error}') from error
