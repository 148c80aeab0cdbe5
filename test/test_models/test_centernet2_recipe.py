# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Data, schedule and optimizer of CenterNet2 are the published ones."""

from __future__ import annotations

import json

import pytest
import torch
from mmdet.registry import MODELS, PARAM_SCHEDULERS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from helpers import load_config


def rates(cfg: Config, at: list[int]) -> dict[int, float]:
    """Return the learning rates of some iterations, counted from 0."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in cfg.param_scheduler
    ]
    found = {}
    for iteration in range(max(at) + 1):
        if iteration in at:
            found[iteration] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.reference
def test_learning_rate__is_that_of_the_reference(reference_dir):
    text = (reference_dir / 'data/centernet2/cascade_tiny_head.json').read_text()
    wanted = {int(key): value for key, value in json.loads(text)['lr_schedule'].items()}
    found = rates(load_config('centernet2_r50_1x'), [key for key in wanted if key < 90_000])
    for iteration, rate in found.items():
        assert rate == pytest.approx(wanted[iteration], rel=1e-6), iteration
    assert max(found) > 80_000


@pytest.mark.parametrize(
    ('name', 'batch', 'lr', 'iters', 'drops'),
    [
        ('centernet2_r50_1x', 2, 0.02, 90_000, [60_000, 80_000]),
        ('centernet2_f_r50_1x', 2, 0.02, 90_000, [60_000, 80_000]),
        ('centernet_fpn_r50_1x', 2, 0.01, 90_000, [60_000, 80_000]),
        ('centernet2_r50_ascend', 8, 0.08, 70_000, [60_000, 80_000]),
        ('centernet2_r50_1x_8p_o1', 8, 0.08, 70_000, [60_000, 80_000]),
        ('centernet2_r50_1x_8p_o2', 8, 0.08, 70_000, [60_000, 80_000]),
        ('centernet2_r50_1x_1p_o1', 8, 0.01, 180_000, [120_000, 160_000]),
        ('centernet2_r50_1x_1p_o2', 8, 0.01, 180_000, [120_000, 160_000]),
    ],
)
def test_config__has_the_published_recipe(name, batch, lr, iters, drops):
    cfg = load_config(name)
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4)
    assert cfg.optim_wrapper.clip_grad == dict(type='value', clip_value=1.0)
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == iters
    assert cfg.param_scheduler[1].milestones == drops
    assert cfg.param_scheduler[1].end == iters
    assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'CocoBoxMetric'
    fixed = 'ascend' in name or name[-2:] in ('o1', 'o2')
    assert cfg.model.data_preprocessor.get('pad_size') == ((1344, 1344) if fixed else None)
    if name[-2:] in ('o1', 'o2'):
        kind = 'AutocastOptimWrapper' if name.endswith('o1') else 'O2OptimWrapper'
        assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == (kind, 128.0)


def test_optimizer__decays_all_but_norms():
    """Check that 8 tensors (2048 numbers) have no weight decay and 99 (71,421,449) have it."""
    cfg = load_config('centernet2_r50_1x')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    trained = [g for g in groups for p in g['params'] if p.requires_grad]
    counts = {0.0: [0, 0], 1e-4: [0, 0]}
    for group in trained:
        counts[group['weight_decay']][0] += 1
        counts[group['weight_decay']][1] += sum(p.numel() for p in group['params'])
    assert counts == {0.0: [8, 2048], 1e-4: [99, 71_421_449]}


def test_wider_face__is_one_class_with_its_evaluation():
    for name in ('centernet2_r50_wider_face', 'centernet2_narrow_wider_face'):
        cfg = load_config(name)
        assert cfg.model.roi_head.bbox_head.num_classes == 1
        assert cfg.val_evaluator.type == 'WiderFaceMetric'
        assert cfg.train_dataloader.dataset.type == 'WiderFaceDataset'
        assert cfg.train_dataloader.batch_sampler.type == 'EndlessBatchSampler'
