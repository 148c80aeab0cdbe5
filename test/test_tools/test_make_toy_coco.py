# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The tool that draws a COCO."""

from __future__ import annotations

TOOL = 'tools/data/make_toy_coco.py'


def test_makes_the_set(run_tool, tmp_path):
    options = ['--num-train', 7, '--num-val', 1, '--size', 96, 64, '--no-edge-cases']
    done = run_tool(TOOL, tmp_path / 'toy', *options)
    assert f'{tmp_path / "toy"}: 7 training and 1 validation pictures' in done.stdout
    assert len(list((tmp_path / 'toy/train2017').glob('*.jpg'))) == 7


def test_other_data__is_one_line(run_tool, tmp_path):
    (tmp_path / 'train2017').mkdir()
    done = run_tool(TOOL, tmp_path, ok=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: {tmp_path} holds data that this program did not make')
