# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Decode the outputs of a network to faces in the image. Needs no session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.centerface import move_inside
from mmface.deploy.runtime.detections import Detections
from mmface.deploy.runtime.letterbox import Placement
from mmface.deploy.runtime.nms import class_nms
from mmface.deploy.runtime.readers import read_outputs, reader_of


def decode(
    outputs: Sequence[NDArray[np.generic]],
    spec: ModelSpec,
    placements: Sequence[Placement],
    **overrides: Any,
) -> list[Detections]:
    """Decode the outputs of a batch.

    Args:
        outputs: Arrays in the order of the file. The batch may be larger than the number of
            placements (the rest is padding). The batch axis may be missing for one image.
        spec: Specification of the outputs.
        placements: Position of each image in its input.
        **overrides: Attributes of ``spec`` to replace, such as ``score_thr=0.5``.

    Returns:
        Faces of each image, highest score first, in pixels of the original image, after threshold
        and NMS.

    Raises:
        ValueError: The number or shapes of the outputs do not match the specification and the
            size of the input, or the layout is a part of CenterNet2.
    """
    if overrides:
        spec = replace(spec, **overrides)
    if not placements:
        return []
    read = reader_of(spec)
    finish = _finish_scrfd if spec.family == 'scrfd' else _finish_centerface
    images = zip(read_outputs(outputs, spec, placements), placements, strict=True)
    # Values far outside the range of a trained network must not abort a run over a folder.
    with np.errstate(over='ignore', invalid='ignore'):
        return [
            finish(read(maps, spec, placement.size), spec, placement) for maps, placement in images
        ]


def suppress(found: Detections, spec: ModelSpec) -> Detections:
    """Remove overlapping faces of the same class and keep at most ``max_per_img``, best first."""
    keep = class_nms(found.bboxes, found.scores, found.labels, spec.nms_iou, spec.nms_offset)
    return found.take(keep if spec.max_per_img < 0 else keep[: spec.max_per_img])


def to_original(found: Detections, placement: Placement) -> Detections:
    """Convert input pixels to pixels of the original image, as the heads do."""
    offset = np.array(placement.offset, np.float32)
    scale = np.array(placement.scale, np.float32)
    points = found.keypoints
    return found._replace(
        bboxes=((found.bboxes.reshape(-1, 2, 2) - offset) / scale).reshape(-1, 4),
        keypoints=None if points is None else (points - offset) / scale,
    )


def _finish_scrfd(found: Detections, spec: ModelSpec, placement: Placement) -> Detections:
    if spec.clip:
        found = found._replace(bboxes=clip_boxes(found.bboxes, placement.content))
    found = to_original(found, placement)
    if spec.min_bbox_size > 0:
        sides = found.bboxes[:, 2:] - found.bboxes[:, :2]
        found = found.take(np.all(sides > spec.min_bbox_size, axis=1))
    return suppress(found, spec)


def _finish_centerface(found: Detections, spec: ModelSpec, placement: Placement) -> Detections:
    if spec.clip:
        found = move_inside(found, placement.content)
    return to_original(suppress(found, spec), placement)


def clip_boxes(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Clip boxes (n, 4) xyxy to an image of ``size``, height and width."""
    limit = np.array(size[::-1], np.float32)
    return np.clip(boxes.reshape(-1, 2, 2), 0, limit).reshape(-1, 4)
