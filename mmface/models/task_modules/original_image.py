# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Conversion from input pixels to pixels of the original image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import InstanceData


def to_original(found: InstanceData, meta: Mapping[str, Any]) -> InstanceData:
    """Convert input pixels to pixels of the image as stored; all heads use this function.

    Position p of the input is position (p - pad_offset) / scale_factor of the image, as in the
    runtime's ``Placement``.

    Args:
        found: ``bboxes`` (n, 4) xyxy and, optionally, ``keypoints`` (n, K, 3) x, y, weight;
            modified in place.
        meta: ``scale_factor`` (w, h) and, if the image does not start at the left-top corner of
            the input, ``pad_offset`` (x, y in input pixels).

    Returns:
        ``found``.
    """
    start = found.bboxes.new_tensor(meta.get('pad_offset') or (0.0, 0.0))
    factor = found.bboxes.new_tensor(meta['scale_factor'])
    found.bboxes = (found.bboxes - start.repeat(2)) / factor.repeat(2)
    if 'keypoints' in found:
        points = (found.keypoints[..., :2] - start) / factor
        found.keypoints = torch.cat([points, found.keypoints[..., 2:]], dim=-1)
    return found


def keep_inside(found: InstanceData, size: tuple[int, int]) -> InstanceData:
    """Clip boxes to an image of ``size`` (height, width) and drop boxes without an area left."""
    height, width = size
    # Numbers, because a tensor would have to be copied to the device.
    x, y = found.bboxes[:, 0::2].clamp(0, width), found.bboxes[:, 1::2].clamp(0, height)
    found.bboxes = torch.stack([x, y], dim=-1).flatten(1)
    return found[(found.bboxes[:, 2:] > found.bboxes[:, :2]).all(-1)]
