# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Counting parameters and multiply-adds."""

from __future__ import annotations

TOOL = 'tools/analysis/get_flops.py'
CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


def test_get_flops__gives_the_published_numbers(run_tool):
    done = run_tool(TOOL, CONFIG, '--size', 480, 640)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows['whole'] == ['631,410', '0.550', 'G']
    assert rows.keys() == {'part', 'backbone', 'neck', 'bbox_head', 'whole'}


def test_get_flops__refuses_sizes_the_network_would_cut(door):
    done = door(TOOL, CONFIG, '--size', 480, 650, ok=False)
    assert done.returncode == 2
    assert 'expected multiples of 32' in done.stderr
