# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of the tool that draws data sets."""

from __future__ import annotations

TOOL = 'tools/data/make_toy.py'


def test_widerface__as_many_images_as_asked_for(run_tool, tmp_path):
    root = tmp_path / 'toy'
    options = ['--num-train', 3, '--num-val', 2, '--size', 160, 120, '--events', '0--Parade']
    done = run_tool(TOOL, 'widerface', root, *options)
    assert f'{root}: 3 training and 2 validation images' in done.stdout
    assert len(list((root / 'train/images/0--Parade').glob('*.jpg'))) == 3
    assert len(list((root / 'val/images/0--Parade').glob('*.jpg'))) == 2
    assert len(list((root / 'val/gt').glob('wider_*_val.mat'))) == 4


def test_coco__as_many_images_as_asked_for(run_tool, tmp_path):
    root = tmp_path / 'toy'
    options = ['--num-train', 7, '--num-val', 1, '--size', 96, 64, '--no-edge-cases']
    done = run_tool(TOOL, 'coco', root, *options)
    assert f'{root}: 7 training and 1 validation images' in done.stdout
    assert len(list((root / 'train2017').glob('*.jpg'))) == 7


def test_mistakes__are_one_line(door, tmp_path):
    (tmp_path / 'train2017').mkdir()
    for args, message in [
        (['widerface', tmp_path / 'toy', '--size', 10, 10], 'image_size must be at least 64 x 64'),
        (['coco', tmp_path], f'{tmp_path} holds data that this program did not make'),
    ]:
        done = door(TOOL, *args, ok=False)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f'error: {message}')
