# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Make the thumbnails of a report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmface.utils.files import whole_file
from mmface.utils.image_decoding import BadImage, Image, decode_image, warn_damaged
from mmface.utils.progress import progress_bar

THUMB = 320  # longest side in pixels
CROP = 128  # side in pixels
_AROUND = 2.2  # a crop shows this many times the box
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 72]
_SUFFIXES = ('.jpg', '.jpeg', '.png', '.JPG', '.JPEG', '.PNG')


@dataclass(frozen=True)
class Job:
    """What to cut from one image."""

    source: Path
    thumb: Path | None
    """File of the whole image in small, None for none."""
    crops: Mapping[Path, Sequence[float]]
    """Box x, y, w, h of each crop, by file."""


def find_image(folder: Path, name: str) -> Path | None:
    """Return the file of image ``event/stem`` in a folder, None if there is none."""
    for suffix in ('', *_SUFFIXES):
        path = folder / f'{name}{suffix}'
        if path.is_file():
            return path
    return None


def make_thumbnails(jobs: Sequence[Job], show: bool = True) -> dict[Path, tuple[int, int]]:
    """Write all thumbnails and crops, in parallel.

    Args:
        jobs: One for each image.
        show: Whether to show a progress bar on a terminal.

    Returns:
        Width and height of each image that could be decoded.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        done = pool.map(_do, jobs)
        bar = progress_bar(
            zip(jobs, done, strict=True), total=len(jobs), unit='image', leave=False, show=show
        )
        for job, size in bar:
            if size is not None:
                sizes[job.source] = size
    return sizes


def _do(job: Job) -> tuple[int, int] | None:
    try:
        image = decode_image(job.source.read_bytes(), job.source, warn_damaged)
    except (BadImage, OSError):
        return None
    height, width = image.shape[:2]
    if job.thumb is not None:
        scale = min(1.0, THUMB / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        _write(job.thumb, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    for path, box in job.crops.items():
        _write(path, crop(image, box))
    return width, height


def crop(image: Image, box: Sequence[float]) -> Image:
    """Cut a square around a box, with the box in its middle half.

    Args:
        image: Shape (H, W, 3).
        box: x, y, w, h in pixels; may reach out of the image.

    Returns:
        Shape (CROP, CROP, 3); parts outside of the image are grey.
    """
    x, y, w, h = box
    side = max(8.0, _AROUND * max(w, h))
    scale = CROP / side
    left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
    # From centres of pixels to centres of pixels.
    shift = scale / 2 - 0.5
    matrix = np.array([[scale, 0, shift - left * scale], [0, scale, shift - top * scale]])
    # Of a large region, only every second, fourth ... pixel is needed.
    step = max(1, int(side // (2 * CROP)))
    small: NDArray = image[::step, ::step] if step > 1 else image
    matrix[:, :2] *= step
    return cv2.warpAffine(
        small, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR, borderValue=(128, 128, 128)
    )


def _write(path: Path, image: Image) -> None:
    with whole_file(path, sync=False) as tmp:
        tmp.write_bytes(cv2.imencode('.jpg', image, _QUALITY)[1].tobytes())
