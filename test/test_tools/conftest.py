# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Provide a training that takes seconds, for the tests of the tools."""

from __future__ import annotations

import pytest

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
SIDE = '(96,96)'


@pytest.fixture(scope='session')
def small():
    """Return options that make the config small: batch 4, 96 pixels, no workers, 2 epochs."""
    return [
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=10',
        'train_dataloader.batch_size=4',
        'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0',
        'test_dataloader.num_workers=0',
        'train_dataloader.dataset.pipeline.2.size=96',
        f'val_dataloader.dataset.pipeline.1.scale={SIDE}',
        f'test_dataloader.dataset.pipeline.1.scale={SIDE}',
        f'model.data_preprocessor.pad_size={SIDE}',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=1',
    ]


@pytest.fixture(scope='session')
def checkpoint(door, toy, small, once):
    """Return the last checkpoint of two epochs of training, in its work dir."""

    def train(work):
        door('tools/train.py', CONFIG, '--data-path', toy, '--work-dir', work, '--seed', 5, *small)

    return once('trained', train) / 'epoch_2.pth'


@pytest.fixture(scope='session')
def toy_coco(once):
    """Draw 9 training and 4 validation images in the layout of COCO, with the edge cases."""
    from mmface.toys.coco import make_toy_coco

    options = dict(num_train=9, num_val=4, image_size=(96, 64), seed=3)
    return once('toy_coco', lambda folder: make_toy_coco(folder, **options))
