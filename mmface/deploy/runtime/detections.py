# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The detections of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.structures import Face


class Detections(NamedTuple):
    """The faces of an image as arrays. Each function that uses it states the kind of pixels.

    Attributes:
        bboxes: (n, 4) x1, y1, x2, y2, float32.
        scores: (n,) float32.
        keypoints: (n, K, 2) x, y, float32, or ``None`` if there are no keypoints.
        labels: (n,) classes, int64, or ``None`` if there is only one class.
    """

    bboxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    labels: NDArray[np.int64] | None = None

    def take(self, index: Any) -> Detections:
        """Return the detections selected by ``index``, an array of numbers or a mask (n,)."""
        points, labels = (
            None if rows is None else rows[index] for rows in (self.keypoints, self.labels)
        )
        return Detections(self.bboxes[index], self.scores[index], points, labels)


def to_faces(
    found: Detections, class_name: Callable[[int], str | None] = lambda label: None
) -> list[Face]:
    """Return the detections as a list with one object for each face.

    Args:
        found: The detections.
        class_name: Returns the name of a class.
    """
    scores = found.scores.tolist()
    labels = [0] * len(scores) if found.labels is None else found.labels.tolist()
    points = [None] * len(scores) if found.keypoints is None else found.keypoints
    rows = zip(found.bboxes, scores, points, labels, strict=True)
    return [Face(*face, class_name(face[-1])) for face in rows]
