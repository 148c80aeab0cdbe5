# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Names of WIDER FACE images, and lists of such names."""

from __future__ import annotations

import os
from pathlib import Path

_IMAGE_SUFFIXES = {'jpg', 'jpeg', 'png', 'bmp', 'txt'}


def image_key(name: str) -> str:
    """Return ``event/stem`` for ``event/name.jpg``. Other dots in the name are kept."""
    name = name.replace('\\', '/')
    stem, _, suffix = name.rpartition('.')
    return stem if suffix.lower() in _IMAGE_SUFFIXES else name


def read_part(path: str | os.PathLike[str]) -> list[str]:
    """Read a list of images, one ``event/name.jpg`` (or without extension) per line.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A line does not name event and image, the list is empty, or the encoding is
            not UTF-8.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'expected a list of images, one event/name.jpg per line: {path}')
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
        raise ValueError(f'{path}: expected one event/name.jpg per line, found none')
    return names
