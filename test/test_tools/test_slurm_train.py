# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run slurm_train.sh with stand-ins for slurm's programs."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

# Like the real one: options, then the command. Signals reach the task, whose status is returned.
SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$LOG/srun.txt"
trap 'exit 75' USR1 TERM
[[ $END == wait ]] || exit "$END"
touch "$LOG/ready"
while :; do sleep 0.05; done
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
