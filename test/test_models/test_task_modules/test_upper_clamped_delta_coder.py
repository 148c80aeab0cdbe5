# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Encoding and decoding of boxes as in detectron2."""

from __future__ import annotations

import math

import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

from helpers import random_boxes
from mmface.models.task_modules.upper_clamped_delta_coder import UpperClampedDeltaCoder

RANGES = dict(place=(-50, 450), side=(10, 310))
WEIGHTS = (30.0, 30.0, 15.0, 15.0)


def test_coder__is_the_usual_one_within_the_clamp():
    torch.manual_seed(0)
    ours = UpperClampedDeltaCoder(WEIGHTS)
    theirs = DeltaXYWHBBoxCoder(
        target_stds=[1 / weight for weight in WEIGHTS], clip_border=False, use_box_type=False
    )
    first, second = random_boxes(1000, **RANGES), random_boxes(1000, **RANGES)
    deltas = ours.encode(first, second)
    torch.testing.assert_close(deltas, theirs.encode(first, second))
    found = ours.decode(first, deltas)
    torch.testing.assert_close(found, theirs.decode(first, deltas), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(found, second, atol=1e-3, rtol=1e-5)


def test_coder__takes_any_number_of_dimensions():
    torch.manual_seed(0)
    coder = UpperClampedDeltaCoder(WEIGHTS)
    first, second = random_boxes(2, 5, **RANGES), random_boxes(2, 5, **RANGES)
    deltas = coder.encode(first, second)
    assert torch.equal(deltas[1], coder.encode(first[1], second[1]))
    assert torch.equal(coder.decode(first, deltas)[1], coder.decode(first[1], deltas[1]))


def test_decode__clamps_sizes_from_above_and_not_from_below():
    coder = UpperClampedDeltaCoder((1.0, 1.0, 1.0, 1.0))
    box = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    left, top, right, bottom = coder.decode(box, torch.tensor([[0.0, 0.0, 50.0, -8.0]]))[0].tolist()
    assert math.isclose(right - left, 10 * 1000 / 16, rel_tol=1e-6)
    # Top and bottom are near 10, which requires the absolute tolerance.
    assert math.isclose(bottom - top, 20 * math.exp(-8), abs_tol=2e-6)


def test_decode__empty_box_stays_empty_and_finite():
    coder = UpperClampedDeltaCoder()
    box = coder.decode(torch.zeros(1, 4), torch.full((1, 4), 1e4))
    assert torch.equal(box, torch.zeros(1, 4))
