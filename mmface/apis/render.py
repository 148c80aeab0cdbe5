# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Show faces in a picture, or hide them; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mmface.structures import Face
from mmface.utils.draw import draw_faces
from mmface.utils.images import Image

#: How far beyond its box a face is hidden on each side, relative to the box: boxes end at
#: forehead and chin, and hair and ears tell people apart too.
MARGIN = 0.25
#: Along the longer side of what is hidden: about four across the face, which leave its tint.
CELLS = 6
#: Pixels; the cells of a small face are at least so large.
MIN_CELL = 8


def mark_faces(image: Image, faces: Sequence[Face]) -> Image:
    """Draw boxes, scores and landmarks of ``faces`` into a copy of ``image``.

    Args:
        image: (H, W, 3) BGR.
        faces: What was detected in it.

    Returns:
        (H, W, 3) BGR.
    """
    if not faces:
        return image.copy()
    bboxes = np.stack([face.bbox for face in faces])
    scores = np.array([face.score for face in faces])
    keypoints = None
    if faces[0].keypoints is not None:
        points = np.stack([face.keypoints for face in faces if face.keypoints is not None])
        keypoints = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)
    drawn = draw_faces(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), bboxes, scores, keypoints)
    return cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)


def blur_faces(image: Image, faces: Sequence[Face]) -> Image:
    """Hide ``faces`` in a copy of ``image`` behind a few coarse, smoothed cells each.

    All a hidden face keeps are the means of ``CELLS`` x ``CELLS`` cells at most: what the cells
    averaged away is not in the picture any more. Smoothing them only makes it look calmer.

    Args:
        image: (H, W, 3) BGR.
        faces: What was detected in it.

    Returns:
        (H, W, 3) BGR.
    """
    height, width = image.shape[:2]
    hidden = image.copy()
    for face in faces:
        x1, y1, x2, y2 = face.bbox.tolist()
        grow_x, grow_y = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
        left, top = max(int(x1 - grow_x), 0), max(int(y1 - grow_y), 0)
        right, bottom = min(int(x2 + grow_x) + 1, width), min(int(y2 + grow_y) + 1, height)
        if right <= left or bottom <= top:
            continue
        part = hidden[top:bottom, left:right]
        cell = max(max(part.shape[:2]) / CELLS, MIN_CELL)
        columns, rows = (max(int(side / cell), 1) for side in (part.shape[1], part.shape[0]))
        coarse = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        hidden[top:bottom, left:right] = cv2.resize(
            coarse, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return hidden
