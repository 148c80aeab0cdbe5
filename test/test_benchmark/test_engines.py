# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""One file is run by several engines, with the same numbers."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from mmface_benchmark.engines import ENGINES, fix_size, open_engine
from mmface_benchmark.toy_onnx import write_toy_centerface
from onnx.reference import ReferenceEvaluator

MODULES = {'opencv': 'cv2', 'mnn': 'MNN'}


@pytest.mark.parametrize('name', ENGINES)
def test_engine__gives_the_outputs_of_the_file(name, tmp_path):
    modules = [MODULES.get(name, name)] + ['pnnx'] * (name == 'ncnn')
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f'{", ".join(missing)} not installed: pip install "mmface[peers]"')
    toy = write_toy_centerface(tmp_path / 'toy.onnx')
    shape = fix_size(toy, tmp_path / 'fixed.onnx', (64, 96))
    assert shape == (1, 3, 64, 96)
    run = open_engine(name, tmp_path / 'fixed.onnx', tmp_path)
    for seed in range(2):  # the second run does not return the first one's numbers
        x = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
        found = run(x)
        right = ReferenceEvaluator(str(toy)).run(None, {'image': x})
        assert [value.shape for value in found] == [value.shape for value in right]
        for ours, theirs in zip(found, right, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_fix_size__needs_a_size_for_dynamic_sides(tmp_path):
    toy = write_toy_centerface(tmp_path / 'toy.onnx')
    with pytest.raises(ValueError, match='takes any size'):
        fix_size(toy, tmp_path / 'fixed.onnx')


def test_open_engine__names_a_missing_package(tmp_path, monkeypatch):
    def missing(path, folder):
        raise ImportError("No module named 'openvino'")

    monkeypatch.setitem(ENGINES, 'openvino', ('openvino', missing))
    with pytest.raises(ValueError, match=r'openvino.*mmface\[peers\]'):
        open_engine('openvino', tmp_path / 'a.onnx', tmp_path)


def test_tool__compares_onnxruntime_and_opencv(run_tool, tmp_path):
    toy = write_toy_centerface(tmp_path / 'toy.onnx')
    tool = 'tools/benchmark/benchmark_engines.py'
    options = ['--size', '32', '32', '--engines', 'onnxruntime', 'opencv', '--rounds', '2']
    rows = run_tool(tool, toy, *options).stdout.splitlines()
    assert 'input 1x3x32x32' in rows[0]
    assert [row.split()[0] for row in rows[1:]] == ['engine', 'onnxruntime', 'opencv']
    assert float(rows[2].split()[-1]) == 0 and float(rows[3].split()[-1]) < 1e-4
