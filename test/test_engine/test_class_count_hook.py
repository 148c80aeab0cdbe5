# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A model with other classes than the data sets is rejected at the start."""

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


def _runner(model, classes, val=None, validates=True):
    def loader(names):
        metainfo = {} if names is None else dict(classes=names)
        return SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo))

    return SimpleNamespace(
        model=model,
        train_dataloader=loader(classes),
        val_dataloader=loader(val or classes),
        test_dataloader=loader(classes),
        val_loop=object() if validates else None,
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
    ClassCountHook().before_train(_runner(_Model(80), None))


def test_before_train__checks_the_validation_data_too():
    runner = _runner(_Model(2), ('cat', 'dog'), val=('cat',))
    with pytest.raises(ValueError, match='2 classes, SimpleNamespace has 1'):
        ClassCountHook().before_train(runner)
    ClassCountHook().before_train(_runner(_Model(2), ('cat', 'dog'), ('cat',), validates=False))


def test_before_train__the_same_names_in_another_order_are_an_error():
    runner = _runner(_Model(2), ('cat', 'dog'), val=('dog', 'cat'))
    with pytest.raises(ValueError, match='cat, dog, those of the validation data dog, cat'):
        ClassCountHook().before_train(runner)


@pytest.mark.parametrize('meta', [None, 'text', {}, dict(dataset_meta=3)])
def test_before_test__a_checkpoint_without_names_passes(meta):
    hook = ClassCountHook()
    hook.after_load_checkpoint(None, dict(meta=meta))
    hook.before_test(_runner(_Model(2), ('cat', 'dog')))


def test_before_test__compares_with_the_names_in_the_checkpoint():
    hook = ClassCountHook()
    hook.after_load_checkpoint(None, dict(meta=dict(dataset_meta=dict(classes=('dog', 'cat')))))
    with pytest.raises(ValueError, match='training data of the checkpoint dog, cat'):
        hook.before_test(_runner(_Model(2), ('cat', 'dog')))
