# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Names of WIDER FACE images, and lists of them."""

from __future__ import annotations

import os
from pathlib import Path

_IMAGE_SUFFIXES = {'jpg', 'jpeg', 'png', 'bmp', 'txt'}


def image_key(name: str) -> str:
    """Give ``event/stem`` for ``event/name.jpg``; other dots of a name stay."""
    name = name.replace('\\', '/')
    stem, _, suffix = name.rpartition('.')
    return stem if suffix.lower() in _IMAGE_SUFFIXES else name


def read_part(path: str | os.PathLike[str]) -> list[str]:
    """Read a list of images: a line ``event/name.jpg`` (or without extension) each.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A line that does not name event and image, a list without a line, or one in
            another encoding than UTF-8.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'expected a list of images, a line event/name.jpg each: {path}')
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path}: expected a list of images in UTF-8, found the byte '
            f'{error.object[error.start]:#x} at {error.start}; save it as UTF-8'
        ) from error
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if '/' not in name.replace('\\', '/') or '\0' in name:
            raise ValueError(f'{path}:{number}: expected event/name.jpg, found {name!r}')
        names.append(name)
    if not names:
        raise ValueError(f'{path}: expected a line event/name.jpg for each image, found none')
    return names
