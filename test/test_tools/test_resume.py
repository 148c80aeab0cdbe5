# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A killed training that the tool resumes ends with the weights of the unbroken run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from helpers import assert_same_tensors
from mmface.utils.checkpoint import load_checkpoint_file

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


def test_resume__after_sigkill_in_the_middle_of_an_epoch(
    door, repo, toy, small, checkpoint, tmp_path
):
    """It is killed from outside when an iteration checkpoint inside an epoch exists."""
    args = [
        CONFIG, '--data-path', toy, '--work-dir', tmp_path, *small,
        'train_dataloader.num_workers=1', 'default_hooks.checkpoint.by_epoch=False',
    ]  # fmt: skip
    first = subprocess.Popen(
        [sys.executable, 'tools/train.py', *map(str, args), 'randomness.seed=5'],
        cwd=repo,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    note = tmp_path / 'last_checkpoint'
    end = time.time() + 600
    while time.time() < end and first.poll() is None:
        if note.is_file() and note.read_text().endswith(('iter_1.pth', 'iter_2.pth', 'iter_4.pth')):
            first.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    first.wait()
    stopped_at = note.read_text()
    assert not stopped_at.endswith('iter_6.pth'), 'it ended before it could be killed'
    done = door('tools/train.py', *args, '--resume')  # no seed: the checkpoint has it
    assert 'resumed epoch' in done.stdout + done.stderr
    assert_same_tensors(
        *(
            load_checkpoint_file(path)['state_dict']
            for path in (tmp_path / 'iter_6.pth', checkpoint)
        )
    )


def test_resume__from_a_named_epoch_checkpoint(door, toy, small, checkpoint, tmp_path):
    first = checkpoint.with_name('epoch_1.pth')
    door(
        'tools/train.py', CONFIG, '--data-path', toy, '--work-dir', tmp_path, '--resume', first,
        *small,
    )  # fmt: skip
    assert not (tmp_path / 'epoch_1.pth').exists()
    assert_same_tensors(
        *(
            load_checkpoint_file(path)['state_dict']
            for path in (tmp_path / 'epoch_2.pth', checkpoint)
        )
    )


def test_resume__first_start_takes_load_from(door, toy, small, checkpoint, tmp_path):
    args = [
        CONFIG, '--data-path', toy, '--work-dir', tmp_path, '--load-from', checkpoint, '--resume',
        *small, 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0',
    ]  # fmt: skip
    done = door('tools/train.py', *args, '--no-validate')
    assert f'Load checkpoint from {checkpoint}' in done.stdout + done.stderr
    done = door('tools/train.py', *args, '--no-validate')
    assert 'resumed epoch: 1, iter: 3' in done.stdout + done.stderr
