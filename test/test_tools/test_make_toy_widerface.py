# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

from pathlib import Path

TOOL = 'tools/data/make_toy_widerface.py'


def test_tool__makes_the_number_of_pictures_asked_for(run_tool, tmp_path: Path):
    root = tmp_path / 'toy'
    done = run_tool(TOOL, root, '--num-train', 3, '--num-val', 2, '--size', 160, 120)
    assert '3 training and 2 validation pictures' in done.stdout
    assert len(list((root / 'train/images').rglob('*.jpg'))) == 3
    assert len(list((root / 'val/images').rglob('*.jpg'))) == 2
    assert len(list((root / 'val/gt').glob('wider_*_val.mat'))) == 4


def test_tool__says_in_one_line_what_is_wrong(run_tool, tmp_path: Path):
    done = run_tool(TOOL, tmp_path / 'toy', '--size', 10, 10, ok=False)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert done.stderr.startswith('error: image_size must be at least 64 x 64')
