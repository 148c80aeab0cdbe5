# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Positions of the stride in CenterNet2's Res2Net."""

from __future__ import annotations

import torch
from mmdet.models.backbones import Res2Net

from mmface.models import Res2NetCaffe

DCN = dict(
    depth=50,
    dcn=dict(type='DCNv2', deform_groups=1),
    stage_with_dcn=(False, False, True, True),
)


def test_init__strides_are_in_the_first_convolutions():
    model = Res2NetCaffe(**DCN)
    for name, stride in (('layer1', 1), ('layer2', 2), ('layer3', 2), ('layer4', 2)):
        first, *others = getattr(model, name)
        assert first.conv1.stride == (stride, stride)
        assert all(block.conv1.stride == (1, 1) for block in others)
        for block in (first, *others):
            assert all(conv.stride in (1, (1, 1)) for conv in block.convs)
            assert not hasattr(block, 'pool')


def test_init__same_weights_as_mmdet_but_for_frozen_offset_biases():
    model, theirs = Res2NetCaffe(**DCN), Res2Net(**DCN)
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name in shapes if name.endswith('conv_offset.bias')}
    # Three in each of the 6 + 3 blocks of the last two stages.
    assert len(frozen) == 27


def test_forward__sizes_and_dependence_on_every_split():
    torch.manual_seed(0)
    model = Res2NetCaffe(**DCN)
    model.init_weights()
    outs = model(torch.randn(2, 3, 64, 96))
    assert [tuple(out.shape) for out in outs] == [
        (2, 256 << level, 16 >> level, 24 >> level) for level in range(4)
    ]
    outs[-1].square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
