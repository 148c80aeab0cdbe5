# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Selection of boxes, compared with plain loops and values computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmface.models.task_modules.proposal_selection import (
    Candidates,
    best_candidates,
    suppress_fixed,
    suppress_rows,
)

STRIDES = (8, 16)
NMS = dict(type='nms', iou_threshold=0.5)


def maps(channels: int, scale: float = 1.0, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, channels, 6, 8), (2, channels, 3, 4)]
    return [scale * torch.rand(shape, generator=generator) for shape in shapes]


def candidates(boxes: list, scores: list, labels: list | None = None) -> Candidates:
    """Build candidates of one image; scores of 0 are not valid."""
    score = torch.tensor([scores], dtype=torch.float32)
    label = torch.tensor([labels or [0] * len(scores)])
    box = torch.tensor([boxes], dtype=torch.float32)
    return Candidates(box, score, label, score > 0)


def apart(count: int) -> list[list[float]]:
    return [[20.0 * n, 0.0, 20.0 * n + 10, 10.0] for n in range(count)]


@pytest.mark.parametrize('with_factors', [False, True])
def test_candidates__are_the_best_of_each_level(with_factors):
    scores, distances = maps(3), maps(4, scale=5, seed=1)
    factors = maps(1, seed=2) if with_factors else None
    found = best_candidates(scores, distances, STRIDES, 0.85, 10, factors)
    assert found.scores.shape == (2, 20), 'the number requested, whatever the scores'
    for image in range(2):
        got = []
        for n in found.valid[image].nonzero()[:, 0].tolist():
            box = [round(value, 3) for value in found.bboxes[image, n].tolist()]
            score = round(found.scores[image, n].item(), 5)
            got.append((score, int(found.labels[image, n]), *box))
        expected = []
        for level, stride in enumerate(STRIDES):
            rows = []
            _, _, height, width = scores[level].shape
            for c in range(3):
                for i in range(height):
                    for j in range(width):
                        score = scores[level][image, c, i, j].item()
                        if score <= 0.85:
                            continue
                        if factors is not None:
                            score *= factors[level][image, 0, i, j].item()
                        left, top, right, bottom = (
                            distances[level][image, :, i, j] * stride
                        ).tolist()
                        x, y = j * stride + stride // 2, i * stride + stride // 2
                        box = (x - left, y - top, x + right, y + bottom)
                        rows.append((round(score, 5), c, *(round(value, 3) for value in box)))
            expected += sorted(rows, reverse=True)[:10]
        for one, two in zip(sorted(got), sorted(expected), strict=True):
            assert one == pytest.approx(two, abs=2e-3)
    assert 20 < found.valid.sum() < 40, 'levels with more and with fewer than requested'
    assert bool((found.scores[~found.valid] == 0).all())


def test_candidates__boxes_have_a_shortest_side_and_are_not_clipped():
    scores = [torch.ones(1, 1, 1, 1)]
    found = best_candidates(scores, [torch.zeros(1, 4, 1, 1)], (8,), 0.5, 5)
    torch.testing.assert_close(found.bboxes, torch.tensor([[[4.0, 4.0, 4.01, 4.01]]]))
    found = best_candidates(scores, [torch.full((1, 4, 1, 1), 9.0)], (8,), 0.5, 5)
    torch.testing.assert_close(found.bboxes, torch.tensor([[[-68.0, -68.0, 76.0, 76.0]]]))


def test_suppress__keeps_the_best_of_overlapping_boxes():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4], [50, 0, 60, 10]]
    found = candidates(boxes, [0.5, 0.9, 0.4, 0.6])
    assert suppress_rows(found, NMS, 10, class_agnostic=True)[0].tolist() == [1, 3, 2]


def test_suppress__tells_labels_apart_or_not():
    found = candidates([[0, 0, 10, 10]] * 2, [0.5, 0.9], [0, 1])
    assert suppress_rows(found, NMS, 10, class_agnostic=True)[0].tolist() == [1]
    assert suppress_rows(found, NMS, 10, class_agnostic=False)[0].tolist() == [1, 0]


def test_suppress__boxes_that_are_not_valid_neither_stay_nor_suppress():
    found = candidates([[0, 0, 1, 1]] * 2 + [[0, 0, 1, 0.9]] + apart(1), [0, 0, 0.2, 0.1])
    assert suppress_rows(found, NMS, 10, class_agnostic=True)[0].tolist() == [2, 3]
    none = candidates(apart(3), [0, 0, 0])
    assert suppress_rows(none, NMS, 10, class_agnostic=True)[0].tolist() == []
    rows, real = suppress_fixed(none, NMS, 10, class_agnostic=True)
    assert rows.shape == real.shape == (1, 10)
    assert not real.any()


def test_suppress__ties_with_the_last_one_stay_unless_the_shape_is_fixed():
    found = candidates(apart(5), [0.9, 0.5, 0.5, 0.5, 0.4])
    assert len(suppress_rows(found, NMS, 2, class_agnostic=True)[0]) == 4
    rows, real = suppress_fixed(found, NMS, 2, class_agnostic=True)
    assert rows.shape == (1, 2)
    assert bool(real.all())
    assert rows[0, 0] == 0


def test_suppress_fixed__fills_up():
    found = candidates(apart(3), [0.5, 0.0, 0.9])
    rows, real = suppress_fixed(found, NMS, 4, class_agnostic=True)
    assert rows.tolist() == [[2, 0, 0, 0]]
    assert real.tolist() == [[True, True, False, False]]


def test_suppress__more_boxes_than_mmcv_takes_at_once():
    """Suppress more than 10,000 boxes, for which mmcv uses another algorithm."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(1, 10_500, 2, generator=generator) * 50_000
    scores = torch.rand(1, 10_500, generator=generator)
    labels = torch.zeros(1, 10_500, dtype=torch.long)
    bboxes = torch.cat([corner, corner + 30], dim=-1)
    found = Candidates(bboxes, scores, labels, scores > 0.5)
    (kept,) = suppress_rows(found, dict(type='nms', iou_threshold=0.99), 100, class_agnostic=True)
    assert torch.equal(scores[0][kept], scores[0].topk(100).values)
