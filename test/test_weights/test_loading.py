# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""What may be missing when weights are loaded for a training."""

from __future__ import annotations

import logging

import pytest
import torch
from mmdet.registry import MODELS, WEIGHT_INITIALIZERS
from mmengine.logging import MMLogger
from mmengine.model import Sequential
from mmengine.registry import DefaultScope
from torch import nn

from helpers import load_config
from mmface.engine import CheckedPretrainedInit
from mmface.weights.loading import load_fitting_weights


@pytest.fixture
def load():
    """Load the weights of a model, changed by a function, into the model of another config."""

    def run(change=lambda state: None, source='scrfd_500m_bnkps', classes=1, **options):
        state = MODELS.build(load_config(source).model).state_dict()
        change(state)
        cfg = load_config('scrfd_500m_bnkps').model
        cfg.bbox_head.num_classes = classes
        model = MODELS.build(cfg)
        load_fitting_weights(model, {'state_dict': state}, 'a.pth', **options)
        return model, state

    return run


@pytest.fixture
def log():
    """Return the messages that are logged meanwhile."""
    messages: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    logger, handler = MMLogger.get_current_instance(), Collect()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def _drop(start, keep=0):
    def change(state):
        for key in [key for key in state if key.startswith(start)][keep:]:
            del state[key]

    return change


def test_detector__one_missing_key_of_the_backbone_is_an_error(load):
    change = _drop('backbone.layer1.0.0.weight')
    with pytest.raises(ValueError, match=r'backbone \(1 of \d+ keys not loaded\).*allow-partial'):
        load(change, strict=False)
    load(change, strict=False, allow_partial=True)
    with pytest.raises(ValueError, match=r'1 missing \(backbone.layer1.0.0.weight\)'):
        load(change, strict=True, allow_partial=True)


@pytest.mark.parametrize('part', ['neck', 'bbox_head'])
def test_detector__more_than_half_of_a_part_is_an_error(load, part):
    with pytest.raises(ValueError, match=rf'too little for {part} \(\d+ of \d+ keys not loaded'):
        load(_drop(f'{part}.'), strict=False)
    load(_drop(f'{part}.', keep=200 if part == 'bbox_head' else 12), strict=False)


def test_detector__another_number_of_classes_is_reported_and_trains(load, log):
    model, state = load(classes=2, strict=False)
    key = 'bbox_head.module.reg_convs.0.weight'
    assert torch.equal(model.state_dict()[key], state[key])
    assert (
        '6 of another shape (bbox_head.module.cls_convs.0.bias ((2,) in the file, (4,)' in (log[-1])
    )


def test_detector__weights_of_another_size_are_refused(load):
    with pytest.raises(ValueError, match=r'of another shape .*too little for backbone'):
        load(source='scrfd_1gbn', strict=False)


def test_detector__names_of_insightface_are_recognised(load):
    def change(state):
        for key in [key for key in state if '.cls_convs.' in key]:
            state['bbox_head.stride_cls.' + key.split('cls_convs.')[1]] = state.pop(key)
        _drop('backbone.stem')(state)

    with pytest.raises(ValueError, match=r'names of insightface; tools/weights/convert.py conv'):
        load(change, strict=False)


@pytest.mark.parametrize(('keep', 'fits'), [(3, True), (1, False)])
def test_init_cfg__counts_the_keys_of_its_module_only(keep, fits, tmp_path, log):
    assert WEIGHT_INITIALIZERS.get('Pretrained') is CheckedPretrainedInit
    with DefaultScope.overwrite_default_scope('mmdet'):
        layer = nn.BatchNorm2d(3)
        weights = {f'backbone.0.{k}': v + 2 for k, v in list(layer.state_dict().items())[:keep]}
        torch.save({**weights, 'fc.weight': torch.ones(5)}, tmp_path / 'a.pth')
        module = _sequential(tmp_path / 'a.pth')
        if fits:
            module.init_weights()
            assert torch.equal(module[0].weight, torch.full((3,), 3.0))
            assert 'of 5 keys 1 missing (0.running_var)' in '\n'.join(log)
            return
        with pytest.raises(ValueError, match=r'init_cfg of Sequential.*the model \(3 of 4 keys'):
            module.init_weights()
        _sequential(tmp_path / 'a.pth', allow_partial=True).init_weights()
        with pytest.raises(ValueError, match=r"none of its 2 keys begins with prefix='neck\.'"):
            _sequential(tmp_path / 'a.pth', prefix='neck').init_weights()


def _sequential(path, prefix='backbone.', **options):
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix=prefix, **options)
    return Sequential(nn.BatchNorm2d(3), init_cfg=init_cfg)
