# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The function that reduces overlapping detections to one: NMS, soft-NMS and box voting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.ops import nms as mmcv_nms
from mmengine.structures import InstanceData

from mmface.models.task_modules import box_voting
from mmface.models.task_modules.suppression import suppress

NMS = dict(type='nms', iou_threshold=0.4)
SOFT = dict(type='soft_nms', method='gaussian', sigma=0.5, iou_threshold=0.4)
VOTING = dict(type='box_voting', iou_threshold=0.4)


def crowd(count=150, classes=1, seed=0):
    """Build groups of overlapping faces. Keypoints identify their box."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count // 5, 2, generator=generator).repeat(5, 1) * 200
    corner = centre + torch.randn(count, 2, generator=generator) * 2
    bboxes = torch.cat([corner, corner + 15 + torch.rand(count, 2, generator=generator)], 1)
    points = bboxes[:, None, :2] + torch.arange(5)[:, None]
    return InstanceData(
        bboxes=bboxes,
        scores=torch.rand(count, generator=generator),
        labels=torch.arange(count) % classes,
        keypoints=torch.cat([points, bboxes.new_ones(count, 5, 1)], -1),
        number=torch.arange(count),
    )


def iou(box, boxes):
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inter = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return inter / ((box[2:] - box[:2]).prod() + areas - inter)


def places(found):
    """Return boxes, keypoints and scores in one row per face."""
    return torch.cat([found.bboxes, found.keypoints[..., :2].flatten(1), found.scores[:, None]], 1)


def vote_by_definition(found, threshold):
    """Vote in a loop as RetinaFace and S3FD do, but keep single boxes."""
    rows = places(found).double().numpy()
    rows = rows[(-rows[:, -1]).argsort(kind='stable')]
    merged = []
    while len(rows):
        group = iou(rows[0, :4], rows[:, :4]) > threshold
        group[0] = True
        weights = rows[group, -1:]
        merged.append([*(rows[group, :-1] * weights).sum(0) / weights.sum(), rows[group, -1].max()])
        rows = rows[~group]
    return np.array(merged)


@pytest.mark.parametrize('cfg', [NMS, SOFT, VOTING, None])
def test_suppress__keeps_fields_together_and_best_first(cfg):
    found = crowd()
    kept = suppress(found, cfg)
    assert (kept.scores.diff() <= 0).all()
    assert len(kept) == (150 if cfg is None else len(kept))
    source = found[kept.number]
    if cfg is VOTING:
        assert not torch.equal(kept.bboxes, source.bboxes)
        # Keypoints of these faces are at the corner of their box, and so are their means.
        torch.testing.assert_close(kept.keypoints[:, 0, :2], kept.bboxes[:, :2])
    else:
        assert torch.equal(kept.bboxes, source.bboxes)
        assert torch.equal(kept.keypoints, source.keypoints)
    assert len(suppress(found, cfg, max_per_img=7)) == 7
    torch.testing.assert_close(suppress(found, cfg, 7).bboxes, kept.bboxes[:7])


def test_suppress__nms_is_that_of_mmcv_and_soft_nms_lowers_scores():
    found = crowd()
    _, keep = mmcv_nms(found.bboxes, found.scores, 0.4)
    assert torch.equal(suppress(found, NMS).number, keep)
    soft = suppress(found, SOFT)
    assert len(soft) > 2 * len(keep)
    lower = soft.scores < found.scores[soft.number] - 1e-6
    assert lower.float().mean() > 0.5
    assert torch.equal(soft.scores[:1], found.scores.max()[None])


def test_box_voting__is_its_definition():
    found = crowd()
    expected = vote_by_definition(found, 0.4)
    merged = suppress(found, VOTING)
    np.testing.assert_allclose(places(merged), expected, rtol=1e-4, atol=1e-3)
    assert len(merged) == len(suppress(found, NMS))


def test_box_voting__in_small_pieces_is_the_same(monkeypatch):
    found = crowd()
    whole = suppress(found, VOTING)
    monkeypatch.setattr(box_voting, '_PAIRS_AT_ONCE', 100)
    pieces = suppress(found, VOTING)
    torch.testing.assert_close(pieces.bboxes, whole.bboxes)


def test_box_voting__scores_of_zero_and_boxes_without_area():
    bboxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 30, 40], [50, 50, 60, 60.0]])
    found = InstanceData(
        bboxes=bboxes, scores=torch.tensor([0.0, 0.0, 0.5, 0.6]), labels=torch.zeros(4).long()
    )
    merged = suppress(found, VOTING)
    expected = [[50, 50, 60, 60], [30, 30, 30, 40], [0.5, 0, 10.5, 10]]
    torch.testing.assert_close(merged.bboxes, torch.tensor(expected, dtype=torch.float))


@pytest.mark.parametrize('cfg', [NMS, SOFT, VOTING])
def test_suppress__classes_do_not_touch(cfg):
    found = crowd(classes=3)
    together = suppress(found, cfg)
    for label in range(3):
        alone = suppress(found[found.labels == label], cfg)
        part = together[together.labels == label]
        assert torch.equal(part.number, alone.number)
        torch.testing.assert_close(part.bboxes, alone.bboxes)
        torch.testing.assert_close(part.scores, alone.scores)


@pytest.mark.parametrize('kind', ['nms', 'soft_nms', 'box_voting'])
def test_suppress__one_option_replaces_the_type(kind):
    found = crowd()
    cfg = dict(SOFT, min_score=1e-3, type=kind)
    plain = dict(SOFT) if kind == 'soft_nms' else dict(NMS, type=kind)
    assert torch.equal(suppress(found, cfg).bboxes, suppress(found, plain).bboxes)
    assert cfg['type'] == kind


@pytest.mark.parametrize('cfg', [NMS, SOFT, VOTING, None])
def test_suppress__nothing_found(cfg):
    nothing = suppress(crowd()[:0], cfg)
    assert nothing.bboxes.shape == (0, 4)
    assert nothing.keypoints.shape == (0, 5, 3)


def test_suppress__unknown_type():
    with pytest.raises(ValueError, match="one of nms, soft_nms, box_voting, found 'matrix_nms'"):
        suppress(crowd(), dict(type='matrix_nms'))
