# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Options with a typing error are found, and the others are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmface.apis.config import load_config
from mmface.apis.config_options import check_options
from mmface.utils.config_dicts import dicts

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob('[!_]*/*.py'))
SCRFD = 'scrfd_500m_bnkps'


@pytest.fixture
def warnings(monkeypatch):
    """Return ``warnings(config, options)``: the notes that loading it logs."""
    notes = []
    monkeypatch.setattr(
        'mmface.apis.config.print_log', lambda text, logger, level: notes.append(text)
    )

    def load(name, options):
        notes.clear()
        load_config(name, options)
        return notes

    return load


@pytest.mark.parametrize(
    ('key', 'cls', 'nearest'),
    [
        ('train_cfg.max_epoch', 'ResumableEpochTrainLoop', 'train_cfg.max_epochs'),
        ('optim_wrapper.optimizer.lrr', 'SGD', 'optim_wrapper.optimizer.lr'),
        ('optim_wrapper.clip_gradient', 'OptimWrapper', 'optim_wrapper.clip_grad'),
        ('model.bbox_hed.num_classes', 'SCRFD', 'model.bbox_head'),
        ('model.backbone.frozen_stage', 'MobileNetV1', ''),
        ('model.data_preprocessor.pad_sise', 'FaceDataPreprocessor', 'data_preprocessor.pad_size'),
        ('param_scheduler.1.milestone', 'MultiStepLR', 'param_scheduler.1.milestones'),
        ('train_dataloader.batchsize', 'train_dataloader', 'train_dataloader.batch_size'),
        ('train_dataloader.dataset.dataroot', 'WiderFaceDataset', 'dataset.data_root'),
        ('train_dataloader.dataset.pipeline.2.sizes', 'RandomSquareCrop', 'pipeline.2.size'),
        ('default_hooks.preemption.max_minute', 'PreemptionHook', 'preemption.max_minutes'),
        ('val_evaluator.gt_dirr', 'WiderFaceMetric', 'val_evaluator.gt_dir'),
    ],
)
def test_key_that_no_class_takes__is_an_error_with_the_nearest(key, cls, nearest):
    with pytest.raises(ValueError, match=rf'{cls} has no parameter') as error:
        load_config(SCRFD, {key: 1})
    assert nearest in str(error.value)
    assert key in str(error.value)


@pytest.mark.parametrize(
    ('key', 'nearest'),
    [
        ('max_epoch', 'max_epochs'),
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('model.test_cfg.score_th', 'model.test_cfg.score_thr'),
        ('env_cfg.mp_cfgs.mp_start_method', 'env_cfg.mp_cfg'),
        ('default_hooks.checkpoint.intervals', 'default_hooks.checkpoint.interval'),
        ('default_hooks.checkpiont.interval', 'default_hooks.checkpoint'),
    ],
)
def test_new_key__is_a_warning_with_the_nearest(warnings, key, nearest):
    (note,) = warnings(SCRFD, {key: 1})
    assert key in note
    assert f'nearest: {nearest}' in note


@pytest.mark.parametrize(
    'options',
    [
        {'train_cfg.max_epochs': 1, 'train_cfg.val_begin': 1},
        {'optim_wrapper.optimizer.nesterov': True, 'optim_wrapper.paramwise_cfg.bias_lr_mult': 2},
        {'optim_wrapper.clip_grad.max_norm': 3.0},
        {'default_hooks.bad_images.priority': 'LOW', 'default_hooks.visualization.draw': True},
        {'default_hooks.early': {'type': 'EarlyStoppingHook', 'monitor': 'x'}},
        {'default_hooks.early.type': 'EarlyStoppingHook', 'default_hooks.early.monitor': 'x'},
        {'train_dataloader.prefetch_factor': 4, 'train_dataloader.dataset.max_refetch': 3},
        {'param_scheduler.0.end': 3, 'find_unused_parameters': True, 'sync_bn': 'torch'},
        {'image_size': [320, 320], 'train_steps.crop.size': 3, 'custom_hooks': []},
        {'model.init_cfg': None, 'model.backbone.init_cfg.type': 'Pretrained'},
        {'resume': True, 'load_from': 'x.pth', 'work_dir': 'x', 'launcher': 'none'},
        {'randomness.seed': 3, 'auto_scale_lr.enable': True, 'env_cfg.dist_cfg.timeout': 3},
    ],
    ids=lambda options: next(iter(options)),
)
def test_good_options__pass(warnings, options):
    assert warnings(SCRFD, options) == []


def keys(value, path=''):
    """Return the dotted keys of everything in a config."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield f'{path}{key}'
        if any(True for _ in dicts(item)):
            yield from keys(item, f'{path}{key}.')


@pytest.mark.parametrize('name', ALL)
def test_every_key_of_our_configs__passes(name):
    cfg = Config.fromfile(CONFIGS / name)  # imports what it registers
    options = list(keys(cfg._cfg_dict))
    assert len(options) > 100
    assert check_options(cfg, options, cfg) == []
