# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The benchmark of the runtime times all parts, and reports what it cannot time."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from mmface_benchmark.toy_onnx import write_toy_centerface

TOOL = 'tools/benchmark/benchmark_runtime.py'
SIZE = ('--size', 64, 64)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Write a CenterFace of one layer."""
    return write_toy_centerface(tmp_path_factory.mktemp('model') / 'centerface.onnx')


def test_benchmark__times_the_parts(run_tool, model, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f'{index}.jpg'), np.full((90, 160, 3), 60 * index, np.uint8))
    out = tmp_path / 'times.json'
    done = run_tool(TOOL, model, folder, '--repeats', 2, '--limit', 2, '--json', out, *SIZE)
    assert '2 images, 2 rounds' in done.stdout
    (times,) = json.loads(out.read_text()).values()
    assert list(times) == ['resize', 'pre', 'network', 'post', 'pre+post', 'whole']
    assert all(value > 0 for value in times.values())
    assert times['whole'] > max(times['network'], times['pre+post'])


def test_benchmark__says_what_is_wrong(door, model, tmp_path):
    text = tmp_path / 'people.jpg'
    text.write_text('no image')
    for args, message in (
        ((model, text), 'people.jpg (8 bytes) cannot be read'),
        ((model, tmp_path / 'none.jpg'), 'does not exist'),
        ((model, tmp_path, '--repeats', 0), 'expected at least 1'),
    ):
        done = door(TOOL, *args, ok=False)
        assert (done.returncode, done.stderr.count('\n')) == (2, 1), done.stderr
        assert message in done.stderr
