# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet2's focal loss, compared with its definition."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor

from mmface.models import BinaryHeatmapFocalLoss


def build(**kwargs) -> BinaryHeatmapFocalLoss:
    return MODELS.build(dict(type='BinaryHeatmapFocalLoss', **kwargs))


def logit(chance: float) -> float:
    return math.log(chance / (1 - chance))


def one(value: float) -> Tensor:
    return torch.tensor([value])


def test_loss__equals_the_definition():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 50, generator=generator) * 3
    heatmap = torch.rand(2, 1, 50, generator=generator)
    place = torch.tensor([[3, 3, 7], [0, 49, 1]])  # one positive counts twice
    mask = torch.tensor([[True, True, False], [True, True, False]])
    positives = logits.flatten(1).gather(1, place)
    loss = build(ignore_high_fp=0.85, pos_weight=0.5, neg_weight=0.25)
    found = [float(value) for value in loss(logits, heatmap, positives, mask)]

    positive = negative = 0.0
    for image in range(2):
        for cell, real in zip(place[image].tolist(), mask[image].tolist(), strict=True):
            p = 1 / (1 + math.exp(-logits[image, 0, cell].item()))
            positive -= real * math.log(p) * (1 - p) ** 2
        cells = logits[image, 0].tolist(), heatmap[image, 0].tolist()
        for value, heat in zip(*cells, strict=True):
            p = 1 / (1 + math.exp(-value))
            if p < 0.85:
                negative -= math.log(1 - p) * p**2 * (1 - heat) ** 4
    assert found[0] == pytest.approx(0.5 * 0.25 * positive, rel=1e-5)
    assert found[1] == pytest.approx(0.25 * 0.75 * negative, rel=1e-5)


@pytest.mark.parametrize(('chance', 'ignored'), [(0.84, False), (0.86, True)])
def test_loss__sure_cells_without_object_are_left_out(chance, ignored):
    maps = one(logit(chance)), torch.zeros(1), torch.zeros(0), torch.zeros(0, dtype=torch.bool)
    assert (float(build(ignore_high_fp=0.85)(*maps)[1]) == 0) is ignored
    assert float(build()(*maps)[1]) > 0


def test_loss__high_positive_still_counts():
    mask = torch.tensor([True])
    positive, _ = build(ignore_high_fp=0.85)(one(3.0), torch.zeros(1), one(3.0), mask)
    assert float(positive) > 0


@pytest.mark.parametrize('value', [1e4, -1e4, torch.inf, -torch.inf])
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_loss__extreme_logits_are_clamped(value, dtype):
    logits = one(value).to(dtype).requires_grad_()
    positive, negative = build()(logits, torch.zeros(1), logits, torch.tensor([True]))
    assert positive.dtype == negative.dtype == torch.float32
    worst = -math.log(1e-4)
    (positive + negative).backward()
    worst_positive, worst_negative = (worst, 0) if value < 0 else (0, worst)
    assert positive.item() == pytest.approx(0.25 * worst_positive, rel=1e-3, abs=1e-8)
    assert negative.item() == pytest.approx(0.75 * worst_negative, rel=1e-3, abs=1e-8)
    assert float(logits.grad) == 0


def test_loss__bound_outside_is_an_error():
    with pytest.raises(ValueError, match='None for no bound, got -1'):
        build(ignore_high_fp=-1)
