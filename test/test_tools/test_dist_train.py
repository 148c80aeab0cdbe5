# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Train with two ranks on the CPU."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from mmengine.device import get_device

from mmface.utils.checkpoint import load_checkpoint_file

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'
pytestmark = pytest.mark.skipif(get_device() != 'cpu', reason='tests the ranks without devices')


def test_two_ranks__train_resume_and_test(run_tool, door, toy, small, tmp_path):
    """A resume in the middle of an epoch equals the unbroken run; the test equals one rank.

    Later checkpoints are damaged, so both ranks return to the same one.
    """
    size = [*small, 'train_dataloader.batch_size=2']
    each = ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.max_keep_ckpts=-1']
    common = [CONFIG, 2, '--data-path', toy, '--seed', 1]
    unbroken = tmp_path / 'unbroken'
    run_tool('tools/dist_train.sh', *common, '--work-dir', unbroken, *size, *each)
    text = next(unbroken.glob('*/*.log')).read_text()
    assert 'Epoch(train) [2][3/3]' in text  # 12 images, 2 ranks x 2
    assert 'GPU number: 2' in text
    resumed = tmp_path / 'resumed'
    shutil.copytree(unbroken, resumed)
    for path in resumed.glob('iter_[56].pth'):
        path.write_bytes(path.read_bytes()[:-1000])
    done = run_tool('tools/dist_train.sh', *common, '--work-dir', resumed, '--resume', *size, *each)
    output = done.stdout + done.stderr
    assert output.count(f'NOT RESUMED FROM {resumed / "iter_6.pth"}') == 1  # rank 0 says it
    assert f'resuming from {resumed / "iter_4.pth"}' in output
    a, b = (load_checkpoint_file(w / 'iter_6.pth')['state_dict'] for w in (unbroken, resumed))
    assert all(torch.equal(a[key], b[key]) for key in a)

    one, two = tmp_path / 'one', tmp_path / 'two'
    last = unbroken / 'iter_6.pth'
    options = ['--data-path', toy, *small]
    door('tools/test.py', CONFIG, last, '--work-dir', one, *options)
    run_tool('tools/dist_test.sh', CONFIG, last, 2, '--work-dir', two, *options)
    assert (one / 'metrics.json').read_text() == (two / 'metrics.json').read_text()


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_job.sh']
)
def test_help__shows_an_example(run_tool, script):
    assert f'tools/{script} ' in run_tool(f'tools/{script}', '--help').stdout
    assert run_tool(f'tools/{script}', ok=False).returncode == 2


def test_bad_number_of_ranks(run_tool):
    done = run_tool('tools/dist_train.sh', CONFIG, 'two', ok=False)
    assert (done.returncode, done.stderr) == (
        2, "error: the number of ranks must be 1 or more, not 'two'\n",
    )  # fmt: skip


@pytest.mark.skipif(os.name != 'posix', reason='shell')
def test_several_hosts__need_an_address(run_tool):
    done = run_tool('tools/dist_train.sh', CONFIG, 1, ok=False, NNODES='2', MASTER_ADDR='')
    assert done.returncode == 2
    assert 'needs MASTER_ADDR' in done.stderr
