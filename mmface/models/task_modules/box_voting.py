# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Merge faces that were detected several times."""

from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor

# Number of overlaps computed at a time. Several views of a crowd have tens of millions of them;
# blocks that fit into the cache of a CPU are fastest.
_PAIRS_AT_ONCE = 1 << 16


def vote_boxes(found: InstanceData, leaders: Tensor, iou_threshold: float) -> InstanceData:
    """Average each face that NMS kept with the faces that it suppressed.

    This is the box voting of S3FD, PyramidBox and RetinaFace. Boxes and keypoints are averaged
    with the scores as weights; the score is the highest one. Unlike in their code, a face that
    was detected once is kept.

    Args:
        found: ``bboxes`` (N, 4) xyxy, ``scores`` (N,), ``labels`` (N,) and, optionally,
            ``keypoints`` (N, K, 3) x, y, weight, before suppression.
        leaders: (n,) indices of the faces that NMS kept, best first.
        iou_threshold: The threshold of that NMS.

    Returns:
        n faces in the order of ``leaders``, with every field of ``found``.
    """
    merged = found[leaders]
    owner = found.labels.new_full((len(found),), len(leaders))
    owner[leaders] = torch.arange(len(leaders), device=owner.device)
    rest = (owner == len(leaders)).nonzero()[:, 0]
    owner[rest] = _owners(found[rest], merged, iou_threshold)

    places = [found.bboxes]
    if 'keypoints' in found:
        places.append(found.keypoints[..., :2].flatten(1))
    values = torch.cat(places, dim=1)
    # Scores may be 0, which would give 0 / 0.
    weights = found.scores.clamp(min=1e-6)[:, None].to(values.dtype)
    member = owner < len(leaders)
    owner, values, weights = owner[member], values[member], weights[member]
    sums = values.new_zeros(len(leaders), values.shape[1]).index_add_(0, owner, values * weights)
    mean = sums / values.new_zeros(len(leaders), 1).index_add_(0, owner, weights)
    merged.bboxes = mean[:, :4]
    if 'keypoints' in found:
        points = mean[:, 4:].unflatten(1, (-1, 2))
        merged.keypoints = torch.cat([points, merged.keypoints[..., 2:]], dim=-1)
    return merged


def _owners(found: InstanceData, leaders: InstanceData, iou_threshold: float) -> Tensor:
    """Return for each face the first leader that suppresses it, or ``len(leaders)`` if none."""
    count = len(leaders)
    rank = torch.arange(count, device=found.bboxes.device, dtype=torch.int32)
    lead_x1, lead_y1, lead_x2, lead_y2 = leaders.bboxes.T.contiguous()
    lead_area = iou_threshold * (lead_x2 - lead_x1) * (lead_y2 - lead_y1)
    rows = max(_PAIRS_AT_ONCE // count, 1)
    owners = []
    for boxes, labels in zip(found.bboxes.split(rows), found.labels.split(rows), strict=True):
        x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
        width = (torch.minimum(x2, lead_x2) - torch.maximum(x1, lead_x1)).clamp_(min=0)
        height = (torch.minimum(y2, lead_y2) - torch.maximum(y1, lead_y1)).clamp_(min=0)
        # overlap / (area + area of the leader - overlap) > threshold, without the division.
        area = iou_threshold * (x2 - x1) * (y2 - y1)
        hit = width * height * (1 + iou_threshold) > area + lead_area
        hit &= labels[:, None] == leaders.labels
        owners.append(torch.where(hit, rank, count).amin(1).long())
    return torch.cat(owners)
