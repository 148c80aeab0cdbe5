# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The launcher ends like its ranks. Signals are tested in test/faults/preempt_cases.py."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from mmface.utils.cli import PREEMPTED

RANK = """
import os, sys, time
if os.environ['RANK'] == '1':
    {end}
time.sleep(60)
"""


@pytest.mark.parametrize(
    ('end', 'status', 'line'),
    [
        (f'sys.exit({PREEMPTED})', PREEMPTED, ''),
        ('sys.exit(3)', 3, 'rank 1 (process'),
        ('os.kill(os.getpid(), 9)', 128 + signal.SIGKILL, 'was ended by SIGKILL'),
    ],
)
def test_status__is_that_of_the_rank_that_ended_first(repo, tmp_path, end, status, line):
    script = tmp_path / 'rank.py'
    script.write_text(RANK.format(end=end))
    command = [sys.executable, '-m', 'mmface.utils.launch', '--standalone']
    done = subprocess.run(
        [*command, '--nproc_per_node', '2', script], cwd=repo, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert line in done.stderr
    assert 'Traceback' not in done.stderr
