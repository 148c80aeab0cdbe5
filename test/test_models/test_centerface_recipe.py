# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The training recipes of the CenterFace models are the published ones."""

from __future__ import annotations

import mmengine.device.utils
import pytest
import torch
from mmdet.registry import MODELS, PARAM_SCHEDULERS
from mmengine.optim import build_optim_wrapper
from torch import nn

from helpers import batch_of, faces, load_config

GT = faces([10, 12, 40, 50], [[[20, 20]] * 5])
# Convention; channels of the neck and whether its upsampling is depthwise; activation of the
# backbone; side of the training images (chenjun2hao, Star-Clouds, MindSpore, Ascend).
VARIANTS = {
    'centerface': ('centernet', 64, True, 'ReLU6', 800),
    'centerface_starclouds': ('star_clouds', 24, False, 'ReLU', 800),
    'centerface_mindspore': ('mindspore', 64, False, 'ReLU6', 512),
    'centerface_small': ('centernet', 24, False, 'ReLU6', 800),
    'centerface_1p_o1': ('centernet', 64, True, 'ReLU6', 800),
}
# Images per card, cards, learning rate, epochs with a drop, epochs, loss scale.
SCHEDULES = {
    'centerface': (8, 1, 1.25e-4, [30, 80], 140, None),
    'centerface_1p_o1': (32, 1, 5e-4, [75, 95], 160, 19.0),
    'centerface_8p_o1': (16, 8, 2.5e-3, [85, 120], 160, 19.0),
    'centerface_1p_o2': (32, 1, 5e-4, [75, 95], 160, 19.0),
    'centerface_8p_o2': (16, 8, 2.5e-3, [85, 120], 160, 19.0),
    'centerface_mindspore': (8, 1, 5e-4, [90, 120], 140, None),
    'centerface_mindspore_8p': (8, 8, 4e-3, [90, 120], 140, None),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_config__is_the_published_variant(name):
    cfg = load_config(name)
    convention, width, depthwise, activation, size = VARIANTS[name]
    head = MODELS.build(cfg.model).bbox_head
    assert (head.coder.convention, head.coder.keypoint_anchor) == (convention, 'cell')
    assert (cfg.model.neck.out_channels, cfg.model.neck.depthwise) == (width, depthwise)
    assert cfg.model.backbone.act_cfg.type == activation
    (crop,) = (s for s in cfg.train_dataloader.dataset.pipeline if s.type == 'FaceAffineCrop')
    assert crop['size'] == size
    weights = [getattr(head, f'loss_{n}').loss_weight for n in ('heatmap', 'size', 'offset', 'kps')]
    assert weights == [1.0, 0.1, 1.0, 0.1]
    assert head.targets.small_face_weights is (convention == 'mindspore')
    assert head.targets.mask_ignored is False
    assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'WiderFaceMetric'


@pytest.mark.parametrize('name', SCHEDULES)
def test_config__has_the_published_schedule(name):
    cfg = load_config(name)
    per_card, cards, base, drops, epochs, scale = SCHEDULES[name]
    assert cfg.train_dataloader.batch_size == per_card
    assert cfg.auto_scale_lr.base_batch_size == per_card * cards
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=base, weight_decay=0)
    assert cfg.optim_wrapper.get('loss_scale') == scale
    assert cfg.train_cfg.max_epochs == epochs
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=base)
    (steps,) = (PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in cfg.param_scheduler)
    for epoch in range(epochs):
        expected = base * 0.1 ** sum(epoch >= drop for drop in drops)
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-6)
        optimizer.step()
        steps.step()


def test_config__mindspore_samples_with_its_own_anchors():
    cfg = load_config('centerface_mindspore')
    sample, crop = cfg.train_dataloader.dataset.pipeline[3:5]
    assert (len(sample.anchors), sample.max_choices, sample.min_keypoint_area) == (14, 11, 8)
    assert crop.crop_choice == pytest.approx([0.6 + 0.05 * step for step in range(8)])
    assert cfg.test_dataloader.dataset.pipeline[1] == dict(type='FaceLetterbox', size=832)
    # The published values of the other configs must not change because of this one.
    sample = load_config('centerface').train_dataloader.dataset.pipeline[3]
    assert (len(sample.anchors), sample.max_choices, sample.min_keypoint_area) == (8, 5, 16)


def test_images__are_normalised_as_published():
    pixel = torch.tensor([10, 120, 250], dtype=torch.uint8).view(3, 1, 1).expand(3, 32, 32)
    found = MODELS.build(load_config('centerface').model.data_preprocessor)(dict(inputs=[pixel]))
    mean = torch.tensor([0.40789654, 0.44719302, 0.47026115])
    std = torch.tensor([0.28863828, 0.27408164, 0.27809835])
    expected = (torch.tensor([10, 120, 250]) / 255 - mean) / std
    torch.testing.assert_close(found['inputs'][0, :, 0, 0], expected)
    raw = MODELS.build(load_config('centerface_starclouds').model.data_preprocessor)(
        dict(inputs=[pixel])
    )
    assert raw['inputs'][0, :, 0, 0].tolist() == [250, 120, 10]


def test_training__starts_calmly():
    # A constant heatmap of 0.5, as in the references, starts with a loss of about a thousand.
    torch.manual_seed(0)
    cfg = load_config('centerface')
    losses = []
    for prior in (0.1, 0.5):
        cfg.model.bbox_head.head_module.prior_prob = prior
        model = MODELS.build(cfg.model)
        model.init_weights()
        inputs = model.data_preprocessor(batch_of([GT, GT], 256), training=True)
        losses.append(float(model(**inputs, mode='loss')['loss_heatmap'].detach()))
    assert losses[0] < 10
    assert losses[1] > 500


def test_o1__trains_a_step(monkeypatch):
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'cpu')
    cfg = load_config('centerface_1p_o1')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    before = {name: value.clone() for name, value in model.named_parameters()}
    logs = model.train_step(batch_of([GT, GT], 64), build_optim_wrapper(model, cfg.optim_wrapper))
    assert all(torch.isfinite(value) for value in logs.values())
    after = dict(model.named_parameters())
    assert all(torch.isfinite(value).all() for value in after.values())
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) > 0.9 * len(before)
