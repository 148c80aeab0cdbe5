# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Parameters, multiply-adds and layers of the SCRFD models are the published ones."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from helpers import config_file
from mmface.weights.convert import build_model
from mmface.weights.scrfd import UNUSED_KEYS, rename_key

# Parameters, and multiply-adds of the convolutions at 480 x 640, both from the reference's own
# code (insightface detection/scrfd).
SIZES = {
    'scrfd_500m': (572_741, 477_583_200),
    'scrfd_500m_bnkps': (631_410, 550_159_200),
    'scrfd_1g': (635_565, 925_867_200),
    'scrfd_1gbn': (679_313, 925_867_200),
    'scrfd_1.3g': (435_253, 1_266_556_800),
    'scrfd_2.5g': (671_761, 2_498_515_200),
    'scrfd_2.5g_bnkps': (819_809, 2_571_091_200),
    'scrfd_10g': (3_860_225, 9_914_793_600),
    'scrfd_10g_bnkps': (4_229_905, 10_005_513_600),
    'scrfd_34g': (9_802_737, 33_656_755_200),
}


@pytest.mark.parametrize('name', SIZES)
def test_model__has_the_published_size(name):
    model = build_model(config_file(name)).eval()
    macs = 0

    def count(module: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    # A fifth of each side saves time. 32 divides these sides too, so the result is exactly 1/25.
    with torch.no_grad():
        model(torch.zeros(1, 3, 96, 128), mode='tensor')
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters, macs * 25) == SIZES[name]


@pytest.mark.reference
@pytest.mark.parametrize('name', SIZES)
def test_state_dict__maps_one_to_one_to_the_reference(name, reference_dir):
    shapes = json.loads((reference_dir / 'data/scrfd/golden/state_dict_shapes.json').read_text())
    theirs = {
        rename_key(key): shape
        for key, shape in shapes[name]['state_dict'].items()
        if key not in UNUSED_KEYS
    }
    model = build_model(config_file(name))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == theirs
    assert sum(p.numel() for p in model.parameters()) == shapes[name]['params']
