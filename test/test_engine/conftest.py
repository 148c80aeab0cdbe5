# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A run small enough to be interrupted and resumed many times."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmface.engine import FaceRunner
from mmface.utils.checkpoint import secure_mmengine_loading

# Imported as by the config's custom_imports.
for name in ('mmface.datasets', 'mmface.visualization'):
    importlib.import_module(name)

SAMPLES, BATCH = 22, 4  # 6 batches, the last one smaller


class Killed(Exception):
    """Replaces the end of the process."""


@DATASETS.register_module(force=True)
class DoorsNumbers(BaseDataset):
    METAINFO = {'classes': ('face',)}

    def load_data_list(self):
        return [{'value': i / SAMPLES} for i in range(SAMPLES)]


@TRANSFORMS.register_module(force=True)
class DoorsNoise(BaseTransform):
    """Draws a different number of random values per sample, as real augmentation does."""

    def transform(self, results):
        drawn = np.random.rand(np.random.randint(1, 9))
        noise = torch.as_tensor(drawn[-1] * np.ones(8), dtype=torch.float32)
        return {'inputs': noise + results['value'], 'data_samples': results['value']}


@MODELS.register_module(force=True)
class DoorsNet(BaseModel):
    """A model with everything that can go wrong after resuming: statistics and random values."""

    def __init__(self, width=8, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.net = nn.Sequential(
            nn.Linear(8, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 1)
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = self.net(torch.stack(inputs)).squeeze(1)
        if mode == 'loss':
            target = torch.tensor(data_samples, dtype=out.dtype)
            return {'loss': ((out - target) ** 2).mean() + 0.01 * np.random.rand()}
        return list(out)


@METRICS.register_module(force=True)
class DoorsMean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(x) for x in data_samples]

    def compute_metrics(self, results):
        return {'mean': float(np.mean(results))}


@HOOKS.register_module(force=True)
class DoorsKill(Hook):
    """Stops training after some iterations, later than all other hooks."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            raise Killed


def _loader(workers, **sampler):
    return {
        'batch_size': BATCH,
        'num_workers': workers,
        'persistent_workers': False,
        'sampler': sampler,
        'dataset': {
            'type': 'DoorsNumbers',
            'serialize_data': False,  # its garbage collection would take most of the time
            'pipeline': [{'type': 'SeedSample'}, {'type': 'DoorsNoise'}],
        },
    }


@pytest.fixture
def small_run(tmp_path: Path, repo: Path, monkeypatch):
    """Return ``small_run(name, ...)``: it builds a ``FaceRunner`` in folder ``name``."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')  # so that the old value is restored
    secure_mmengine_loading()

    def make(name, *, epochs=3, workers=0, kill_at=None, resume=False, seed=7, **overrides):
        cfg = Config.fromfile(
            str(repo / 'configs/_base_/default_runtime.py'), import_custom_modules=False
        )
        cfg.merge_from_dict(
            {
                'work_dir': str(tmp_path / name),
                'experiment_name': f'{tmp_path.name}_{name}_{make.count}',
                'model': {'type': 'DoorsNet'},
                'train_dataloader': _loader(workers, type='EpochIndexSampler'),
                'train_cfg': {'type': 'ResumableEpochTrainLoop', 'max_epochs': epochs},
                'optim_wrapper': {
                    'type': 'OptimWrapper',
                    'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9},
                },
                'param_scheduler': [
                    {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 8},
                    {'type': 'MultiStepLR', 'by_epoch': True, 'milestones': [1, 2], 'gamma': 0.3},
                ],
                'val_dataloader': _loader(0, type='DefaultSampler', shuffle=False),
                'val_cfg': {'type': 'ValLoop'},
                'val_evaluator': {'type': 'DoorsMean'},
                'randomness': {'seed': seed},
                'resume': resume,
                'visualizer': {'name': f'{tmp_path.name}_{name}_{make.count}'},
                'custom_hooks': [{'type': 'DoorsKill', 'at': kill_at}] if kill_at else [],
            }
        )
        cfg.merge_from_dict(overrides)
        make.count += 1
        return FaceRunner.from_cfg(cfg)

    make.count = 0
    return make


@pytest.fixture
def train_and_kill(small_run):
    """Train until ``kill_at`` and drop the run, as if the process had ended there."""

    def run(name, kill_at, **kwargs):
        with pytest.raises(Killed):
            small_run(name, kill_at=kill_at, **kwargs).train()

    return run
