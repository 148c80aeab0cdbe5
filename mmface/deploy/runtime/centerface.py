# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Decode CenterFace's maps with numpy: ``CenterFaceCoder`` without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.detections import Detections
from mmface.utils.centerface_convention import CONVENTIONS, MAX_LOG_SIZE

Array = NDArray[np.float32]


def decode_cells(
    cell: Array, size: Array, offset: Array, keypoints: Array | None, spec: ModelSpec
) -> tuple[Array, Array | None]:
    """Decode as ``CenterFaceCoder.decode``, but without clipping boxes to the image.

    Args:
        cell: (n, 2) column and row.
        size: (n, 2) values of the size map.
        offset: (n, 2) values of the offset map.
        keypoints: (n, 2K) values of the keypoint map, or ``None``.
        spec: Only ``convention``, ``keypoint_anchor`` and ``strides`` are used.

    Returns:
        Boxes (n, 4) xyxy and keypoints (n, K, 2) x, y or ``None``, in input pixels.
    """
    rule = CONVENTIONS[spec.convention]
    stride = np.float32(spec.strides[0])
    order = slice(None, None, -1 if rule.rows_first else 1)
    sides = np.exp(np.minimum(size[:, order], MAX_LOG_SIZE)) * np.float32(rule.size_unit)
    centre = cell + offset[:, order] + np.float32(0.5 if rule.half_cell else 0.0)
    corner = centre * stride - sides / 2
    boxes = np.concatenate([corner, corner + sides], axis=1)
    if keypoints is None:
        return boxes, None
    values = keypoints.reshape(len(keypoints), keypoints.shape[1] // 2, 2)[..., order]
    if rule.keypoint_frame == 'box':
        return boxes, values * sides[:, None] + corner[:, None]
    anchor = (cell if spec.keypoint_anchor == 'cell' else centre) * stride
    unit = sides if rule.keypoint_frame == 'sized' else np.full_like(sides, stride)
    return boxes, values * unit[:, None] + anchor[:, None]


def move_inside(found: Detections, content: tuple[int, int]) -> Detections:
    """Move and clip boxes to the image as Star-Clouds does.

    A box that crosses the left or top edge is first moved inside, with its size kept and its
    keypoints moved too. Then it is clipped at the right and bottom.

    Args:
        found: Faces in input pixels.
        content: Height and width of the image in the input.
    """
    limit = np.array(content[::-1], np.float32)
    corner = found.bboxes[:, :2]
    inside = np.clip(corner, 0, limit)
    opposite = np.minimum(inside + (found.bboxes[:, 2:] - corner), limit)
    points = found.keypoints
    return found._replace(
        bboxes=np.concatenate([inside, opposite], axis=1),
        keypoints=None if points is None else points + (inside - corner)[:, None],
    )
