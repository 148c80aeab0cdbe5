# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Types and small parts that detection in images and in videos share."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import cv2

from mmface.structures import Face
from mmface.utils.images import Image

Detector = Callable[[list[Image]], list[list[Face]]]
Render = Callable[[Image, Sequence[Face]], Image]
T = TypeVar('T')

#: Errors that OpenCV, onnxruntime and torch can raise on an unusual image.
IMAGE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, cv2.error)


def describe(pixels: Image, faces: Sequence[Face], **first: Any) -> str:
    """Return the faces as a line of JSON: pixels to 1/100, scores to 1/10,000."""
    height, width = pixels.shape[:2]
    return (
        json.dumps(
            {**first, 'width': width, 'height': height, 'faces': [face.to_dict() for face in faces]}
        )
        + '\n'
    )


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split ``items`` into lists of ``size``. The last one may be shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
