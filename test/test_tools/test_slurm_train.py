# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run slurm_train.sh with stand-ins for slurm's programs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.device import get_device

from helpers import assert_same_tensors
from mmface.utils.checkpoint import load_checkpoint_file

# Like the real one: options, then the command. Signals reach the task, whose status is returned.
SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$LOG/srun.txt"
trap 'exit 75' USR1 TERM
[[ $END == wait ]] || exit "$END"
touch "$LOG/ready"
while :; do sleep 0.05; done
"""
# Runs the command as the only task. MORE is only for a start that is to be preempted.
ONE_TASK = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do [[ $1 != -p ]] || shift; shift; done
SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 exec "$@" $MORE
"""
SCONTROL = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$LOG/scontrol.txt"
"""


@pytest.fixture
def start(repo, tmp_path):
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    own = {k: v for k, v in os.environ.items() if not k.startswith('SLURM')}

    def run(end, **env):
        return subprocess.Popen(
            ['bash', 'tools/slurm_train.sh', 'gpu', 'job', 'config.py', 'work', '--seed', '1'],
            cwd=repo,
            env={
                **own,
                'PATH': f'{tmp_path}:{os.environ["PATH"]}',
                'LOG': str(tmp_path),
                'END': end,
                **env,
            },
        )

    return run


JOB = {'SLURM_JOB_ID': '17', 'SLURM_JOB_NODELIST': 'a'}


@pytest.mark.parametrize('status', [0, 1, 2, 75, 137])
def test_status__only_75_goes_back_into_the_queue(start, tmp_path, status):
    assert start(str(status), **JOB).wait(60) == status
    requeued = tmp_path / 'scontrol.txt'
    assert requeued.exists() == (status == 75)
    if status == 75:
        assert requeued.read_text().split() == ['requeue', '17']
    assert '--resume' not in (tmp_path / 'srun.txt').read_text()


def test_outside_of_a_job__nothing_is_requeued(start, tmp_path):
    assert start('75').wait(60) == 75
    assert not (tmp_path / 'scontrol.txt').exists()


def test_requeued__goes_on(start, tmp_path):
    assert start('0', SLURM_RESTART_COUNT='1', **JOB).wait(60) == 0
    assert (tmp_path / 'srun.txt').read_text().splitlines()[-3:] == ['--seed', '1', '--resume']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_signals__reach_srun(start, tmp_path, number):
    process = start('wait', **JOB)
    end = time.monotonic() + 60
    while not (tmp_path / 'ready').exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == 75
    assert (tmp_path / 'scontrol.txt').exists()


@pytest.mark.skipif(get_device() != 'cpu', reason='compares with a run without ranks')
def test_job__preempted_and_requeued_ends_like_the_unbroken_run(
    repo, toy, small, checkpoint, tmp_path
):
    for name, text in (('srun', ONE_TASK), ('scontrol', SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    work = tmp_path / 'work'
    config = 'configs/scrfd/scrfd_500m_bnkps.py'
    options = ['--data-path', toy, '--seed', '5', *small]

    def start(**env):
        return subprocess.run(
            ['bash', 'tools/slurm_job.sh', config, work, *options],
            cwd=repo, capture_output=True, text=True, timeout=600,
            env={
                **os.environ, **JOB, 'SLURM_NTASKS': '1', 'SLURM_SUBMIT_DIR': str(repo),
                'SLURM_JOB_PARTITION': 'p', 'SLURM_JOB_NAME': 'j', 'MASTER_ADDR': '127.0.0.1',
                'MASTER_PORT': str(port), 'LOG': str(tmp_path), 'VIRTUAL_ENV': sys.prefix,
                'PATH': f'{tmp_path}:{Path(sys.executable).parent}:{os.environ["PATH"]}', **env,
            },
        )  # fmt: skip

    first = start(MORE='--max-minutes 0.0001')
    assert first.returncode == 75, first.stderr[-3000:]
    assert (tmp_path / 'scontrol.txt').read_text().split() == ['requeue', '17']
    assert (work / 'last_checkpoint').read_text().endswith(('iter_1.pth', 'iter_2.pth'))
    second = start(MORE='', SLURM_RESTART_COUNT='1')
    assert second.returncode == 0, second.stderr[-3000:]
    assert_same_tensors(
        *(load_checkpoint_file(f)['state_dict'] for f in (work / 'epoch_2.pth', checkpoint))
    )
