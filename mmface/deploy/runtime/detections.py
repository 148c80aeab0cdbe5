# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What is found in an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.structures import Face


class Detections(NamedTuple):
    """The faces of an image as arrays; the docstring of each function says in which pixels.

    Attributes:
        bboxes: (n, 4) x1, y1, x2, y2, float32.
        scores: (n,) float32.
        keypoints: (n, K, 2) x, y, float32, or ``None`` without keypoints.
        labels: (n,) classes, int64, or ``None`` if there is one class only.
    """

    bboxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    labels: NDArray[np.int64] | None = None

    def take(self, index: Any) -> Detections:
        """Return the detections that ``index``, an array of numbers or a mask (n,), selects."""
        points, labels = (
            None if rows is None else rows[index] for rows in (self.keypoints, self.labels)
        )
        return Detections(self.bboxes[index], self.scores[index], points, labels)


def to_faces(found: Detections) -> list[Face]:
    """Return one object for each face."""
    scores = found.scores.tolist()
    if found.keypoints is None:
        return [Face(box, score) for box, score in zip(found.bboxes, scores, strict=True)]
    rows = zip(found.bboxes, scores, found.keypoints, strict=True)
    return [Face(*face) for face in rows]
