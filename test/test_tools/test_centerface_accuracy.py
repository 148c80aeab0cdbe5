# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Published CenterFace weights reach their accuracy on real images, through the tools."""

from __future__ import annotations

import json

import pytest


@pytest.mark.reference
@pytest.mark.slow
def test_tools__published_weights_reach_their_accuracy(reference_dir, run_tool, tmp_path):
    wider = reference_dir / 'data' / 'wider'
    root = tmp_path / 'WIDERFace' / 'val'
    root.mkdir(parents=True)
    (root / 'images').symlink_to(wider / 'WIDER_val' / 'images')
    (root / 'gt').symlink_to(wider / 'ground_truth')
    (root / 'labelv2.txt').symlink_to(wider / 'annotations' / 'labelv2_val.txt')
    weights = tmp_path / 'weights.pth'
    source = reference_dir / 'data/centerface/weights/centerface_dequant_fp32.onnx'
    run_tool('tools/weights/convert.py', source, weights)
    part = ('--part', wider / 'val_part.txt')
    # The pipeline of this config is that of the original size.
    run_tool(
        'tools/test.py',
        'configs/centerface/centerface_starclouds.py',
        weights,
        *('--data-path', root.parent, *part, '--work-dir', tmp_path / 'out'),
        *('--save-txt', tmp_path / 'txt'),
        timeout=900,
    )
    found = json.loads((tmp_path / 'out' / 'metrics.json').read_text())['ap']
    expected = json.loads((wider / 'expected.json').read_text())['centerface_dequant']
    assert found == pytest.approx(expected['part_float'], abs=1e-3)
    run_tool(
        'tools/evaluation/eval_widerface.py',
        *(tmp_path / 'txt', '--gt', wider / 'ground_truth', *part, '--protocol', 'official'),
        *('--json', tmp_path / 'official.json'),
    )
    found = json.loads((tmp_path / 'official.json').read_text())['txt']['ap']
    assert found == pytest.approx(expected['part_official'], abs=1e-3)
