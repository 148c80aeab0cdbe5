# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Counting parameters and multiply-adds."""

from __future__ import annotations

import subprocess
import sys


def run(repo, *args):
    return subprocess.run(
        [sys.executable, 'tools/analysis/get_flops.py', *args],
        cwd=repo,
        capture_output=True,
        text=True,
    )


def test_get_flops__gives_the_published_numbers(repo):
    done = run(repo, 'configs/scrfd/scrfd_500m_bnkps.py', '--size', '480', '640')
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows['whole'] == ['631,410', '0.550', 'G']
    assert rows.keys() == {'part', 'backbone', 'neck', 'bbox_head', 'whole'}


def test_get_flops__refuses_sizes_the_network_would_cut(repo):
    done = run(repo, 'configs/scrfd/scrfd_500m_bnkps.py', '--size', '480', '650')
    assert done.returncode == 2
    assert 'expected multiples of 32' in done.stderr
