# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A CenterNet2 small enough to be built and converted many times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmface.weights.convert import build_model

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# The model of the fixtures: an eighth of the backbone, a quarter of the rest, five classes.
SMALL = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=64, num_classes=5),
    ),
)


@pytest.fixture
def small_config(tmp_path):
    """Return a function that writes the config of a small CenterNet2, with changes to its model."""

    def write(name: str = 'small', **changes: dict) -> Path:
        cfg = Config.fromfile(CONFIGS / 'centernet2/centernet2_r50_1x.py')
        for change in (SMALL, changes):
            cfg.merge_from_dict(dict(model=change))
        path = tmp_path / f'{name}.py'
        cfg.dump(path)
        return path

    return write


@pytest.fixture
def random_model():
    """Return a function that builds the model of a config with weights that all differ."""

    def build(config: Path) -> nn.Module:
        torch.manual_seed(1)
        model = build_model(config).eval()
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                # Variances must be positive.
                value.copy_(torch.rand_like(value) + 0.1 * key.endswith('running_var'))
        return model

    return build
