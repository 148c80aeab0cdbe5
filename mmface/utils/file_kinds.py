# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tell images, animations and videos from other files by their content. Does not need torch."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import IO, Literal

from mmface.utils.pillow import open_image

#: 'heif' is an image that needs the package pillow-heif.
Kind = Literal['image', 'heif', 'animation', 'video']

#: A file whose content is not recognized has the kind of its suffix. It is then read, so that a
#: damaged image is reported as an image that cannot be decoded.
IMAGE_SUFFIXES = frozenset(
    (
        *('.avif', '.bmp', '.dds', '.dib', '.gif', '.heic', '.heif', '.icns', '.ico', '.jfif'),
        *('.jp2', '.jpe', '.jpeg', '.jpg', '.mpo', '.pbm', '.pcx', '.pgm', '.png', '.pnm', '.ppm'),
        *('.psd', '.ras', '.sgi', '.tga', '.tif', '.tiff', '.webp'),
    )
)
VIDEO_SUFFIXES = frozenset(
    (
        *('.3g2', '.3gp', '.asf', '.avi', '.flv', '.ivf', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4'),
        *('.mpeg', '.mpg', '.mts', '.mxf', '.ogg', '.ogv', '.ts', '.vob', '.webm', '.wmv', '.y4m'),
    )
)

_IMAGES = (
    *(b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF87a', b'GIF89a', b'II*\0', b'MM\0*', b'II+\0'),
    *(b'MM\0+', b'\0\0\0\x0cjP  \r\n', b'\xff\x4f\xff\x51', b'8BPS', b'DDS ', b'icns', b'qoif'),
    *(b'\x59\xa6\x6a\x95', b'#?RADIANCE', b'#?RGBE', b'\x76\x2f\x31\x01', b'\0\0\1\0'),
)
_VIDEOS = (
    *(b'\x1a\x45\xdf\xa3', b'FLV\1', b'OggS', b'\0\0\1\xba', b'\0\0\1\xb3', b'YUV4MPEG2 '),
    *(b'DKIF\0\0', b'\x06\x0e\x2b\x34\x02\x05\x01\x01', b'\x30\x26\xb2\x75\x8e\x66\xcf\x11'),
)
_AVIF, _HEIF = (b'avif', b'avis'), (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx')
# Boxes with which QuickTime files of old cameras begin.
_QUICKTIME = (b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')
_HEAD = 4096


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return the kind of a file by its first bytes, or else by its suffix.

    Returns:
        The kind; ``None`` if the file is neither an image nor a video.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open('rb') as file:
        return _kind(file, Path(path).suffix)


def kind_of_content(content: bytes, name: str) -> Kind | None:
    """Return the kind of a file with this content and name; see ``kind_of``."""
    return _kind(io.BytesIO(content), Path(name).suffix)


def _kind(file: IO[bytes], suffix: str) -> Kind | None:
    kind = _kind_of_head(file.read(_HEAD), file)
    if kind is None and suffix.lower() in IMAGE_SUFFIXES:
        return 'image'
    if kind is None and suffix.lower() in VIDEO_SUFFIXES:
        return 'video'
    return kind


def _kind_of_head(head: bytes, file: IO[bytes]) -> Kind | None:
    if head.startswith(_IMAGES) or _is_bmp(head) or _is_netpbm(head):
        return 'animation' if _is_animated(head, file) else 'image'
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        # A flag in the first chunk of a file with extended features.
        extended = head[12:16] == b'VP8X' and len(head) > 20
        return 'animation' if extended and head[20] & 2 else 'image'
    if head[4:8] == b'ftyp':
        return _kind_of_brands(head)
    if (head[:4] == b'RIFF' and head[8:12] == b'AVI ') or head.startswith(_VIDEOS):
        return 'video'
    if head[4:8] in _QUICKTIME or _is_transport_stream(head):
        return 'video'
    return None


def _kind_of_brands(head: bytes) -> Kind:
    """Tell AVIF and HEIF from MP4 by the brands in the first box."""
    end = min(int.from_bytes(head[:4], 'big'), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]
    if brands[0] == b'avis':
        return 'animation'
    # Files with the general brands mif1 and msf1 name the codec among the compatible brands.
    if brands[0] in (*_AVIF, *_HEIF, b'mif1', b'msf1'):
        return 'image' if any(brand in _AVIF for brand in brands) else 'heif'
    return 'video'


def _is_animated(head: bytes, file: IO[bytes]) -> bool:
    if head.startswith(b'\x89PNG'):
        return _png_has_animation(file)
    if head.startswith(b'GIF'):
        file.seek(0)
        try:
            return bool(getattr(open_image(file), 'is_animated', False))
        except Exception:  # damaged; decoding reports that
            return False
    return False


def _png_has_animation(file: IO[bytes]) -> bool:
    """Return whether a PNG file has the chunk acTL, which stands before the pixels."""
    place = 8
    while True:
        file.seek(place)
        chunk = file.read(8)
        if len(chunk) < 8 or chunk[4:] in (b'IDAT', b'IEND'):
            return False
        if chunk[4:] == b'acTL':
            return True
        place += 12 + struct.unpack('>I', chunk[:4])[0]


def _is_bmp(head: bytes) -> bool:
    """Return whether the data begin as BMP: many texts begin with its two letters, too."""
    return head[:2] == b'BM' and len(head) > 17 and head[14] in (12, 40, 52, 56, 64, 108, 124)


def _is_netpbm(head: bytes) -> bool:
    return (
        head[:1] == b'P' and head[1:2] in b'123456Ff' and head[2:3] in (b' ', b'\n', b'\t', b'\r')
    )


def _is_transport_stream(head: bytes) -> bool:
    """Return whether packets of 188 bytes (.ts) or 192 bytes (.m2ts) begin with their mark."""
    return any(
        len(head) > start + 3 * step and all(head[start + i * step] == 0x47 for i in range(4))
        for start, step in ((0, 188), (4, 192))
    )


def count_pages(source: str | os.PathLike[str] | IO[bytes]) -> int:
    """Return the number of pages of a TIFF file, and 1 for every other image.

    The two images of an MPO file show the same scene, so only the first one counts.

    Args:
        source: Path, or file at its start, which is rewound.
    """
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open('rb') as opened:
            return count_pages(opened)
    head = source.read(4)
    source.seek(0)
    if head not in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
        return 1
    try:
        return int(getattr(open_image(source), 'n_frames', 1))
    except Exception:  # Pillow does not know this kind of TIFF, or it is damaged
        return 1
    finally:
        source.seek(0)
