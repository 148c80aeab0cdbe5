# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The newest good checkpoint is kept in all cases."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from mmface.utils.checkpoint import load_checkpoint_file
from mmface.utils.checkpoint_health import find_resume_checkpoint


def _files(folder):
    return sorted(p.name for p in Path(folder).iterdir() if p.is_file() and p.suffix == '.pth')


@pytest.fixture
def full_disk():
    """Limit the size of files: writing more raises OSError (EFBIG), as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_save__keeps_the_newest(small_run):
    runner = small_run('run', epochs=4, default_hooks={'checkpoint': {'max_keep_ckpts': 2}})
    runner.train()
    assert _files(runner.work_dir) == ['epoch_3.pth', 'epoch_4.pth']
    assert find_resume_checkpoint(runner.work_dir) == Path(runner.work_dir) / 'epoch_4.pth'


def test_save__best_replaces_the_former_best(small_run):
    hook = {'checkpoint': {'max_keep_ckpts': 1, 'save_best': 'mean', 'rule': 'greater'}}
    runner = small_run('run', epochs=4, default_hooks=hook)
    runner.train()
    best = [name for name in _files(runner.work_dir) if name.startswith('best')]
    assert len(best) == 1
    assert runner.message_hub.get_info('best_ckpt').endswith(best[0])


@pytest.mark.parametrize('keep', [1, 3])
def test_save__full_disk_leaves_the_former_checkpoint_whole(small_run, full_disk, keep):
    settings = {
        'default_hooks': {'checkpoint': {'max_keep_ckpts': keep}},
        'model': {'width': 20000},  # far larger than the logs
        'optim_wrapper': {'optimizer': {'lr': 1e-6}},
    }
    first = small_run('run', epochs=1, **settings)
    first.train()
    weights = first.model.state_dict()
    size = (Path(first.work_dir) / 'epoch_1.pth').stat().st_size
    second = small_run('run', epochs=2, resume=True, **settings)
    full_disk(size // 2)
    with pytest.raises(OSError, match=r'checkpoint not written \(File too large\)'):
        second.train()
    full_disk(resource.RLIM_INFINITY)
    assert _files(first.work_dir) == ['epoch_1.pth']
    left = find_resume_checkpoint(first.work_dir)
    loaded = load_checkpoint_file(left)['state_dict']
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)
    third = small_run('run', epochs=2, resume=True, **settings)
    third.train()
    assert third.iter == 12


def test_resume__nothing_there_starts_anew(small_run):
    runner = small_run('run', epochs=1, resume=True)
    runner.train()
    assert runner.iter == 6
