# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A picture file that is decoded once somebody knows how much of it is needed."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from mmface.datasets.transforms.scratch import Scratch
from mmface.utils.png import check_png

EXIF = b'Exif\x00\x00'  # What begins the part of a JPEG file that may say it is stored turned.
CONTEXT_ROWS = 16  # Chroma is interpolated: the last rows depend on some below them.


class PictureFile:
    """A picture file in memory, not decoded yet if it is a usual JPEG file.

    Pixels are those that ``cv2.imread`` gives: uint8 BGR, grey pictures with three equal channels,
    without alpha, turned as the EXIF data says. JPEG files are decoded by simplejpeg, straight
    into memory that was used before, which takes less time.

    Attributes:
        height: Of the picture, in pixels.
        width: Likewise.

    Args:
        path: Where it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no picture or ends too early.
    """

    def __init__(self, path: str) -> None:
        try:
            with open(path, 'rb', buffering=0) as file:  # noqa: PTH123, ten times as fast
                self._data = file.read()
        except FileNotFoundError:
            raise FileNotFoundError(
                f'the picture {path} does not exist. Check the data path, or make the data '
                'again with tools/data/prepare_widerface.py'
            ) from None
        self._path = path
        # Whole JPEG files that are not stored turned; OpenCV knows others.
        usual = simplejpeg.is_jpeg(self._data) and EXIF not in self._data
        self._frame = _Frame.find(self._data) if usual else None
        if self._frame is None:
            self._whole = self._decode_any()
            self.height, self.width = self._whole.shape[:2]
        else:
            self.height, self.width = self._frame.height, self._frame.width

    def decode(self, scratch: Scratch, rows: int | None = None) -> NDArray[np.uint8]:
        """Give the pixels, uint8 BGR (h, w, 3).

        Args:
            scratch: Where they may be put.
            rows: How many are needed, from the top; ``None``: all. There may be more.

        Raises:
            ValueError: If the picture cannot be decoded.
        """
        if self._frame is None:
            return self._whole
        data, height, place = self._data, self.height, self._frame.place
        short = False
        if rows is not None and rows + CONTEXT_ROWS < height and self._frame.in_rows:
            # A decoder stops after the rows that the file says it has.
            short, height = True, rows + CONTEXT_ROWS
            data = data[:place] + height.to_bytes(2, 'big') + data[place + 2 :]
        try:
            # Strict, it would complain of the bytes that are left behind the last row.
            out = scratch.take(height, self.width, 3)
            return simplejpeg.decode_jpeg(data, 'BGR', buffer=out, strict=not short)
        except ValueError:
            return self._decode_any()

    def _decode_any(self) -> NDArray[np.uint8]:
        # From memory OpenCV refuses a truncated JPEG; from a file it would give a picture that
        # is grey from some row on.
        data = np.frombuffer(self._data, np.uint8)
        try:
            check_png(data)
        except ValueError as error:
            raise ValueError(f'the picture {self._path} cannot be read: {error}') from error
        img = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if img is None:
            raise ValueError(
                f'the picture {self._path} ({len(data)} bytes) cannot be read: it is truncated or '
                'not a picture. Get the file again, or take it out of the labels'
            )
        return img


class _Frame(NamedTuple):
    """What a JPEG file says of its picture; ITU-T T.81, annex B, gives the layout.

    Attributes:
        height: In pixels.
        width: Likewise.
        place: Where in the file the height is, two bytes.
        in_rows: Whether the rows of blocks follow each other, all components together. Progressive
            files bring the whole picture several times.
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
