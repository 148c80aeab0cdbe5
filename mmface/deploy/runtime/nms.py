# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Greedy non-maximum suppression in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# This number of the best boxes is compared with each other at once. The matrix of overlaps then
# stays in the cache, and Python's overhead is negligible.
_BLOCK = 128


def nms(
    bboxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float, offset: int = 0
) -> NDArray[np.intp]:
    """Keep each box unless it overlaps a kept box with a higher score.

    Args:
        bboxes: (N, 4) xyxy.
        scores: (N,). Of equal scores, the first one ranks higher.
        iou: Boxes with an IoU above this value are removed; 0 keeps all.
        offset: Pixels added to all sides: 0, or 1 as in older code.

    Returns:
        Indices of the kept boxes, highest score first.
    """
    order = np.argsort(-scores, kind='stable')
    if iou <= 0 or len(order) < 2:
        return order
    corners = np.ascontiguousarray(bboxes[order].T)
    corners[2:] += np.float32(offset)
    areas = (corners[2] - corners[0]) * (corners[3] - corners[1])
    kept = []
    while len(order):
        head = slice(0, _BLOCK)
        over = _overlaps(corners[:, head], areas[head], corners, areas, iou)
        alive = np.ones(len(over), bool)
        for index in range(len(over)):
            if alive[index]:
                alive[index + 1 :] &= ~over[index, index + 1 : len(over)]
        kept.append(order[head][alive])
        rest = ~over[alive, len(over) :].any(axis=0)
        order, areas = order[_BLOCK:][rest], areas[_BLOCK:][rest]
        corners = corners[:, _BLOCK:][:, rest]
    return np.concatenate(kept)


def class_nms(
    bboxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    iou: float,
    offset: int = 0,
) -> NDArray[np.intp]:
    """Apply ``nms`` to each class separately.

    Args:
        bboxes: (N, 4) xyxy.
        scores: (N,).
        labels: (N,) classes, or ``None`` if there is only one.
        iou: See ``nms``.
        offset: See ``nms``.

    Returns:
        Indices of the kept boxes, highest score first.
    """
    if labels is None:
        return nms(bboxes, scores, iou, offset)
    kept: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
    for label in np.unique(labels):
        (index,) = np.nonzero(labels == label)
        kept.append(index[nms(bboxes[index], scores[index], iou, offset)])
    keep = np.concatenate(kept)
    return keep[np.argsort(-scores[keep], kind='stable')]


def _overlaps(
    corners: NDArray[np.float32],
    areas: NDArray[np.float32],
    other_corners: NDArray[np.float32],
    other_areas: NDArray[np.float32],
    iou: float,
) -> NDArray[np.bool_]:
    """Compute which of the boxes (4, M) and (4, N) overlap by more than ``iou``: (M, N)."""
    left, top, right, bottom = corners[:, :, None]
    width = np.minimum(right, other_corners[2]) - np.maximum(left, other_corners[0])
    height = np.minimum(bottom, other_corners[3]) - np.maximum(top, other_corners[1])
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    # Boxes without area: 0 / 0 is NaN, and a comparison with NaN is false, so there is no overlap.
    with np.errstate(invalid='ignore', divide='ignore'):
        return inter / (areas[:, None] + other_areas - inter) > np.float32(iou)
