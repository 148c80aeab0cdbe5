# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Parameters, multiply-adds and outputs of the CenterFace models are the published ones."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from helpers import load_config

# Config; channels of the neck if they differ from the config; parameters in total and of
# backbone, neck and head; billions of multiply-adds at 800 x 800 and 640 x 480. All counted on
# the code of the references.
SIZES = {
    'Star-Clouds': (
        ('centerface_starclouds', {}),
        (1_835_895, 1_811_712, 23_808, 375),
        (3.857, 1.852),
    ),
    'chenjun2hao': (('centerface', {}), (1_881_551, 1_811_712, 68_864, 975), (5.190, 2.491)),
    'chenjun2hao, 24 channels': (
        ('centerface', dict(neck=dict(out_channels=24), head=dict(in_channels=24))),
        (1_829_271, 1_811_712, 17_184, 375),
        (3.828, 1.838),
    ),
    'MindSpore': (
        ('centerface_mindspore', {}),
        (1_929_935, 1_811_712, 117_248, 975),
        (5.402, 2.593),
    ),
    'small': (('centerface_small', {}), (498_935, 480_320, 18_240, 375), (1.371, 0.658)),
}


def build(config: str, changes: dict) -> nn.Module:
    cfg = load_config(config)
    cfg.model.neck.update(changes.get('neck', {}))
    cfg.model.bbox_head.head_module.update(changes.get('head', {}))
    # The test needs only shapes: nothing is computed.
    return MODELS.build(cfg.model).eval().to('meta')


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def run(model: nn.Module, height: int, width: int) -> tuple[float, list[tuple[int, ...]]]:
    """Return the multiply-adds of all convolutions, in billions, and the output shapes."""
    macs = 0

    def add(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal macs
        # A transposed convolution works per input pixel, a convolution per output pixel.
        pixels = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        macs += pixels.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(add)
        for module in model.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    maps = model(torch.zeros(1, 3, height, width, device='meta'), mode='tensor')
    for hook in hooks:
        hook.remove()
    return macs / 1e9, [tuple(level.shape) for level in maps]


@pytest.mark.parametrize('name', SIZES)
def test_model__has_the_published_size(name):
    (config, changes), parameters, macs = SIZES[name]
    model = build(config, changes)
    assert tuple(map(count, (model, model.backbone, model.neck, model.bbox_head))) == parameters
    found = [round(run(model, *size)[0], 3) for size in ((800, 800), (480, 640))]
    assert found == list(macs)


@pytest.mark.parametrize(('height', 'width'), [(800, 800), (480, 640), (832, 832)])
def test_model__puts_out_maps_of_stride_4(height, width):
    _, shapes = run(build('centerface', {}), height, width)
    assert shapes == [(1, channels, height // 4, width // 4) for channels in (1, 2, 2, 10)]


def test_model__has_as_many_layers_as_the_references():
    model = build('centerface', {})
    kinds = {
        kind: sum(isinstance(module, kind) for module in model.modules())
        for kind in (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
    }
    assert list(kinds.values()) == [60, 3, 59]
    assert len(model.state_dict()) == 362
