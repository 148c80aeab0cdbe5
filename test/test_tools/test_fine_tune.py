# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Train from weights of other files, as users do."""

from __future__ import annotations

import torch
from torch import nn

from helpers import config_file
from mmface.utils.checkpoint import load_checkpoint_file
from mmface.weights.convert import build_model

CONFIG = 'configs/scrfd/scrfd_500m_bnkps.py'


def test_load_from__folded_weights_are_measured_first(door, toy, small, tmp_path):
    torch.manual_seed(0)
    model = build_model(config_file('scrfd_500m_bnkps'))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.normal_(module.bias)
    torch.save(model.state_dict(), tmp_path / 'folded.pth')
    done = door(
        'tools/train.py', CONFIG, '--data-path', toy, '--work-dir', tmp_path / 'w', '--seed', 1,
        '--load-from', tmp_path / 'folded.pth', '--no-validate', *small, 'train_cfg.max_epochs=1',
    )  # fmt: skip
    text = next((tmp_path / 'w').glob('*/*.log')).read_text()
    line = '41 of 41 batch norms are folded (identities): their statistics were measured on 12 '
    assert text.count(line) == 1
    assert text.index(line) < text.index('Epoch(train) [1][1/3]')
    assert done.returncode == 0


def test_load_from__a_backbone_alone_needs_an_option(door, toy, small, checkpoint, tmp_path):
    weights = load_checkpoint_file(checkpoint)['state_dict']
    backbone = {key: value for key, value in weights.items() if key.startswith('backbone.')}
    torch.save({**backbone, 'fc.weight': torch.ones(1)}, tmp_path / 'backbone.pth')
    common = [
        'tools/train.py', CONFIG, '--data-path', toy, '--work-dir', tmp_path / 'w', '--load-from',
        tmp_path / 'backbone.pth', '--no-validate',
    ]  # fmt: skip
    length = [*small, 'train_cfg.max_epochs=1']
    done = door(*common, *length, ok=False)
    assert done.returncode == 2
    (line,) = [text for text in done.stderr.splitlines() if text.startswith('error: ')]
    assert 'too little for neck (' in line
    assert 'bbox_head (' in line
    assert (
        'does the checkpoint belong to another config?; allow_partial=True (command line: ' in line
    )
    door(*common, '--allow-partial', *length)
    text = ''.join(log.read_text() for log in (tmp_path / 'w').glob('*/*.log'))
    assert '1 not known to the model (fc.weight)' in text
