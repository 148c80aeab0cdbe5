# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Matching and sampling of RoIs follow the reference."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmengine.structures import InstanceData

from helpers import random_boxes
from mmface.models.roi_heads.roi_targets import match_rois, sample_rois
from mmface.models.task_modules.padded_ground_truth import pack_ground_truth


@pytest.mark.parametrize('min_iou', [0.3, 0.6])
def test_match__is_that_of_the_per_image_assigner(min_iou):
    torch.manual_seed(0)
    rois = torch.stack([random_boxes(500, **RANGES) for _ in range(3)])
    truth = [
        InstanceData(bboxes=random_boxes(count, **RANGES), labels=torch.randint(5, (count,)))
        for count in (7, 40, 0)
    ]
    targets = match_rois(rois, pack_ground_truth(truth, rois.device), min_iou)
    assert targets.foreground[:2].any(dim=1).all()
    assigner = MaxIoUAssigner(
        pos_iou_thr=min_iou, neg_iou_thr=min_iou, min_pos_iou=min_iou, match_low_quality=False
    )
    for bboxes, gt, foreground, labels, matched in zip(rois, truth, *targets, strict=True):
        found = assigner.assign(InstanceData(priors=bboxes), gt)
        assert torch.equal(foreground, found.gt_inds > 0)
        index = found.gt_inds[foreground] - 1
        assert torch.equal(labels[foreground], gt.labels[index])
        assert torch.equal(matched[foreground], gt.bboxes[index])


def test_match__some_rois_at_a_time(monkeypatch):
    torch.manual_seed(0)
    rois = torch.stack([random_boxes(50, **RANGES) for _ in range(2)])
    truth = [
        InstanceData(bboxes=random_boxes(9, **RANGES), labels=torch.randint(5, (9,)))
        for _ in range(2)
    ]
    gt = pack_ground_truth(truth, rois.device)
    whole = match_rois(rois, gt, 0.4)
    monkeypatch.setattr('mmface.models.roi_heads.roi_targets._PAIRS_AT_ONCE', 7 * 64)
    parts = match_rois(rois, gt, 0.4)
    assert whole.foreground.any()
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


# Numbers of foreground and background RoIs among 1000, and numbers of each that are drawn.
RANGES = dict(place=(0, 100), side=(5, 65))
COUNTS = {
    'plenty of both': ((400, 600), (128, 384)),
    'little foreground': ((20, 900), (20, 492)),
    'no foreground': ((0, 700), (0, 512)),
    'little background': ((800, 100), (128, 100)),
    'little of both': ((50, 60), (50, 60)),
    'nothing': ((0, 0), (0, 0)),
}


@pytest.mark.parametrize('case', COUNTS)
def test_sample__counts_are_those_of_the_reference(case):
    there, drawn = COUNTS[case]
    torch.manual_seed(0)
    kind = torch.zeros(1000, dtype=torch.long)
    kind[: there[0]] = 1
    kind[there[0] : sum(there)] = 2
    # The second image is always full, which would reveal a mix-up of images.
    kind = torch.stack([kind[torch.randperm(1000)], 1 + torch.arange(1000) % 2])
    index, valid = sample_rois(kind == 1, kind == 2, 512, 0.25)
    assert index.shape == valid.shape == (2, 512)
    for expected, row, ok in zip(
        (drawn, (128, 384)), zip(kind, index, strict=True), valid, strict=True
    ):
        kinds = row[0][row[1][ok]]
        assert ((kinds == 1).sum(), (kinds == 2).sum()) == expected
        assert len(row[1][ok].unique()) == len(kinds) == sum(expected)
        # Foreground comes first, then background, then RoIs that were not drawn.
        assert torch.equal(kinds, kinds.sort().values)
        assert torch.equal(ok, ok.sort(descending=True).values)


def test_sample__every_roi_has_the_same_chance():
    torch.manual_seed(0)
    kind = torch.arange(40).remainder(4).eq(0).expand(4000, -1)
    index, valid = sample_rois(kind, ~kind, 16, 0.25)
    assert valid.all()
    share = torch.bincount(index.flatten(), minlength=40) / 4000
    # 4 of 10 foreground and 12 of 30 background; the limit is five standard deviations.
    assert (share - 0.4).abs().max() < 5 * (0.4 * 0.6 / 4000) ** 0.5


def test_sample__takes_all_where_there_is_room():
    foreground = torch.tensor([[True, False, False, True]])
    background = torch.tensor([[False, True, False, False]])
    index, valid = sample_rois(foreground, background, 16384, 0.25)
    assert sorted(index[valid].tolist()) == [0, 1, 3]
