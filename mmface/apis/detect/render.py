# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Mark the faces of images and frames, or hide them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmface.apis.detect.own_boxes import OwnBoxes
from mmface.structures import Face
from mmface.utils.draw import MARGIN, hide_faces, mark_faces
from mmface.utils.images import Image


@dataclass(frozen=True)
class MarkFaces:
    """Draws boxes, scores and keypoints."""

    def __call__(
        self, image: Image, faces: Sequence[Face], name: str = '', frame: int | None = None
    ) -> Image:
        """Return a copy of ``image`` with the faces marked."""
        return mark_faces(image, faces)


@dataclass(frozen=True)
class HideFaces:
    """Hides faces.

    Attributes:
        style: See ``hide_faces``.
        shape: See ``hide_faces``.
        margin: See ``hide_faces``.
        boxes: Further boxes that are hidden.
        keep: Faces whose centre lies in one of these boxes are not hidden.
    """

    style: str = 'blur'
    shape: str = 'box'
    margin: float = MARGIN
    boxes: OwnBoxes | None = None
    keep: OwnBoxes | None = None

    def __call__(
        self, image: Image, faces: Sequence[Face], name: str = '', frame: int | None = None
    ) -> Image:
        """Return a copy of ``image`` with the faces hidden.

        Args:
            image: (H, W, 3) BGR.
            faces: The faces found in it.
            name: Name of the image or video, for ``boxes`` and ``keep``.
            frame: Number of the frame of a video.
        """
        hidden = list(faces)
        if self.keep is not None:
            kept = self.keep.of(name, frame)
            hidden = [face for face in hidden if not _centre_is_inside(face.bbox, kept)]
        if self.boxes is not None:
            hidden += [Face(box, 1.0) for box in self.boxes.of(name, frame)]
        return hide_faces(image, hidden, self.style, self.shape, self.margin)


def _centre_is_inside(bbox: np.ndarray, boxes: np.ndarray) -> bool:
    centre = (bbox[:2] + bbox[2:]) / 2
    return bool(((boxes[:, :2] <= centre) & (centre <= boxes[:, 2:])).all(axis=1).any())
