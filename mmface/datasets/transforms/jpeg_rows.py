# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Image files that are decoded once the rows needed are known; JPEG files no further than that."""

from __future__ import annotations

import errno
import struct
import time
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mmface.datasets.transforms.scratch import Scratch
from mmface.utils.image_decoding import (
    BadImage,
    check_pixels,
    decode_image,
    decode_jpeg,
    is_jpeg,
    orientation,
    refuse_damaged,
    warn_damaged,
)

CONTEXT_ROWS = 16  # Chroma is interpolated: the last rows depend on some below them.
#: Errors of network disks that pass, and the seconds to wait before each new try.
TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}
PAUSES = (0.5, 2.0, 5.0)


class ImageFile:
    """An image file in memory, not decoded yet if it is a usual JPEG file.

    Pixels are those of :func:`.decode_image`. JPEG files are decoded by simplejpeg, straight into
    memory that was used before, which takes less time. What is damaged is said there.

    Attributes:
        height: Of the image, in pixels.
        width: Likewise.

    Args:
        path: Where it is.
        size: Width and height that the labels state, in pixels; 0 where they do not say.
        refuse: Whether damaged data inside are an error, not a warning.

    Raises:
        FileNotFoundError: There is no such file.
        BadImage: It cannot be used, see :mod:`.image_decoding`.
    """

    #: Files whose data this process has seen to be sound down to the last row.
    _sound: set[str] = set()

    def __init__(self, path: str, size: tuple[int, int] = (0, 0), refuse: bool = False) -> None:
        self._data = read_file(path)
        self._path = path
        self._damaged = False
        self._refuse = refuse
        # JPEG files that are not stored turned, of the usual layout.
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
                f'{size[0]}x{size[1]} (width x height): was it resized or turned after labelling?'
            )

    def decode(self, scratch: Scratch, rows: int | None = None) -> NDArray[np.uint8]:
        """Decode the pixels, uint8 BGR (h, w, 3).

        The first time, a process decodes each file down to its last row, because only then the
        decoder says whether data are damaged.

        Args:
            scratch: Where they may be put.
            rows: How many are needed, from the top; ``None``: all. There may be more.

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
        """Decode the first rows: a decoder stops after those that the file says it has."""
        assert self._frame is not None
        place = self._frame.place
        data = self._data[:place] + rows.to_bytes(2, 'big') + self._data[place + 2 :]
        # Strict, it would complain of the bytes that are left behind the last row.
        out = scratch.take(rows, self.width, 3)
        return simplejpeg.decode_jpeg(data, 'BGR', buffer=out, strict=False)

    def _on_damage(self, message: str) -> None:
        self._damaged = True
        (refuse_damaged if self._refuse else warn_damaged)(message)


def open_image(results: dict) -> ImageFile:
    """Open the image at ``img_path`` of a sample, and compare it with the labels.

    Args:
        results: The sample. ``width`` and ``height`` are what the labels state (0: nothing);
            ``refuse_damaged`` is set by data sets for testing.

    Raises:
        FileNotFoundError: There is no such file.
        BadImage: It cannot be used.
    """
    size = (results.get('width') or 0, results.get('height') or 0)
    return ImageFile(results['img_path'], size, results.get('refuse_damaged', False))


def read_file(path: str) -> bytes:
    """Read a file; errors of a network disk that pass are tried again after a pause.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
    """
    for pause in (*PAUSES, None):
        try:
            with open(path, 'rb', buffering=0) as file:  # noqa: PTH123, ten times as fast
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
    """What a JPEG file says of its image; ITU-T T.81, annex B, gives the layout.

    Attributes:
        height: In pixels.
        width: Likewise.
        place: Where in the file the height is, two bytes.
        in_rows: Whether the rows of blocks follow each other, all components together. Progressive
            files bring the whole image several times.
    """

    height: int
    width: int
    place: int
    in_rows: bool

    @classmethod
    def find(cls, data: bytes) -> _Frame | None:
        """Read the segments before the pixels; ``None`` if they are not as usual."""
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
