# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find, read and write the pictures and videos that a user names; no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.utils.files import whole_file
from mmface.utils.png import check_png

#: What is taken from a folder; OpenCV reads and writes all of them.
PICTURE_SUFFIXES = frozenset(['.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'])
VIDEO_SUFFIXES = frozenset(
    ['.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv', '.ts']
)

Picture = NDArray[np.uint8]
PathLike = str | os.PathLike[str]


class Source(NamedTuple):
    """A file to work on.

    Attributes:
        path: Where it is.
        name: What its result is called, relative to the folder of the results: the file's name,
            for files of a folder with the path from that folder on.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether the suffix is one of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    inputs: Sequence[PathLike], videos: bool = False, skip: PathLike | None = None
) -> list[Source]:
    """List the files that ``inputs`` name.

    Args:
        inputs: Files, whatever their suffix, and folders, which are searched with all below
            them. Hidden files are left out.
        videos: Whether videos in folders are taken too.
        skip: A folder that is not searched, such as that of the results.

    Returns:
        The files in the order given, those of a folder sorted by path.

    Raises:
        FileNotFoundError: A path that does not exist.
        ValueError: An address on the net, a folder without pictures, or two files whose results
            would have the same name.
    """
    found: list[Source] = []
    for given in inputs:
        path = Path(local_path(given))
        if path.is_dir():
            found += _search(path, videos, None if skip is None else Path(skip).resolve())
        elif path.is_file():
            found.append(Source(path, Path(path.name)))
        else:
            raise FileNotFoundError(f'{given} does not exist: expected a file or a folder')
    names: dict[Path, Source] = {}
    for source in found:
        other = names.setdefault(source.name, source)
        if other is not source:
            raise ValueError(
                f'{other.path} and {source.path} would have the same result, {source.name}: name '
                'each file once, and run files of the same name one after the other into '
                'different folders'
            )
    return found


def local_path(given: PathLike) -> str:
    """Give ``given`` as text.

    Raises:
        ValueError: If it is an address on the net.
    """
    text = os.fspath(given)
    if re.match(r'[a-z][a-z0-9+.-]*:/', text, re.IGNORECASE):
        raise ValueError(
            f'{text} is a URL: nothing is fetched from the net here, so that no input can make '
            'this computer call another; download the file and give its path'
        )
    return text


def _search(folder: Path, videos: bool, skip: Path | None) -> list[Source]:
    suffixes = PICTURE_SUFFIXES | VIDEO_SUFFIXES if videos else PICTURE_SUFFIXES
    root = Path(folder.resolve().name)
    found = []
    for path in sorted(folder.rglob('*')):
        name = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(p.startswith('.') for p in name.parts):
            continue
        if path.is_file() and (skip is None or skip not in path.resolve().parents):
            found.append(Source(path, root / name))
    if not found:
        kind = 'picture or video' if videos else 'picture'
        raise ValueError(f'folder {folder} holds no {kind} ({" ".join(sorted(suffixes))})')
    return found


def read_picture(path: PathLike) -> Picture:
    """Read a picture as (H, W, 3) BGR, turned as its EXIF orientation says.

    Grey becomes three equal channels, alpha is left out, 16 bits become 8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f'picture {file} does not exist')
    data = np.fromfile(file, np.uint8)
    try:
        check_png(data)
    except ValueError as error:
        raise ValueError(f'picture {file} ({data.size} bytes) cannot be read: {error}') from error
    try:
        # From memory OpenCV refuses a truncated JPEG; from a file the rest would be grey.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # more pixels than OpenCV takes
        raise ValueError(f'picture {file}: OpenCV cannot read it: {error.err}') from error
    if image is None:
        raise ValueError(
            f'picture {file} ({data.size} bytes) cannot be read: it is truncated, not a picture, '
            'or of a kind that OpenCV does not know'
        )
    return np.asarray(image, np.uint8)


def result_path(source: Source, out_dir: PathLike) -> Path:
    """Name what is written for ``source``; a picture if it has no suffix of a video.

    Raises:
        ValueError: It is that of ``source`` itself, which would be lost.
    """
    name = source.name
    # OpenCV chooses the format by the suffix.
    if name.suffix.lower() not in PICTURE_SUFFIXES | VIDEO_SUFFIXES:
        name = name.with_name(f'{name.name}.png')
    path = Path(out_dir) / name
    if path.resolve() == source.path.resolve():
        raise ValueError(f'{path} is an input and would be overwritten: choose another folder')
    return path


def write_picture(path: PathLike, image: Picture) -> None:
    """Write a picture, whole or not at all, in the format of the suffix.

    Raises:
        OSError: It cannot be written.
    """
    try:
        written, data = cv2.imencode(Path(path).suffix, image)
    except cv2.error:  # a suffix it does not know
        written = False
    if not written:
        raise OSError(f'{path} cannot be written as a picture')
    # Not by imwrite, which says nothing when the disk is full.
    with whole_file(path, sync=False) as tmp:
        tmp.write_bytes(data.tobytes())
