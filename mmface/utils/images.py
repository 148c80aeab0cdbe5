# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read, measure and write image files. Does not need torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.utils.files import whole_file
from mmface.utils.image_decoding import (
    Image,
    OnDamage,
    decode_image,
    exif_orientation,
    warn_damaged,
)
from mmface.utils.pillow import open_image

#: Suffixes of the formats that OpenCV writes without loss of colour. '.jfif' is JPEG.
WRITTEN_SUFFIXES = frozenset(
    ['.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm']
)

#: Default limit of the pixels of a network's input that has the size of the image: CenterFace
#: needs 0.23 kB of memory for a pixel.
MAX_INPUT_PIXELS = 4_000_000

PathLike = str | os.PathLike[str]


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


def shrinkage(pixels: int, max_pixels: int | None) -> float:
    """Return the factor of both sides that keeps an image of ``pixels`` below a limit."""
    return 1.0 if max_pixels is None else min(1.0, (max_pixels / pixels) ** 0.5)


def check_limit(max_pixels: int | None) -> None:
    """Check a limit of pixels.

    Raises:
        ValueError: It is below 1.
    """
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f'max_pixels {max_pixels}: expected a number of pixels, or None')


def image_size(file: PathLike | IO[bytes]) -> tuple[int, int]:
    """Read from the header the width and height that ``read_image`` will return.

    Raises:
        OSError: The file is not a readable image.
        ValueError: The file is not a readable image.
    """
    with open_image(file) as image:
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


def write_image(path: PathLike, image: Image) -> None:
    """Write an image, whole or not at all, in the format of the suffix.

    Raises:
        OSError: The image cannot be written.
    """
    suffix = Path(path).suffix.lower()
    try:
        written, data = cv2.imencode('.jpg' if suffix == '.jfif' else suffix, image)
    except cv2.error:  # unknown suffix
        written = False
    if not written:
        raise OSError(f'{path} cannot be written as an image')
    # imwrite is not used, because it does not report a full disk.
    with whole_file(path, sync=False) as tmp:
        tmp.write_bytes(data.tobytes())
