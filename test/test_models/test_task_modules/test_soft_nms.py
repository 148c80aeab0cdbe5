# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Soft-NMS, compared with its definition, and inputs that mmcv's operator handles wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import random_boxes
from mmface.models.task_modules.soft_nms import soft_nms


def crowd(count=120):
    generator = torch.Generator().manual_seed(0)
    boxes = random_boxes(count, place=(0, 80), side=(8, 28), generator=generator)
    return boxes, torch.rand(count, generator=generator)


def by_definition(boxes, scores, method, iou_threshold, sigma, min_score, offset):
    """Run the pseudo code of arXiv 1704.04503, figure 3."""
    boxes, left = boxes.numpy().astype(np.float64), scores.numpy().astype(np.float64)
    alive, kept, final = left >= min_score, [], []
    while alive.any():
        best = int(np.where(alive, left, -1).argmax())
        kept.append(best)
        final.append(left[best])
        alive[best] = False
        low = np.maximum(boxes[:, :2], boxes[best, :2])
        high = np.minimum(boxes[:, 2:], boxes[best, 2:])
        inter = np.maximum(high - low + offset, 0).prod(1)
        area = (boxes[:, 2:] - boxes[:, :2] + offset).prod(1)
        iou = inter / (area + area[best] - inter)
        if method == 'linear':
            left = np.where(iou >= iou_threshold, left * (1 - iou), left)
        else:
            left = left * np.exp(-(iou**2) / sigma)
        alive &= left >= min_score
    return np.array(kept), np.array(final)


@pytest.mark.parametrize('method', ['linear', 'gaussian'])
@pytest.mark.parametrize(
    ('iou_threshold', 'sigma', 'min_score', 'offset'),
    [(0.3, 0.5, 1e-3, 0), (0.1, 0.1, 0.2, 0), (0.3, 0.5, 0.05, 1)],
)
def test_soft_nms__is_its_definition(method, iou_threshold, sigma, min_score, offset):
    boxes, scores = crowd()
    args = dict(
        method=method,
        iou_threshold=iou_threshold,
        sigma=sigma,
        min_score=min_score,
        offset=offset,
    )
    dets, keep = soft_nms(boxes, scores, **args)
    kept, final = by_definition(boxes, scores, **args)
    assert keep.tolist() == kept.tolist()
    np.testing.assert_allclose(dets[:, 4], final, rtol=1e-4)
    assert torch.equal(dets[:, :4], boxes[keep])
    lowered = dets[:, 4] < scores[keep] - 1e-6
    assert 10 < int(lowered.sum()) < len(keep) <= len(boxes)


@pytest.mark.parametrize('method', ['linear', 'gaussian'])
def test_soft_nms__unsound_boxes_are_left_out_and_harm_no_other(method):
    boxes, scores = crowd()
    expected = soft_nms(boxes, scores, method=method)
    nan, inf = float('nan'), float('inf')
    bad = torch.tensor(
        [[5, 5, 5, 9], [7, 7, 7, 7], [9, 9, 8, 20], [nan, 0, 5, 5], [0, 0, inf, inf]]
    )
    mixed = torch.cat([bad, boxes])
    high = torch.cat([torch.full((len(bad),), 0.99), scores])
    dets, keep = soft_nms(mixed, high, method=method)
    assert torch.isfinite(dets).all()
    assert torch.equal(keep, expected[1] + len(bad))
    assert torch.equal(dets, expected[0])


def test_soft_nms__low_scores_are_dropped_also_the_best():
    boxes, scores = crowd(3)
    assert len(soft_nms(boxes, scores * 1e-4)[1]) == 0
    assert soft_nms(boxes[:0], scores[:0])[0].shape == (0, 5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_soft_nms__other_types(dtype):
    boxes, scores = crowd()
    boxes = boxes.half()  # values that both types represent exactly
    scores = scores.half()
    expected = soft_nms(boxes.float(), scores.float())
    dets, keep = soft_nms(boxes.to(dtype), scores.to(dtype))
    assert dets.dtype == dtype
    assert torch.equal(keep, expected[1])
    torch.testing.assert_close(dets.float(), expected[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (dict(method='naive'), "method must be 'linear' or 'gaussian', found 'naive'"),
        (dict(method='gaussian', sigma=0), 'sigma must be above 0, found 0'),
    ],
)
def test_soft_nms__refuses(args, message):
    with pytest.raises(ValueError, match=message):
        soft_nms(*crowd(3), **args)
