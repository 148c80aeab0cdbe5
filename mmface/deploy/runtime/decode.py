# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""From the outputs of a network to faces in the picture; needs no session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.letterbox import Placement
from mmface.deploy.runtime.nms import nms
from mmface.deploy.runtime.readers import Candidates, reader_of
from mmface.structures import Face


class Detections(NamedTuple):
    """The faces of a picture, best first, in pixels of the picture as it was given.

    Attributes:
        bboxes: (n, 4) x1, y1, x2, y2, float32.
        scores: (n,) float32.
        keypoints: (n, K, 2) x, y, float32, or ``None`` without landmarks.
    """

    bboxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None


def decode(
    outputs: Sequence[NDArray[np.generic]],
    spec: ModelSpec,
    placements: Sequence[Placement],
    max_per_img: int = -1,
    **overrides: Any,
) -> list[Detections]:
    """Read the outputs of a batch.

    Args:
        outputs: Arrays in the order of the file. The batch may be larger than the number of
            placements (the rest is padding), and its axis may be missing for one picture.
        spec: How to read them.
        placements: Where each picture is in its input.
        max_per_img: Number of faces kept in each picture, -1 for all.
        **overrides: Attributes of ``spec`` to replace, such as ``score_thr=0.5``.

    Returns:
        Faces of each picture, after thresholds and suppression.

    Raises:
        ValueError: If number or shapes of the outputs do not belong to the specification and the
            size of the input.
    """
    if overrides:
        spec = replace(spec, **overrides)
    if not placements:
        return []
    read = reader_of(outputs, spec, placements)
    finish = _finish_scrfd if spec.family == 'scrfd' else _finish_centerface
    # What lies far outside of a trained network's range must not end a run over a folder.
    with np.errstate(over='ignore', invalid='ignore'):
        return [
            finish(read(index), spec, placement, max_per_img)
            for index, placement in enumerate(placements)
        ]


def to_faces(found: Detections) -> list[Face]:
    """Give one object for each face."""
    scores = found.scores.tolist()
    if found.keypoints is None:
        return [Face(box, score) for box, score in zip(found.bboxes, scores, strict=True)]
    return [Face(*face) for face in zip(found.bboxes, scores, found.keypoints, strict=True)]


def _finish_scrfd(
    found: Candidates, spec: ModelSpec, placement: Placement, max_per_img: int
) -> Detections:
    boxes, scores, points = found
    if spec.clip:
        limit = np.array(placement.content[::-1], np.float32)
        boxes = np.clip(boxes.reshape(-1, 2, 2), 0, limit).reshape(-1, 4)
    boxes, points = _to_picture(boxes, points, placement)
    if spec.min_bbox_size > 0:
        large = np.all(boxes[:, 2:] - boxes[:, :2] > spec.min_bbox_size, axis=1)
        boxes, scores, points = _take(Candidates(boxes, scores, points), large)
    keep = nms(boxes, scores, spec.nms_iou, spec.nms_offset)
    if max_per_img >= 0:
        keep = keep[:max_per_img]
    return Detections(*_take(Candidates(boxes, scores, points), keep))


def _finish_centerface(
    found: Candidates, spec: ModelSpec, placement: Placement, max_per_img: int
) -> Detections:
    boxes, scores, points = found
    if spec.clip:
        # As Star-Clouds does: a face is first moved inside at the left and top, which keeps its
        # size and takes the landmarks along, and then cut at the right and bottom.
        limit = np.array(placement.content[::-1], np.float32)
        corner = boxes[:, :2]
        inside = np.clip(corner, 0, limit)
        moved = inside - corner
        opposite = np.minimum(inside + (boxes[:, 2:] - corner), limit)
        boxes = np.concatenate([inside, opposite], axis=1)
        points = None if points is None else points + moved[:, None]
    keep = nms(boxes, scores, spec.nms_iou, spec.nms_offset)
    if max_per_img >= 0:
        keep = keep[:max_per_img]
    boxes, scores, points = _take(Candidates(boxes, scores, points), keep)
    boxes, points = _to_picture(boxes, points, placement)
    return Detections(boxes, scores, points)


def _to_picture(
    boxes: NDArray[np.float32], points: NDArray[np.float32] | None, placement: Placement
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    offset = np.array(placement.offset, np.float32)
    scale = np.array(placement.scale, np.float32)
    boxes = ((boxes.reshape(-1, 2, 2) - offset) / scale).reshape(-1, 4)
    return boxes, None if points is None else (points - offset) / scale


def _take(found: Candidates, index: NDArray[Any] | np.bool_) -> Candidates:
    points = found.keypoints
    return Candidates(
        found.bboxes[index], found.scores[index], None if points is None else points[index]
    )
