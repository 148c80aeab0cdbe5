# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Detectors with weights that make every part of the network count."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmface.apis.config import load_config


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Give all layers something to say, and norms the statistics of what comes by."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.3, 0.8, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # averages of all batches
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu', generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    head = model.bbox_head.module
    if hasattr(head, 'size'):  # logarithms: boxes beyond all bounds are cut
        head.size.weight *= 0.1
    pictures = torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    inputs = model.data_preprocessor(dict(inputs=list(pictures)))['inputs'][..., :64, :64]
    model.train()
    head(model.extract_feat(inputs))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # dead channels must not shout at other pictures
            module.running_var.clamp_(min=0.1)
    return model.eval()


@pytest.fixture(scope='session')
def detector(repo):
    """Give config and model of a name in configs; the same ones each time, not to be changed."""

    @cache
    def build(name: str) -> tuple[Config, nn.Module]:
        cfg = load_config(str(repo / 'configs' / name))
        init_default_scope(cfg.default_scope)
        return cfg, randomise(MODELS.build(cfg.model))

    return build
