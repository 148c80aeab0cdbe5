# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read boxes that a user gives for images and frames of videos."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FORM = (
    'expected one JSON object a line, such as {"image": "album/a.jpg", "faces": [{"bbox": [x1, y1, '
    'x2, y2]}]}, with "video" and "frame" instead of "image" for a frame of a video'
)


class OwnBoxes:
    """Boxes for images and frames of videos, in JSON lines as ``--json`` writes them.

    So the joined JSON files of a run, edited, are such a file. Of a line, "faces" with "bbox" is
    used, "image" or "video" (the name of the result), and "frame". A line without "frame" holds for
    all frames, a line without a name for all images and videos.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A line is not of this form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f'{path} does not exist: expected a file of boxes; {_FORM}')
        self._boxes: dict[tuple[str | None, int | None], list[list[float]]] = {}
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                name, frame, boxes = _read(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f'{path}:{number}: found {line[:80]!r} ({error}); {_FORM}'
                ) from error
            self._boxes.setdefault((name, frame), []).extend(boxes)

    def check(self, names: Iterable[str]) -> None:
        """Check that all named images and videos are among the inputs.

        Raises:
            ValueError: One is not. Its boxes would have no effect.
        """
        unknown = {name for name, _ in self._boxes if name is not None} - set(names)
        if unknown:
            raise ValueError(
                f'{self.path}: no input has the name {min(unknown)!r}: expected the path of a '
                'result in the folder of the results, such as "a.jpg" or "album/a.jpg"'
            )

    def of(self, name: str, frame: int | None = None) -> NDArray[np.float32]:
        """Return the boxes (n, 4), x1, y1, x2, y2, of an image or of a frame of a video."""
        found: list[list[float]] = []
        for key in dict.fromkeys(((name, frame), (name, None), (None, frame), (None, None))):
            found += self._boxes.get(key, [])
        return np.array(found, np.float32).reshape(-1, 4)


def _read(line: Any) -> tuple[str | None, int | None, list[list[float]]]:
    if not isinstance(line, dict):
        raise ValueError('not an object')
    name, frame = line.get('image', line.get('video')), line.get('frame')
    if not isinstance(name, str | None) or not isinstance(frame, int | None):
        raise ValueError('a name must be text, and a frame a whole number')
    boxes = [[float(value) for value in face['bbox']] for face in line['faces']]
    for box in boxes:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] < box[0] or box[3] < box[1]:
            raise ValueError(f'the box {box} is not x1, y1, x2, y2 with x1 <= x2 and y1 <= y2')
    return name, frame, boxes
