# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find, read, measure and write image files, and find video files. Does not need torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mmface.utils.files import whole_file
from mmface.utils.image_decoding import (
    Image,
    OnDamage,
    decode_image,
    exif_orientation,
    warn_damaged,
)

#: Suffixes that are used from a folder. OpenCV reads and writes all of them.
IMAGE_SUFFIXES = frozenset(['.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'])
VIDEO_SUFFIXES = frozenset(
    ['.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv', '.ts']
)

PathLike = str | os.PathLike[str]


class Source(NamedTuple):
    """An input file.

    Attributes:
        path: Path of the file.
        name: Name of its result, relative to the folder of the results. This is the name of the
            file; for files found in a folder, the path relative to that folder.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Return whether the suffix is a video suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(
    inputs: Sequence[PathLike], videos: bool = False, skip: PathLike | None = None
) -> list[Source]:
    """List the files that ``inputs`` name.

    Args:
        inputs: Files with any suffix, and folders, which are searched recursively. Hidden files
            are skipped.
        videos: Whether to include videos in folders.
        skip: A folder that is not searched, such as the folder of the results.

    Returns:
        The files in the given order, those of a folder sorted by path.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: An input is a URL, a folder has no images, or two files would have results
            of the same name.
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
    """Return ``given`` as text.

    Raises:
        ValueError: It is a URL.
    """
    text = os.fspath(given)
    if re.match(r'[a-z][a-z0-9+.-]*:/', text, re.IGNORECASE):
        raise ValueError(
            f'{text} is a URL: mmface does not download inputs, so that no input can make this '
            'computer contact another; download the file and pass its path'
        )
    return text


def _search(folder: Path, videos: bool, skip: Path | None) -> list[Source]:
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES if videos else IMAGE_SUFFIXES
    root = Path(folder.resolve().name)
    found = []
    for path in sorted(folder.rglob('*')):
        name = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(p.startswith('.') for p in name.parts):
            continue
        if path.is_file() and (skip is None or skip not in path.resolve().parents):
            found.append(Source(path, root / name))
    if not found:
        kind = 'image or video' if videos else 'image'
        raise ValueError(f'folder {folder} holds no {kind} ({" ".join(sorted(suffixes))})')
    return found


def read_image(path: PathLike, on_damage: OnDamage = warn_damaged) -> Image:
    """Read an image as (H, W, 3) BGR; see ``decode_image``.

    Raises:
        FileNotFoundError: The file does not exist.
        BadImage: The image cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f'image {file} does not exist')
    return decode_image(file.read_bytes(), file, on_damage)


def as_bgr(image: NDArray[np.generic]) -> Image:
    """Convert an array to uint8 (H, W, 3) BGR. An array of this form is not copied.

    Grey images (H, W) and (H, W, 1) get three equal channels. The alpha channel of (H, W, 4)
    is dropped. Of 16-bit images the high byte is used, as in ``cv2.imread``.

    Args:
        image: uint8 or uint16.

    Raises:
        ValueError: The input is not an array, has another type or shape, or has no pixels.
    """
    if not isinstance(image, np.ndarray):
        hint = (
            'cv2.imread returns None for a file that is missing or not an image'
            if image is None
            else 'read files with cv2.imread first'
        )
        raise ValueError(f'image: expected a numpy array, found {type(image).__name__}; {hint}')
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f'image of shape {image.shape}: expected (height, width, 3) in the order blue, '
            'green, red, (height, width, 4) with alpha, or (height, width) for grey'
        )
    if 0 in image.shape:
        raise ValueError(f'image of shape {image.shape}: it has no pixels')
    if image.dtype == np.uint16:
        image = (image // 256).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(
            f'image of type {image.dtype}: expected uint8 (or uint16); multiply floats of 0 to '
            '1 by 255 and convert them with .astype(numpy.uint8)'
        )
    if image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(image[..., :3])


def image_size(file: PathLike | IO[bytes]) -> tuple[int, int]:
    """Read from the header the width and height that ``read_image`` will return.

    Raises:
        OSError: The file is not a readable image.
        ValueError: The file is not a readable image.
    """
    try:
        opened = PIL.Image.open(file)
    except PIL.Image.DecompressionBombError as error:  # neither OSError nor ValueError
        raise ValueError(f'{file}: {error}') from error
    with opened as image:
        width, height = image.size
        turned = exif_orientation(image) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def missing_images(root: PathLike, names: Iterable[str]) -> list[str]:
    """Return those of ``names``, paths relative to ``root``, that are not files in it.

    On network disks, listing each folder once is much faster than checking every file.
    """
    there: dict[str, set[str]] = {}
    missing = []
    for name in names:
        # Not a Path for each name: creating them takes longer than the listing.
        folder, _, file = name.rpartition('/')
        if folder not in there:
            place = Path(root) / folder
            there[folder] = {p.name for p in place.iterdir()} if place.is_dir() else set()
        if file not in there[folder]:
            missing.append(name)
    return missing


def result_path(source: Source, out_dir: PathLike) -> Path:
    """Return the path of the result for ``source``: an image unless it has a video suffix.

    Raises:
        ValueError: The path is that of ``source`` itself, which would be overwritten.
    """
    name = source.name
    # OpenCV chooses the format by the suffix.
    if name.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        name = name.with_name(f'{name.name}.png')
    path = Path(out_dir) / name
    if path.resolve() == source.path.resolve():
        raise ValueError(f'{path} is an input and would be overwritten: choose another folder')
    return path


def write_image(path: PathLike, image: Image) -> None:
    """Write an image, whole or not at all, in the format of the suffix.

    Raises:
        OSError: The image cannot be written.
    """
    try:
        written, data = cv2.imencode(Path(path).suffix, image)
    except cv2.error:  # unknown suffix
        written = False
    if not written:
        raise OSError(f'{path} cannot be written as an image')
    # imwrite is not used, because it does not report a full disk.
    with whole_file(path, sync=False) as tmp:
        tmp.write_bytes(data.tobytes())
