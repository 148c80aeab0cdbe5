# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Image files that are decoded late; JPEG files are decoded only down to the last row needed."""

from __future__ import annotations

import errno
import struct
import time
from functools import partial
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mmface.datasets.bad_images import note_damaged
from mmface.datasets.transforms.scratch import Scratch
from mmface.utils.image_decoding import (
    BadImage,
    OnDamage,
    check_pixels,
    decode_image,
    decode_jpeg,
    is_jpeg,
    orientation,
    refuse_damaged,
    warn_damaged,
)

CONTEXT_ROWS = 16  # Chroma is interpolated, so the last rows depend on some rows below them.
#: Temporary errors of network disks, and the seconds to wait before each new try.
TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}
PAUSES = (0.5, 2.0, 5.0)


class ImageFile:
    """An image file in memory. A usual JPEG file is not decoded until ``decode``.

    The pixels are those of :func:`.decode_image`. simplejpeg decodes JPEG files directly into
    reused memory, which takes less time. :mod:`.image_decoding` says what counts as damaged.

    Attributes:
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.

    Args:
        path: Path of the file.
        size: Width and height that the labels state, in pixels; 0 if they do not state it.
        on_damage: Called with a message if the data inside are damaged.

    Raises:
        FileNotFoundError: The file does not exist.
        BadImage: The file cannot be used, see :mod:`.image_decoding`.
    """

    #: Files whose data this process has decoded down to the last row without errors.
    _sound: set[str] = set()

    def __init__(
        self, path: str, size: tuple[int, int] = (0, 0), on_damage: OnDamage = warn_damaged
    ) -> None:
        self._data = read_file(path)
        self._path = path
        self._damaged = False
        self._tell = on_damage
        # JPEG files of the usual layout whose pixels are stored upright.
        usual = is_jpeg(self._data) and orientation(self._data) == 1
        self._frame = _Frame.find(self._data) if usual else None
        if self._frame is None:
            self._whole = decode_image(self._data, path, self._on_damage)
            self.height, self.width = self._whole.shape[:2]
        else:
            check_pixels(self._data, path)
            self.height, self.width = self._frame.height, self._frame.width
        found = (self.width, self.height)
        if 0 not in size and size != found:
            raise BadImage(
                f'image {path} has {found[0]}x{found[1]} pixels, but its labels are for '
                f'{size[0]}x{size[1]} (width x height): was it resized or rotated after labelling?'
            )

    def decode(self, scratch: Scratch, rows: int | None = None) -> NDArray[np.uint8]:
        """Decode the pixels, uint8 BGR (h, w, 3).

        The first time, a process decodes each file down to its last row, because only then does
        the decoder report damaged data.

        Args:
            scratch: Memory that may be used for the pixels.
            rows: Number of rows needed, from the top; ``None`` for all. More may be returned.

        Raises:
            BadImage: The image cannot be decoded.
        """
        if self._frame is None:
            return self._whole
        fewer = rows is not None and rows + CONTEXT_ROWS < self.height and self._frame.in_rows
        if rows is not None and fewer and self._path in self._sound:
            return self._decode_rows(scratch, rows + CONTEXT_ROWS)
        out = scratch.take(self.height, self.width, 3)
        image = decode_jpeg(self._data, self._path, self._on_damage, out)
        if image is None:
            return decode_image(self._data, self._path, self._on_damage)
        if not self._damaged:
            self._sound.add(self._path)
        return image

    def _decode_rows(self, scratch: Scratch, rows: int) -> NDArray[np.uint8]:
        """Decode the first rows, by writing a smaller height into the file header."""
        assert self._frame is not None
        place = self._frame.place
        data = self._data[:place] + rows.to_bytes(2, 'big') + self._data[place + 2 :]
        # In strict mode it would report the bytes that remain after the last row.
        out = scratch.take(rows, self.width, 3)
        return simplejpeg.decode_jpeg(data, 'BGR', buffer=out, strict=False)

    def _on_damage(self, message: str) -> None:
        self._damaged = True
        self._tell(message)


def open_image(results: dict) -> ImageFile:
    """Open the image at ``img_path`` of a sample, and compare its size with the labels.

    Args:
        results: The sample. ``width`` and ``height`` are the sizes in the labels (0: unknown).
            Data sets for testing set ``refuse_damaged``, those of a training ``note_folder``.

    Raises:
        FileNotFoundError: The file does not exist.
        BadImage: The file cannot be used.
    """
    path, folder = results['img_path'], results.get('note_folder')
    size = (results.get('width') or 0, results.get('height') or 0)
    on_damage = warn_damaged if folder is None else partial(note_damaged, folder, path)
    return ImageFile(path, size, refuse_damaged if results.get('refuse_damaged') else on_damage)


def read_file(path: str) -> bytes:
    """Read a file. After a temporary error of a network disk, try again after a pause.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: The file cannot be read.
    """
    for pause in (*PAUSES, None):
        try:
            with open(path, 'rb', buffering=0) as file:  # noqa: PTH123, ten times faster
                return file.read()
        except FileNotFoundError:
            raise FileNotFoundError(
                f'the image {path} does not exist. Check the data path, or make the data again '
                'with tools/data/prepare_widerface.py'
            ) from None
        except OSError as error:
            if error.errno not in TRANSIENT or pause is None:
                raise
            time.sleep(pause)
    raise AssertionError


class _Frame(NamedTuple):
    """The header of a JPEG image. ITU-T T.81, annex B, defines the layout.

    Attributes:
        height: In pixels.
        width: In pixels.
        place: Offset of the height in the file, two bytes.
        in_rows: Whether the rows of blocks follow each other, all components together.
            Progressive files contain the whole image several times.
    """

    height: int
    width: int
    place: int
    in_rows: bool

    @classmethod
    def find(cls, data: bytes) -> _Frame | None:
        """Read the segments before the pixels. Return ``None`` if they are not as usual."""
        frame, components, start = None, 0, 2
        while start + 10 <= len(data) and data[start] == 0xFF:
            marker, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], 'big')
            if marker in (0xC0, 0xC1, 0xC2):  # length, precision, height, width, components
                height, width = struct.unpack_from('>HH', data, start + 5)
                components = data[start + 9]
                frame = cls(height, width, start + 5, marker != 0xC2)
            elif marker == 0xDA:  # a scan: length, components
                if frame is None or not frame.height or not frame.width:
                    return None
                return frame if data[start + 4] == components else frame._replace(in_rows=False)
            start += 2 + length
        return None
