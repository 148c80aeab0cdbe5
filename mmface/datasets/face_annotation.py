# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The faces of an image, in the form that every label reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FaceAnnotation(NamedTuple):
    """The faces of one image, in pixels of the image as stored.

    Attributes:
        path: ``event/name.jpg``, relative to the folder of the images.
        width: Width of the image, 0 if the format does not contain it.
        height: Height of the image, 0 if the format does not contain it.
        bboxes: (n, 4) x1, y1, x2, y2, where x2 = x1 + w (no pixel added or subtracted). As in the
            file: a box may leave the image or have no area.
        keypoints: (n, 5, 3) x, y, weight; -1, -1, 0 for a missing keypoint.
        ignore: (n,) True for faces that are used neither for training nor for evaluation.
    """

    path: str
    width: int
    height: int
    bboxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    ignore: NDArray[np.bool_]

    @property
    def has_area(self) -> NDArray[np.bool_]:
        """(n,) whether a box has area inside the image, or anywhere if the size is unknown."""
        corners = self.bboxes
        if self.width > 0 and self.height > 0:
            edges = np.array((self.width, self.height) * 2, np.float32)
            corners = np.clip(corners, 0, edges)
        wide, high = (corners[:, 2:] > corners[:, :2]).T
        return wide & high

    def where(self, chosen: NDArray[np.bool_]) -> FaceAnnotation:
        """Return the faces for which ``chosen`` (n,) is true."""
        bboxes, keypoints, ignore = self.bboxes[chosen], self.keypoints[chosen], self.ignore[chosen]
        return self._replace(bboxes=bboxes, keypoints=keypoints, ignore=ignore)


def assemble(
    heads: Sequence[tuple[str, int, int]],
    owners: NDArray[np.int64],
    boxes: NDArray[np.float64],
    points: NDArray[np.float64],
    ignore: NDArray[np.bool_],
) -> list[FaceAnnotation]:
    """Distribute the faces of a file to its images.

    Args:
        heads: Path, width and height of each image.
        owners: (n,) index of the image of each face, ascending.
        boxes: (n, 4) x1, y1, x2, y2.
        points: (n, 15) 5 x (x, y, flag). A flag below 0 marks a missing keypoint.
        ignore: (n,) see :class:`FaceAnnotation`.
    """
    keypoints = points.reshape(-1, 5, 3).astype(np.float32)
    labelled = keypoints[..., 2] >= 0
    keypoints[~labelled] = -1
    keypoints[..., 2] = labelled
    corners = boxes.astype(np.float32)
    ends = np.bincount(owners, minlength=len(heads)).cumsum().tolist()
    return [
        FaceAnnotation(*head, corners[start:end], keypoints[start:end], ignore[start:end])
        for head, start, end in zip(heads, [0, *ends], ends, strict=False)
    ]
