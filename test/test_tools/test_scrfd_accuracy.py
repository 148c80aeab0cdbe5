# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Published SCRFD weights reach their accuracy on real images, through the tools.

These tests run in this process; the CenterFace test runs the tools as a user does.
"""

from __future__ import annotations

import json

import pytest


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'file', 'key'),
    [
        ('500m_bnkps', 'weights/scrfd_500m_bnkps.onnx', '500m_bnkps'),
        ('2.5g_bnkps', 'weights/scrfd_2.5g_bnkps_official.onnx', '2.5g_bnkps'),
        ('1g', 'ncnn/scrfd_1g-opt2.param', 'scrfd_1g_ncnn'),
    ],
)
def test_tools__published_weights_reach_their_accuracy(
    name, file, key, reference_dir, door, tmp_path
):
    """Both protocols evaluate the same detections."""
    wider = reference_dir / 'data' / 'wider'
    root = tmp_path / 'WIDERFace' / 'val'
    root.mkdir(parents=True)
    (root / 'images').symlink_to(wider / 'WIDER_val' / 'images')
    (root / 'gt').symlink_to(wider / 'ground_truth')
    (root / 'labelv2.txt').symlink_to(wider / 'annotations' / 'labelv2_val.txt')
    weights, txt = tmp_path / 'weights.pth', tmp_path / 'txt'
    part = ('--part', wider / 'val_part.txt')
    door('tools/weights/convert.py', reference_dir / 'data/scrfd' / file, weights)
    door(
        'tools/test.py', f'configs/scrfd/scrfd_{name}.py', weights, '--data-path', root.parent,
        *part, '--mode', 'vga', '--work-dir', tmp_path / 'out', '--save-txt', txt,
    )  # fmt: skip
    door(
        'tools/evaluation/eval_widerface.py', txt, '--gt', wider / 'ground_truth', *part,
        '--protocol', 'official', '--json', tmp_path / 'official.json',
    )  # fmt: skip
    expected = json.loads((wider / 'expected.json').read_text())[key]
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())['ap']
    assert found == pytest.approx(expected['part_float'], abs=5e-4)
    found = json.loads((tmp_path / 'official.json').read_text())['txt']['ap']
    assert found == pytest.approx(expected['part_official'], abs=5e-4)
