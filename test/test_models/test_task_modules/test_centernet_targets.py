# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Targets of CenterNet2's dense heads, compared with loops over images, boxes and cells."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

import mmface.models.task_modules.centernet_targets as centernet_targets
from helpers import LargestTensor, objects
from mmface.models import CenterNetTargets
from mmface.models.losses.plus_one_giou_loss import plus_one_giou
from mmface.models.task_modules.centernet_targets import (
    SIZES_OF_INTEREST,
    CenterNetTargetMaps,
)
from mmface.models.task_modules.padded_ground_truth import pack_ground_truth

STRIDES = (8, 16, 32, 64, 128)
SIZE = 256  # input pixels
MAPS = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
CELLS = sum(height * width for height, width in MAPS)


def build(**kwargs) -> CenterNetTargets:
    return TASK_UTILS.build(dict(type='CenterNetTargets', strides=STRIDES, **kwargs))


def make(targets: CenterNetTargets, gt: list[InstanceData], *args) -> CenterNetTargetMaps:
    return targets(pack_ground_truth(gt, torch.device('cpu')), MAPS, *args)


def crowd(count: int, seed: int, classes: int = 3) -> InstanceData:
    """Build boxes of all sizes, some with the same centre, clipped to the image."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * SIZE
    centre[1::4] = centre[0::4][: len(centre[1::4])]
    side = 4 * (SIZE / 3) ** torch.rand(count, 2, generator=generator)
    boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1).clamp(0, SIZE)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return objects(boxes, labels.tolist())


def levels() -> list[tuple[int, int, int, float, float]]:
    """Return the index of the first cell, stride, width in cells, and bounds of each level."""
    start = 0
    found = []
    for stride, (height, width), (low, high) in zip(STRIDES, MAPS, SIZES_OF_INTEREST, strict=True):
        found.append((start, stride, width, low, high))
        start += height * width
    return found


def sides(x: float, y: float, box: list[float]) -> list[float]:
    return [x - box[0], y - box[1], box[2] - x, box[3] - y]


def plain(gt: InstanceData, classes: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Compute heatmap (C, A), distances (A, 4), -1 if missing, and positives (cell, channel)."""
    heatmap = torch.zeros(classes, CELLS)
    distances = torch.full((CELLS, 4), -1.0)
    positives = []
    boxes, labels = gt.bboxes.tolist(), gt.labels.tolist()
    for start, stride, width, low, high in levels():
        for i in range(width):
            for j in range(width):
                cell = start + i * width + j
                x, y = j * stride + stride // 2, i * stride + stride // 2
                nearest = math.inf
                for box, label in zip(boxes, labels, strict=True):
                    channel = label if classes > 1 else 0
                    w, h = box[2] - box[0], box[3] - box[1]
                    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                    column, row = int(cx // stride), int(cy // stride)
                    far = ((x - cx) ** 2 + (y - cy) ** 2) / max(2 * (1 / 9) ** 2 * w * h, 16)
                    if (row, column) == (i, j):
                        far = 0
                    heat = math.exp(-far)
                    heat = heat if heat >= 1e-4 else 0
                    heatmap[channel, cell] = max(heatmap[channel, cell].item(), heat)
                    if not low <= math.hypot(w, h) / 2 <= high:
                        continue
                    if (row, column) == (i, j):
                        positives.append((cell, channel))
                    near = abs(row - i) <= 1 and abs(column - j) <= 1
                    if near and min(sides(x, y, box)) > 0 and far < nearest:
                        nearest = far
                        distances[cell] = torch.tensor(sides(x, y, box)) / stride
    return heatmap, distances, sorted(positives)


def plain_more_positives(gt: InstanceData, predictions: Tensor) -> list[tuple[int, int]]:
    """Compute positives (cell, label) from the predictions (A, 4)."""
    positives = []
    for box, label in zip(gt.bboxes.tolist(), gt.labels.tolist(), strict=True):
        costs = {}
        w, h = box[2] - box[0], box[3] - box[1]
        for start, stride, width, low, high in levels():
            column = int((box[0] + box[2]) / 2 // stride)
            row = int((box[1] + box[3]) / 2 // stride)
            for i in (row - 1, row, row + 1):
                for j in (column - 1, column, column + 1):
                    target = sides((j + 0.5) * stride, (i + 0.5) * stride, box)
                    if min(i, j) < 0 or max(i, j) >= width or min(target) < 0:
                        continue
                    cell = start + i * width + j
                    target = torch.tensor(target) / stride
                    costs[cell] = 1 - plus_one_giou(predictions[cell], target).item()
                    if (i, j) == (row, column) and low <= math.hypot(w, h) / 2 <= high:
                        costs[cell] = 0
        ranked = sorted(costs.values()) + [math.inf] * 9
        limit = min(ranked[8], 0.2)
        positives += [(cell, label) for cell, cost in costs.items() if cost < limit]
    return sorted(positives)


def chosen(targets: CenterNetTargetMaps, image: int) -> list[tuple[int, int]]:
    mask = targets.positive[image]
    cells, channels = targets.pos_cell[image][mask], targets.pos_channel[image][mask]
    return sorted(zip(cells.tolist(), channels.tolist(), strict=True))


@pytest.mark.parametrize('classes', [1, 3])
def test_targets__equal_plain_loops(classes):
    gt = [crowd(12, seed=0), objects([]), crowd(40, seed=1)]
    targets = make(build(), gt, classes)
    for image, each in enumerate(gt):
        heatmap, distances, positives = plain(each, classes)
        torch.testing.assert_close(targets.heatmap[image], heatmap, rtol=1e-5, atol=1e-6)
        learned = targets.regressed[image]
        assert torch.equal(learned, distances[:, 0] >= 0)
        torch.testing.assert_close(targets.distances[image][learned], distances[learned])
        assert chosen(targets, image) == positives
    assert targets.regressed.sum() > 100


def test_targets__bounds_belong_to_both_levels():
    # Sides 96 and 128 give half a diagonal of exactly 80: levels 0 and 1.
    targets = make(build(), [objects([[40.0, 40.0, 136.0, 168.0]])])
    assert [cell for cell, _ in chosen(targets, 0)] == [13 * 32 + 11, 32 * 32 + 6 * 16 + 5]


def test_targets__box_is_drawn_on_every_level_and_learned_on_its_own():
    targets = make(build(), [objects([[96.0, 96.0, 118.0, 120.0]])])  # belongs to level 0 only
    peaks = targets.heatmap[0, 0] == 1
    assert [int(part.sum()) for part in peaks.split([h * w for h, w in MAPS])] == [1] * 5
    assert int(targets.regressed[0].nonzero().max()) < MAPS[0][0] * MAPS[0][1]


def test_targets__two_boxes_in_a_cell_count_twice():
    gt = objects([[90.0, 90.0, 110.0, 110.0], [88.0, 92.0, 112.0, 108.0]])
    assert len(chosen(make(build(), [gt]), 0)) == 2
    assert len(set(chosen(make(build(), [gt]), 0))) == 1


def test_targets__image_without_objects_has_none():
    targets = make(build(), [objects([]), objects([])])
    assert not targets.heatmap.any()
    assert not targets.positive.any()
    assert not targets.regressed.any()
    assert bool((targets.distances == 1).all())


@pytest.mark.parametrize('box', [[50.0, 50.0, 50.0, 80.0], [300.0, 300.0, 340.0, 340.0]])
def test_targets__boxes_without_area_or_off_the_map_are_no_positives(box):
    for more_pos in (False, True):
        targets = make(build(more_pos=more_pos), [objects([box])], 1, torch.ones(1, CELLS, 4))
        assert not targets.positive.any()
        assert not targets.regressed.any()
        assert bool(targets.heatmap.isfinite().all())


def test_targets__do_not_depend_on_the_other_images():
    gt = [crowd(5, seed=0), crowd(70, seed=1)]
    both = make(build(), gt, 3)
    alone = make(build(), gt[:1], 3)
    assert torch.equal(both.heatmap[:1], alone.heatmap)
    assert torch.equal(both.distances[:1], alone.distances)
    assert chosen(both, 0) == chosen(alone, 0)


@pytest.mark.parametrize('classes', [1, 3])
def test_more_positives__equal_plain_loops(classes):
    gt = [crowd(12, seed=2), objects([]), crowd(40, seed=3)]
    exact = make(build(), gt).distances
    generator = torch.Generator().manual_seed(4)
    # Predictions are good in most cells that learn a box, and arbitrary elsewhere.
    noise = torch.randn(exact.shape, generator=generator)
    predictions = (exact * (0.12 * noise).exp()).where(exact != 1, noise.abs() * 3)
    targets = make(build(more_pos=True), gt, classes, predictions)
    for image, each in enumerate(gt):
        expected = plain_more_positives(each, predictions[image])
        found = chosen(targets, image)
        assert found == (expected if classes > 1 else [(cell, 0) for cell, _ in expected])
    count = int(targets.positive.sum())
    assert count > int(make(build(), gt).positive.sum()), 'more positives than without'
    assert torch.equal(targets.heatmap, make(build(), gt, classes).heatmap)


def test_more_positives__need_predictions():
    with pytest.raises(ValueError, match='more_pos=True'):
        make(build(more_pos=True), [objects([])])


@pytest.mark.parametrize('classes', [1, 3])
def test_targets__memory_is_bounded_with_a_thousand_boxes(classes, monkeypatch):
    monkeypatch.setattr(centernet_targets, '_PAIRS_AT_ONCE', 1 << 16)
    gt = [crowd(1000, seed=5), crowd(3, seed=6)]
    predictions = torch.ones(2, CELLS, 4)
    with LargestTensor() as largest:
        targets = make(build(more_pos=True), gt, classes, predictions)
    slots = 2 * 1024 * len(STRIDES) * 9
    assert largest.count <= max(1 << 16, slots * 4), 'no tensor of all boxes times all cells'
    assert 5 * slots * 4 < 2 * 1024 * CELLS

    monkeypatch.undo()
    at_once = make(build(more_pos=True), gt, classes, predictions)
    assert all(torch.equal(one, two) for one, two in zip(targets, at_once, strict=True))


def test_targets__wrong_settings_are_errors():
    with pytest.raises(ValueError, match='each of the 5 strides'):
        build(sizes_of_interest=[(0, 64), (48, 192), (128, 1e6)])
    with pytest.raises(ValueError, match=r'inside \(0, 1\), got 1'):
        build(min_overlap=1)
