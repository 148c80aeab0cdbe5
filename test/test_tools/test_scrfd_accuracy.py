# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Published SCRFD weights reach their accuracy on real pictures, through the tools.

In this process; that of CenterFace runs them as a user does.
"""

from __future__ import annotations

import json

import pytest


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'file', 'protocol'),
    [
        ('500m_bnkps', 'scrfd_500m_bnkps.onnx', 'float'),
        ('500m_bnkps', 'scrfd_500m_bnkps_folded.pth', 'official'),
        ('2.5g_bnkps', 'scrfd_2.5g_bnkps_official.onnx', 'float'),
    ],
)
def test_tools__published_weights_reach_their_accuracy(
    name, file, protocol, reference_dir, door, tmp_path
):
    wider = reference_dir / 'data' / 'wider'
    root = tmp_path / 'WIDERFace' / 'val'
    root.mkdir(parents=True)
    (root / 'images').symlink_to(wider / 'WIDER_val' / 'images')
    (root / 'gt').symlink_to(wider / 'ground_truth')
    (root / 'labelv2.txt').symlink_to(wider / 'annotations' / 'labelv2_val.txt')
    weights = tmp_path / 'weights.pth'
    door('tools/weights/convert.py', reference_dir / 'data/scrfd/weights' / file, weights)
    door(
        'tools/test.py',
        f'configs/scrfd/scrfd_{name}.py',
        weights,
        *('--data-path', root.parent, '--part', wider / 'val_part.txt', '--mode', 'vga'),
        *('--protocol', protocol, '--work-dir', tmp_path / 'out'),
    )
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())['ap']
    expected = json.loads((wider / 'expected.json').read_text())[name][f'part_{protocol}']
    assert found == pytest.approx(expected, abs=5e-4)
