# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""When batch norms are folded. Tests of every config check that the outputs stay the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook, IterTimerHook
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmface.engine import FuseConvBNHook


class Loop(EpochBasedTrainLoop):
    def __init__(self) -> None:
        """Do nothing; only the type of the loop matters."""


def norms_left(train_loop=None, hooks=(), half=False, **options) -> int:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    if half:
        model[0].to(torch.bfloat16)
    runner = SimpleNamespace(model=model, _train_loop=train_loop, hooks=[*hooks])
    FuseConvBNHook(**options).before_test(runner)
    return sum(isinstance(module, nn.BatchNorm2d) for module in runner.model.modules())


@pytest.mark.parametrize('train_loop', [None, dict(type='EpochBasedTrainLoop')])
def test_before_test__folds_norms_of_a_model_that_is_only_tested(train_loop):
    assert norms_left(train_loop, [IterTimerHook()]) == 0


@pytest.mark.parametrize(
    'kept',
    [
        dict(train_loop=Loop()),
        dict(hooks=[EMAHook()]),
        dict(half=True),
        dict(enabled=False),
    ],
    ids=['trained', 'averaged', 'two types', 'switched off'],
)
def test_before_test__leaves_others_alone(kept):
    assert norms_left(**kept) == 1
