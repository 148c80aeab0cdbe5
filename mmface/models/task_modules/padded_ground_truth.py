# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Ground truth of a whole batch in fixed-shape tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.structures import InstanceData
from torch import Tensor

# Smallest number of faces a batch is padded to; larger batches are padded to the next doubling.
# NPUs compile for every new shape, so few distinct shapes matter.
SMALLEST_BUCKET = 32
# An image with more faces is a crowd: FaceDataPreprocessor warns, and SCRFD assigns priors some
# faces at a time, so that memory no longer grows with their number.
CROWD = 4096


class PaddedGroundTruth(NamedTuple):
    """Faces of B images, padded to N each.

    Attributes:
        bboxes: (B, N, 4) xyxy in input pixels; rows of padding are zero.
        labels: (B, N) class indices; 0 in padding.
        mask: (B, N) whether the face is real.
        keypoints: (B, N, K, 3) x, y in input pixels and weight, or ``None`` if no keypoints
            were requested.
    """

    bboxes: Tensor
    labels: Tensor
    mask: Tensor
    keypoints: Tensor | None


def bucket_size(num_faces: int) -> int:
    """Round a number of faces up to 32, 64, 128, ... without an upper limit."""
    return max(SMALLEST_BUCKET, 1 << max(num_faces - 1, 0).bit_length())


def pack_ground_truth(
    gt_instances: Sequence[InstanceData], device: torch.device, num_keypoints: int = 0
) -> PaddedGroundTruth:
    """Pack the faces of a batch into one host tensor and copy it to the device at once.

    Args:
        gt_instances: One entry per image with ``bboxes`` (n, 4), ``labels`` (n,) and, if
            ``num_keypoints`` > 0, ``keypoints`` (n, num_keypoints, 3).
        device: Device of the result.
        num_keypoints: Number of keypoints of a face, 0 for none.

    Returns:
        The padded faces, float32 boxes and keypoints.

    Raises:
        ValueError: Keypoints are requested, and the ground truth has none or another number.
    """
    size = bucket_size(max(len(instances) for instances in gt_instances))
    # Columns: box, label, mask, keypoints. One tensor means one copy. It is pinned, because
    # accelerators make the host wait before they copy from memory that is not pinned.
    packed = torch.zeros(
        len(gt_instances),
        size,
        6 + 3 * num_keypoints,
        pin_memory=device.type not in ('cpu', 'meta'),
    )
    for row, instances in zip(packed, gt_instances, strict=True):
        count = len(instances)
        row[:count, :4] = instances.bboxes
        row[:count, 4] = instances.labels
        row[:count, 5] = 1
        if num_keypoints:
            row[:count, 6:] = _keypoints(instances, num_keypoints).flatten(1)
    packed = packed.to(device, non_blocking=True)
    keypoints = packed[..., 6:].unflatten(-1, (num_keypoints, 3)) if num_keypoints else None
    return PaddedGroundTruth(packed[..., :4], packed[..., 4].long(), packed[..., 5] > 0, keypoints)


def _keypoints(instances: InstanceData, num_keypoints: int) -> Tensor:
    keypoints = instances.get('keypoints')
    if keypoints is None or tuple(keypoints.shape[1:]) != (num_keypoints, 3):
        found = 'none' if keypoints is None else f'shape {tuple(keypoints.shape)}'
        raise ValueError(
            f'the head predicts {num_keypoints} keypoints and expects gt_instances.keypoints '
            f'of shape (faces, {num_keypoints}, 3), found {found}: load them with '
            'LoadFaceAnnotations, or use a config without "_bnkps"'
        )
    return keypoints
