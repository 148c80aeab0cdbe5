# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Size of a picture from its header."""

from __future__ import annotations

import os
from typing import IO

from PIL import Image

ORIENTATION = 274  # EXIF tag; 5 to 8 are turned by a quarter


def picture_size(file: str | os.PathLike[str] | IO[bytes]) -> tuple[int, int]:
    """Give width and height that OpenCV, which heeds the EXIF orientation, will load.

    Raises:
        OSError: If it is not a readable picture.
        ValueError: Likewise.
    """
    try:
        picture = Image.open(file)
    except Image.DecompressionBombError as error:  # of no class of those above
        raise ValueError(f'{file}: {error}') from error
    with picture:
        width, height = picture.size
        try:
            turned = picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        except SyntaxError:  # a damaged EXIF block; the picture itself may be fine
            turned = False
    return (height, width) if turned else (width, height)
