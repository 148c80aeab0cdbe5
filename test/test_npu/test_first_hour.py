# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Run the check list of test/FIRST_HOUR.md on the simulated NPU, with smaller images."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest

from helpers import REPO
from mmface.utils.entry_point import settings

PAGE = (REPO / 'test/FIRST_HOUR.md').read_text()
LINES = [line for block in re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
         for line in block.splitlines()]  # fmt: skip


@pytest.fixture(scope='module')
def run(run_tool, npu_env, tmp_path_factory):
    """Return a function that runs a line of the page in a folder of its own."""
    root = tmp_path_factory.mktemp('first_hour')

    def run_line(line: str):
        line = line.replace('data/toy_npu', f'{root}/toy').replace('test/output', f'{root}/output')
        _, tool, *words = shlex.split(line)
        words = ['8' if word == '80' else '64' if word == '320' else word for word in words]
        if tool.endswith('.sh'):
            words.insert(0, f'--output_dir={root}/output')
        return run_tool(tool, *words, VIRTUAL_ENV=sys.prefix, **npu_env)

    return root, run_line


def test_first_run_and_the_same_on_both_devices(run):
    """From the same weights, the first loss is that of the CPU."""
    root, run_line = run
    toy, first = (next(x for x in LINES if word in x) for word in ('make_toy.py', '=fp32'))
    run_line(toy)
    done = run_line(first)
    assert 'device npu x 1' in done.stdout
    assert 'Final Performance images/sec' in done.stdout
    assert 'written:' in done.stdout.splitlines()[-1]
    losses = []
    for line in (line for line in LINES if 'tools/train.py' in line):
        run_line(line)
        work = root / 'output' / re.search(r'on_\w+', line)[0]
        (log,) = work.glob('*/vis_data/scalars.json')
        losses.append(json.loads(log.read_text().splitlines()[0])['loss'])
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize('line', [line for line in LINES if 'train_performance' in line])
def test_lines_of_the_scripts__have_flags_that_exist(line, tmp_path):
    _, script, *flags = shlex.split(line.replace('data/toy_npu', str(tmp_path)))
    found = settings('perf', int(script[-5]), flags)
    assert found['config'].endswith('scrfd_500m_' + script[-5:-3] + '_o2.py')
    assert found['extra'][:2] == ['--image-size', '320']
