# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import runpy


def test_benchmark__data_of_a_toy_set(run_tool, toy, tmp_path):
    done = run_tool(
        'tools/benchmark/benchmark.py',
        'data',
        'configs/scrfd/scrfd_500m_bnkps.py',
        *('--labels', toy / 'train/labelv2.txt', '--images', toy / 'train/images'),
        *('--batch-size', 2, '--rounds', 2, '--json', tmp_path / 'data.json'),
    )
    assert 'x mmface' in done.stdout
    assert not done.stdout.startswith('Could not import')
    written = json.loads((tmp_path / 'data.json').read_text())
    assert [len(comparison['timings']) for comparison in written] == [3, 6]
    assert all(c['ratios'][0]['median'] > 0 and c['timings'][0]['runs'] == 2 for c in written)


def test_benchmark__mistakes_are_one_line(door, toy):
    script = 'tools/benchmark/benchmark.py'
    done = door(script, 'data', '--labels', toy / 'train/labelv2.txt', ok=False)
    assert done.returncode == 2
    assert '--labels and --images together' in done.stderr.splitlines()[-1]
    assert door(script, 'nothing', ok=False).returncode == 2


def test_benchmark__every_subject_can_be_timed(repo):
    tool = runpy.run_path(str(repo / 'tools/benchmark/benchmark.py'))
    subjects = {'data', 'assign', 'step', 'iteration', 'inferencer', 'test', 'eval', 'import'}
    assert subjects <= tool['SUBJECTS'].keys()
    for subject in tool['SUBJECTS']:
        module = tool['_module'](subject)
        parser = argparse.ArgumentParser(conflict_handler='error')
        parser.add_argument('--rounds')
        parser.add_argument('--json')
        module.add_arguments(parser)
        assert callable(module.run)
