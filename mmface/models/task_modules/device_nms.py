# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Non-maximum suppression that also works on devices for which mmcv has no kernel."""

from __future__ import annotations

import logging
import re

import torch
from mmcv.ops import batched_nms as mmcv_batched_nms
from mmengine.logging import print_log
from torch import Tensor

# Error text of mmcv's dispatcher for an operator that was not compiled for a device.
_MISSING = re.compile(r'(\w+): implementation for device (\w+)\S* not found')
# Device types without the kernel: their boxes go to the host, without another try or warning.
_WITHOUT_KERNEL: set[str] = set()


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    nms_cfg: dict | None,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Suppress overlapping boxes of the same class, with a rule for equal scores.

    This is ``mmcv.ops.batched_nms`` except for two faults of it. It leaves the order of equal
    scores to an unstable sort, which differs between devices and, from 10,000 boxes on, where it
    treats classes one after the other, from its own result for fewer. Here the first box ranks
    higher, as in the numpy runtime. And from 10,000 boxes on it ignores ``class_agnostic``.

    On NPUs, mmcv is often built without this operator. In this case the work is done on the CPU
    and the result is copied back, after one warning. Any other error is passed on.

    Args:
        boxes: (N, 4) xyxy, any unit.
        scores: (N,).
        idxs: (N,) class of each box.
        nms_cfg: ``type`` and arguments of mmcv's NMS, e.g. ``dict(type='nms',
            iou_threshold=0.45)``, or ``None`` to only sort.
        class_agnostic: Whether boxes of different classes also suppress each other.

    Returns:
        The kept boxes with their scores (n, 5) and their indices (n,), best first, on the
        device of ``boxes``.

    Raises:
        ValueError: The numbers of boxes, scores and classes differ.
    """
    if not len(boxes) == len(scores) == len(idxs):
        raise ValueError(f'{len(boxes)} boxes, {len(scores)} scores and {len(idxs)} classes')
    if nms_cfg is None:
        keep = scores.argsort(descending=True, stable=True)
        return torch.cat([boxes[keep], scores[keep, None]], 1), keep
    cfg = dict(nms_cfg)
    if cfg.pop('class_agnostic', class_agnostic):
        idxs = torch.zeros_like(idxs)  # one class, however many boxes
    if cfg.get('type', 'nms') != 'nms':
        return _mmcv_nms(boxes, scores, idxs, cfg)
    order = scores.argsort(descending=True, stable=True)
    threshold = cfg.pop('score_threshold', 0)
    if threshold > 0:
        order = order[scores[order] > threshold]
        if not len(order):  # mmcv cannot take the maximum of no box
            return torch.cat([boxes[order], scores[order, None]], 1), order
    # mmcv sorts by these instead of the scores. float32 holds each up to 16 million.
    ranks = torch.arange(len(order), 0, -1, device=scores.device, dtype=torch.float32)
    _, keep = _mmcv_nms(boxes[order], ranks, idxs[order], cfg)
    keep = order[keep]
    return torch.cat([boxes[keep], scores[keep, None]], 1), keep


def _mmcv_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, cfg: dict) -> tuple[Tensor, Tensor]:
    """Call mmcv's NMS on the device of the boxes if it can, else on the CPU."""
    if boxes.device.type not in _WITHOUT_KERNEL:
        try:
            return mmcv_batched_nms(boxes, scores, idxs, cfg)
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None or missing[2] == 'cpu':
                raise
            _WITHOUT_KERNEL.add(boxes.device.type)
            print_log(
                _warning(missing[1].removesuffix('_impl'), missing[2]), 'current', logging.WARNING
            )
    dets, keep = mmcv_batched_nms(boxes.cpu(), scores.cpu(), idxs.cpu(), cfg)
    return dets.to(boxes.device), keep.to(boxes.device)


def _warning(operator: str, device: str) -> str:
    return (
        f"mmcv was built without its operator '{operator}' for {device}: it runs on the CPU from "
        'now on. Results are the same, but slower. To build it for the device: '
        f'bash build_mmcv.sh --device {device}'
    )
