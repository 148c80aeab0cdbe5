# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Types and small parts that detection in images and in videos share."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, Protocol, TypeVar

import cv2
import numpy as np

from mmface.structures import Face
from mmface.utils.images import Image, PathLike, image_size

Detector = Callable[[list[Image]], list[list[Face]]]
T = TypeVar('T')


class Render(Protocol):
    """Marks or hides faces, see ``mmface.apis.detect.render``."""

    def __call__(
        self, image: Image, faces: Sequence[Face], name: str = '', frame: int | None = None
    ) -> Image:
        """Return a copy of ``image`` in which the faces are marked or hidden."""


#: Errors that OpenCV, onnxruntime and torch can raise on an unusual image.
IMAGE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, cv2.error)
#: Pixels of the images that the threads work on at the same time, so that large photos do not need
#: a multiple of their memory on a machine with many cores. Each pixel takes 3 bytes a copy.
MAX_PIXELS = 128_000_000


def describe(
    pixels: Image, faces: Sequence[Face], tracks: Sequence[int] | None = None, **first: Any
) -> str:
    """Return the faces as a line of JSON: pixels to 1/100, scores to 1/10,000.

    Args:
        pixels: The image, for its size.
        faces: The faces found in it.
        tracks: The track of each face; only in videos.
        **first: What the line begins with.
    """
    rows = [face.to_dict() for face in faces]
    for row, track in zip(rows, tracks or (), strict=bool(tracks)):
        row['track'] = track
    height, width = pixels.shape[:2]
    return json.dumps({**first, 'width': width, 'height': height, 'faces': rows}) + '\n'


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split ``items`` into lists of ``size``. The last one may be shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def above(detector: Detector, score_thr: float) -> Detector:
    """Return a detector without the faces whose scores are ``score_thr`` or less."""
    # Scores are compared as the networks' outputs are, in single precision.
    limit = np.float32(score_thr)

    def detect(images: list[Image]) -> list[list[Face]]:
        found = detector(images)
        return [[face for face in faces if np.float32(face.score) > limit] for faces in found]

    return detect


def count_pixels(file: PathLike | IO[bytes]) -> int:
    """Return the number of pixels in the header of an image, 0 if it cannot be read."""
    try:
        return math.prod(image_size(file))
    except Exception:  # reading the image reports it
        return 0
