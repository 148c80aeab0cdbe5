# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A model with another number of classes than the dataset is rejected at the start."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import nn

from mmface.engine.hooks.class_count_hook import ClassCountHook


class _Model(nn.Module):
    def __init__(self, num_classes, stages=1):
        super().__init__()
        heads = [BBoxHead(with_reg=False, num_classes=num_classes) for _ in range(stages)]
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = nn.ModuleList(heads) if stages > 1 else heads[0]
        self.rpn_head = BBoxHead(with_reg=False, num_classes=1)


def _runner(model, classes):
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    return SimpleNamespace(
        model=model, train_dataloader=loader, val_dataloader=loader, test_dataloader=loader
    )


@pytest.mark.parametrize('stages', [1, 3])
@pytest.mark.parametrize('start', ['before_train', 'before_val', 'before_test'])
def test_hook__names_the_option(start, stages):
    check = getattr(ClassCountHook(), start)
    check(_runner(_Model(2, stages), ('cat', 'dog')))
    for model in (_Model(80, stages), nn.Sequential(_Model(80, stages))):
        with pytest.raises(ValueError, match=r'80 classes, SimpleNamespace has 2') as e:
            check(_runner(model, ('cat', 'dog')))
        assert 'roi_head.bbox_head.num_classes=2, or metainfo' in str(e.value)


def test_hook__passes_what_has_no_classes():
    runner = _runner(_Model(80), ())
    runner.train_dataloader.dataset.metainfo = {}
    ClassCountHook().before_train(runner)
