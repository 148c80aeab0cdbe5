# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from mmface_benchmark.toy_onnx import write_toy_centerface

TOOL = 'tools/deploy/test_onnx.py'


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    pytest.importorskip('onnx')
    return write_toy_centerface(tmp_path_factory.mktemp('model') / 'centerface.onnx')


def test_test_onnx__ap_is_that_of_the_txt_files(model, door, toy, tmp_path):
    done = door(
        *(TOOL, model, '--data-path', toy, '--protocol', 'official', '--size', 160, 160),
        *('--save-txt', tmp_path / 'txt', '--json', tmp_path / 'ap.json'),
    )
    found = json.loads((tmp_path / 'ap.json').read_text())
    assert found['images'] == 6 and found['protocol'] == 'official' and found['detections'] > 60
    for subset in ('easy', 'medium', 'hard'):
        assert f'{subset.title():6} Val AP: {found["ap"][subset]:.6f}' in done.stdout
    door(
        *('tools/evaluation/eval_widerface.py', tmp_path / 'txt', '--gt', toy / 'val/gt'),
        *('--protocol', 'official', '--json', tmp_path / 'eval.json'),
    )
    expected = json.loads((tmp_path / 'eval.json').read_text())['txt']
    assert found['ap'] == pytest.approx(expected['ap'], abs=1e-6)


def test_test_onnx__the_same_files_with_any_number_of_workers(model, door, toy, tmp_path):
    args = (TOOL, model, '--data-path', toy, '--size', 160, 160, '--threads', 1)
    for workers in (1, 3):
        door(*args, '--workers', workers, '--save-txt', tmp_path / str(workers))
    files = {path.relative_to(tmp_path / '1') for path in (tmp_path / '1').rglob('*.txt')}
    assert len(files) == 6
    for name in files:
        assert (tmp_path / '1' / name).read_bytes() == (tmp_path / '3' / name).read_bytes()


def test_test_onnx__needs_no_torch(model, repo, toy):
    code = (
        'import runpy, sys\n'
        f'sys.argv = ["t", {str(model)!r}, "--data-path", {str(toy)!r}, "--size", "64", "64"]\n'
        'try:\n'
        f'    runpy.run_path({str(repo / TOOL)!r}, run_name="__main__")\n'
        'finally:\n'
        '    print({"torch", "mmcv", "mmengine", "mmdet"} & set(sys.modules))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=repo, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'set()'


def test_test_onnx__bad_input(model, door, toy, tmp_path):
    def error(*args):
        done = door(TOOL, *args, ok=False)
        assert done.returncode == 2, done.stderr
        return done.stderr.splitlines()[-1]

    assert 'ground truth folder' in error(model, '--data-path', tmp_path)
    (tmp_path / 'broken.onnx').write_text('no model')
    assert 'expected an ONNX file' in error(tmp_path / 'broken.onnx', '--data-path', toy)
    copy = tmp_path / 'data'
    shutil.copytree(toy / 'val', copy / 'val')
    first, second, *_ = sorted((copy / 'val/images').rglob('*.jpg'))
    first.write_text('text')
    assert f'{first} (4 bytes) cannot be read' in error(model, '--data-path', copy)
    second.unlink()
    text = error(model, '--data-path', copy)
    assert '1 of 6 images are not in' in text and 'only those you have' in text


@pytest.mark.reference
def test_test_onnx__published_network(reference_dir, door, tmp_path):
    wider = reference_dir / 'data/wider'
    root = tmp_path / 'WIDERFace' / 'val'
    root.mkdir(parents=True)
    (root / 'images').symlink_to(wider / 'WIDER_val/images')
    (root / 'gt').symlink_to(wider / 'ground_truth')
    part = tmp_path / 'part.txt'
    part.write_text('\n'.join((wider / 'val_part.txt').read_text().splitlines()[:600:100]))
    weights = reference_dir / 'data/scrfd/weights'
    texts = [
        door(TOOL, weights / name, '--data-path', root.parent, '--part', part).stdout
        for name in ('scrfd_500m_bnkps.onnx', 'scrfd_500m_bnkps_old_export.onnx')
    ]
    # The same network, exported by two generations of exporters.
    values = [[float(line.split()[-1]) for line in t.splitlines() if 'AP' in line] for t in texts]
    assert values[0] == pytest.approx(values[1], abs=1e-4) and values[0][2] > 0.4
