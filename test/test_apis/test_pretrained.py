# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Training starts from files of other projects, and never behind random frozen layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from helpers import named_as
from mmface.apis.pretrained import (
    check_frozen,
    describe_start,
    find_pretrained,
    published_files,
    set_pretrained,
    unfreeze,
)
from mmface.weights.convert import build_model
from mmface.weights.mobilenet_v2 import Layout

MOBILENET = 'mobilenet_v2-b0353104.pth'


@pytest.fixture
def load(repo, tmp_path):
    def read(name):
        cfg = Config.fromfile(repo / f'configs/{name}.py')
        cfg.data_root, cfg.work_dir = str(tmp_path / 'data'), str(tmp_path / 'work')
        return cfg

    return read


@pytest.fixture
def mobilenet(load, tmp_path):
    """Write a file with the names of torchvision's MobileNetV2. Return it with its tensors."""
    cfg = load('centerface/centerface')
    own = build_model(Path(cfg.filename)).backbone.state_dict()
    torch.manual_seed(0)
    own = {f'backbone.{key}': torch.rand_like(value.float()) for key, value in own.items()}
    theirs = named_as(Layout.TORCHVISION, own)
    (tmp_path / 'data').mkdir()
    torch.save(theirs, tmp_path / 'data' / MOBILENET)
    return tmp_path / 'data' / MOBILENET


def test_find_pretrained__in_the_data_folder_and_above(load, mobilenet):
    cfg = load('centerface/centerface_8p_o1')
    assert find_pretrained(cfg) == mobilenet
    cfg.data_root = str(mobilenet.parent / 'WIDERFace')
    assert find_pretrained(cfg) == mobilenet
    cfg.load_from = 'x.pth'
    assert find_pretrained(cfg) is None
    assert find_pretrained(load('scrfd/scrfd_10g')) is None
    # Half as wide: the file does not fit.
    assert find_pretrained(load('centerface/centerface_small')) is None
    resnet = dict(type='ResNet', depth=50)
    assert published_files(resnet) == published_files({**resnet, 'type': 'mmdet.ResNet'}) != ()
    assert published_files({**resnet, 'deep_stem': True}) == ()
    assert published_files({**resnet, 'in_channels': 1}) == ()


def test_describe_start__names_the_file_of_the_recipe(load):
    cfg = load('centerface/centerface')
    assert MOBILENET in describe_start(cfg)
    cfg.load_from = 'x.pth'
    assert describe_start(cfg) is None
    others = ('centerface/centerface_small', 'centernet2/centernet2_toy', 'scrfd/scrfd_10g')
    assert [describe_start(load(name)) for name in others] == [None] * 3


def test_set_pretrained__backbone_has_the_tensors_of_the_file(load, mobilenet):
    cfg = load('centerface/centerface')
    note = set_pretrained(cfg, mobilenet)
    assert 'pretrained backbone' in note and MOBILENET in note
    init = cfg.model.backbone.init_cfg
    assert init.prefix == 'backbone.'
    stored = torch.load(init.checkpoint, weights_only=True)
    assert stored['meta']['source']['name'] == MOBILENET
    theirs = torch.load(mobilenet, weights_only=True)
    values = list(stored['state_dict'].values())
    matched = sum(any(torch.equal(v, t) for v in values) for t in theirs.values())
    assert matched == len(theirs) > 100


def test_check_frozen__refuses_random_layers(load):
    cfg = load('centernet2/centernet2_r50_1x')
    with pytest.raises(ValueError, match=r'freezes stages and norms .* R-50\.pkl'):
        check_frozen(cfg)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='x.pth')
    check_frozen(cfg)
    del cfg.model.backbone['init_cfg']
    unfreeze(cfg)
    check_frozen(cfg)
    backbone = cfg.model.backbone
    assert (backbone.frozen_stages, backbone.norm_eval) == (-1, False)
    assert backbone.norm_cfg.requires_grad
    check_frozen(load('scrfd/scrfd_10g'))


def test_check_frozen__first_start_with_resume_is_a_new_run(load):
    cfg = load('centernet2/centernet2_r50_1x')
    cfg.resume = 'auto'
    with pytest.raises(ValueError, match='freezes stages'):
        check_frozen(cfg)
    (Path(cfg.work_dir)).mkdir()
    (Path(cfg.work_dir) / 'last_checkpoint').write_text('iter_1.pth')
    check_frozen(cfg)


def test_model_without_a_backbone__has_nothing_to_load_or_freeze(load):
    cfg = load('scrfd/scrfd_10g')
    cfg.model = dict(type='Wrapper', detector=cfg.model)
    assert find_pretrained(cfg) is None
    unfreeze(cfg)
    check_frozen(cfg)
