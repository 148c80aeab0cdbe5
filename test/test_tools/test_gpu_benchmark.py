# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""tools/benchmark/gpu.sh measures everything on the CPU before it is run on an accelerator."""

from __future__ import annotations

import json
import math

import pytest
from mmface_benchmark.device.report import SECTIONS

SCRIPT = 'tools/benchmark/gpu.sh'


def numbers(value):
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.slow
def test_gpu__every_section_runs(run_tool, tmp_path):
    out = tmp_path / 'gpu.json'
    done = run_tool(SCRIPT, '--device', 'cpu', '--quick', '--out', out)
    assert 'FAILED' not in done.stdout
    report = json.loads(out.read_text())
    assert list(report['sections']) == list(SECTIONS)
    for section in report['sections'].values():
        assert section['ok'] and section['error'] == ''
        found = numbers(section['found'])
        assert found
        assert all(math.isfinite(number) for number in found)
    found = {name: section['found'] for name, section in report['sections'].items()}
    assert len([name for name in found['environment'] if name.startswith('operator')]) == 5
    # Not always 0: sums in a CPU's matrix product depend on where the values lie in memory.
    assert all(row['loss_difference'] < 1e-5 for row in found['parity'].values())
    for precision in ('fp32', 'o1', 'o2'):
        row = found['precision'][f'{precision}, batch 2']
        assert row['images_per_second'] > 0 and 0 < row['busy_share'] <= 1
    assert found['assignment']['30 faces']['ratio'] > 0
    assert found['syncs']['scrfd_500m_bnkps fp32']['waits'] == 0
    assert found['syncs']['centernet2 fp32']['waits'] > 0
    assert found['loading']['fp32, batch 2']['images_per_second'] > 0
    assert found['testing']['weights'] == 'of the section loading'
    assert found['runtime']['milliseconds on the CPU']['network'] > 0


def test_gpu__a_failed_section_is_in_the_file_and_in_the_status(run_tool, tmp_path):
    out = tmp_path / 'gpu.json'
    options = ('--device', 'cpu', '--quick', '--out', out, '--data-path', tmp_path / 'none')
    done = run_tool(SCRIPT, *options, '--sections', 'testing', 'environment', ok=False)
    assert done.returncode == 1
    assert 'failed: testing' in done.stdout
    sections = json.loads(out.read_text())['sections']
    assert 'Traceback' in sections['testing']['error']
    assert sections['environment']['ok']
