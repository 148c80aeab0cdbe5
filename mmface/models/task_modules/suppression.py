# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Reduce overlapping detections to one per face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.structures import InstanceData

from mmface.models.task_modules.box_voting import vote_boxes
from mmface.models.task_modules.device_nms import batched_nms
from mmface.models.task_modules.soft_nms import soft_nms

KINDS = ('nms', 'soft_nms', 'box_voting')
SOFT_ONLY = ('method', 'sigma', 'min_score')  # arguments that only soft_nms accepts


def suppress(
    found: InstanceData, nms_cfg: Mapping[str, Any] | None, max_per_img: int = -1
) -> InstanceData:
    """Suppress or merge overlapping detections of an image; shared by heads and view merging.

    Args:
        found: ``bboxes`` (N, 4) xyxy, ``scores`` (N,), ``labels`` (N,), and any other field with
            N rows, such as ``keypoints``; rows stay together. Detections of different classes do
            not affect each other.
        nms_cfg: ``type`` and its arguments, or ``None`` to only sort:

            * ``dict(type='nms', iou_threshold=0.45)``: mmcv's NMS;
            * ``dict(type='soft_nms', method='linear', iou_threshold=0.3)`` or
              ``dict(type='soft_nms', method='gaussian', sigma=0.5)``, see ``soft_nms``;
            * ``dict(type='box_voting', iou_threshold=0.45)``: NMS, then ``vote_boxes``.

            Arguments of other types are allowed and have no effect, so that a single option can
            change the type.
        max_per_img: Number of detections to keep, -1 for all.

    Returns:
        The remaining detections, best first.

    Raises:
        ValueError: The type is unknown.
    """
    if not len(found):
        return found
    cfg = None
    voting = False
    if nms_cfg is not None:
        kind = nms_cfg.get('type', 'nms')
        if kind not in KINDS:
            raise ValueError(f'nms type must be one of {", ".join(KINDS)}, found {kind!r}')
        cfg = {**nms_cfg, 'type': soft_nms}
        voting = kind == 'box_voting'
        if kind != 'soft_nms':
            cfg = {key: value for key, value in cfg.items() if key not in SOFT_ONLY}
            cfg['type'] = 'nms'
    dets, keep = batched_nms(found.bboxes, found.scores, found.labels, cfg)
    if max_per_img >= 0:
        dets, keep = dets[:max_per_img], keep[:max_per_img]
    if cfg is not None and voting:
        return vote_boxes(found, keep, cfg['iou_threshold'])
    kept = found[keep]
    kept.scores = dets[:, 4]
    return kept
