# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Trainable parameters of CenterNet2 and their optimizer settings are the reference's."""

from __future__ import annotations

import pytest
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper

from helpers import config_file, load_config
from mmface.weights.convert import build_model

# Two FCs and the outputs for 80 classes, background and a box.
STAGE = (256 * 7 * 7 + 1) * 1024 + (1024 + 1) * (1024 + 81 + 4)
# Tensors and parameters with and without weight decay, counted in the reference's own model and
# optimizer. CenterNet2-F lacks two of the three stages, each with 8 tensors.
SIZES = {
    'centernet2_r50_1x': ((99, 71_421_449), (8, 2048)),
    'centernet2_f_r50_1x': ((99 - 16, 71_421_449 - 2 * STAGE), (8, 2048)),
}


@pytest.mark.parametrize('name', SIZES)
def test_optimizer__has_the_reference_s_groups(name):
    cfg = load_config(name)
    model = build_model(config_file(name))
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    found = []
    for decay in (1e-4, 0.0):
        sizes = [
            param.numel()
            for group in groups
            for param in group['params']
            if group['weight_decay'] == decay and param.requires_grad
        ]
        found.append((len(sizes), sum(sizes)))
    assert tuple(found) == SIZES[name]
    trainable = [p.numel() for p in model.parameters() if p.requires_grad]
    assert (len(trainable), sum(trainable)) == tuple(map(sum, zip(*SIZES[name], strict=True)))
    assert {(group['lr'], group['momentum']) for group in groups} == {(0.02, 0.9)}


def test_model__has_the_reference_s_count():
    model = build_model(config_file('centernet2_r50_1x'))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 71_423_497
    # Skip the batch counters: mmdet's norms have them and the reference's do not.
    state = {k: v for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
    assert (len(state), sum(v.numel() for v in state.values())) == (330, 71_752_137)


@pytest.mark.parametrize('num_classes', [1, 365, 1203])
def test_model__class_count_is_one_value(num_classes):
    cfg = load_config('centernet2_r50_1x')
    cfg.merge_from_dict({'model.roi_head.bbox_head.num_classes': num_classes})
    head = MODELS.build(cfg.model.roi_head)
    assert [stage.fc_cls.out_features for stage in head.stages] == [num_classes + 1] * 3
    assert [stage.fc_reg.out_features for stage in head.stages] == [4] * 3
