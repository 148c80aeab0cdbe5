# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Sizes, schedules and recipes of CenterNet2's larger and faster variants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from helpers import load_config

# Parameters of the classification networks, as stated by torchvision and by timm (res2net101d).
RESNEXT_101_32X8D = 88_791_336
RES2NET_101_26W4S_V1B = 45_225_920
CLASSIFIER = 2048 * 1000 + 1000
# Number of blocks with deformable convolutions, and the channels of each.
DEFORMABLE_BLOCKS = {'x101_dcn_2x': ((23, 1024), (3, 2048))}
DEFORMABLE_BLOCKS['r2_101_dcn_896_4x'] = ((3 * 23, 104), (3 * 3, 208))
DEFORMABLE_BLOCKS['r2_101_dcn_bifpn_1280_4x'] = DEFORMABLE_BLOCKS['r2_101_dcn_896_4x']

# Trained parameters, from the table in configs/centernet2/README.md.
TRAINED = {
    'dla_bifpn_p3_4x': 47_576_315,
    'dla_bifpn_p5_640_16x': 49_544_978,
    'x101_dcn_2x': 141_584_354,
    'r2_101_dcn_896_4x': 93_270_188,
    'r2_101_dcn_bifpn_1280_4x': 139_201_073,
}
CROPS = {'dla_bifpn_p5_640_16x': 640, 'r2_101_dcn_896_4x': 896, 'r2_101_dcn_bifpn_1280_4x': 1280}


def build(name: str) -> torch.nn.Module:
    with torch.device('meta'):
        return MODELS.build(load_config(f'centernet2_{name}').model)


def size(module: torch.nn.Module, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


@pytest.mark.parametrize('name', TRAINED)
def test_model__number_of_trained_parameters(name):
    assert size(build(name), trained=True) == TRAINED[name]


@pytest.mark.parametrize('name', DEFORMABLE_BLOCKS)
def test_backbone__is_the_published_one_and_its_offsets(name):
    published = RESNEXT_101_32X8D if name.startswith('x101') else RES2NET_101_26W4S_V1B
    # Two offsets and a mask for each of 9 positions, by a 3x3 convolution.
    offsets = sum(count * (channels * 9 + 1) * 27 for count, channels in DEFORMABLE_BLOCKS[name])
    assert size(build(name).backbone) == published - CLASSIFIER + offsets


@pytest.mark.parametrize(
    ('name', 'widths', 'width', 'cells'),
    [
        ('dla_bifpn_p5_640_16x', (128, 256, 512), 160, 3),
        ('r2_101_dcn_bifpn_1280_4x', (512, 1024, 2048), 288, 7),
    ],
)
def test_neck__is_the_bifpn_of_the_paper(name, widths, width, cells):
    norm = 2 * width
    # Five nodes join two maps; three nodes join three.
    cell = 8 * (9 * width**2 + norm) + 5 * 2 + 3 * 3
    # The finest map is read once, the others twice.
    laterals = (widths[0] + 2 * widths[1] + 2 * widths[2]) * width + 5 * norm
    extra = widths[2] * width + norm
    assert size(build(name).neck) == cells * cell + laterals + extra


@pytest.mark.parametrize('name', CROPS)
def test_schedule__is_cosine_with_linear_warm_up(name):
    cfg = load_config(f'centernet2_{name}')
    model = torch.nn.Linear(1, 1)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=wrapper))
        for scheduler in cfg.param_scheduler
    ]
    last = cfg.train_cfg.max_iters
    base = cfg.optim_wrapper.optimizer.lr
    # Each step up to the end of the warm-up, then larger steps: the cosine is a chain of factors.
    for step in range(4010):
        warm_up = min(1.0, 0.00025 + 0.99975 * step / 4000)
        expected = base * warm_up * (1 + math.cos(math.pi * step / last)) / 2
        assert wrapper.get_lr()['lr'][0] == pytest.approx(expected, rel=1e-9)
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    assert schedulers[1].T_max == schedulers[1].end == last
    assert base / cfg.auto_scale_lr.base_batch_size == pytest.approx(0.02 / 16)


@pytest.mark.parametrize('name', CROPS)
def test_pipeline__resizes_and_crops_as_for_efficientdet(name):
    cfg, side = load_config(f'centernet2_{name}'), CROPS[name]
    resize, crop = (TRANSFORMS.build(cfg.train_pipeline[number]) for number in (3, 4))
    boxes = np.array([[0, 0, 300, 200], [100, 50, 140, 110], [0, 0, 4, 4]], dtype=np.float32)
    np.random.seed(0)
    longest, kept = [], set()
    for _ in range(24):
        results = dict(
            img=np.zeros((200, 300, 3), np.uint8),
            img_shape=(200, 300),
            gt_bboxes=boxes.copy(),
            gt_bboxes_labels=np.arange(3),
            gt_ignore_flags=np.zeros(3, bool),
        )
        results = resize(results)
        longest.append(max(results['img_shape']))
        height, width = results['img_shape']
        assert width / height == pytest.approx(1.5, rel=0.02)
        results = crop(results)
        assert results['img'].shape[:2] == results['img_shape']
        assert results['img_shape'] == (min(height, side), min(width, side))
        found = results['gt_bboxes']
        assert len(found) == len(results['gt_bboxes_labels']) >= 1
        assert np.all(found >= 0)
        assert np.all(found <= np.array([results['img_shape'][i] for i in (1, 0, 1, 0)]))
        kept.add(len(found))
    # Scales are drawn from 0.1 to 2 times the side.
    assert 0.1 * side - 1 <= min(longest) < 0.6 * side
    assert 1.4 * side < max(longest) <= 2 * side
    # Sometimes the crop removes the small box.
    assert kept > {3}


def test_pipeline__of_x101_draws_any_short_side():
    resize = TRANSFORMS.build(load_config('centernet2_x101_dcn_2x').train_pipeline[3])
    np.random.seed(0)
    scales = [resize._random_scale() for _ in range(200)]
    assert {long for long, _ in scales} == {1333}
    short = {short for _, short in scales}
    assert 480 <= min(short) < 500
    assert 940 < max(short) <= 960
    assert len(short) > 100


@pytest.mark.parametrize('name', TRAINED)
def test_config__pads_to_what_the_neck_halves(name):
    cfg = load_config(f'centernet2_{name}')
    strides = MODELS.build(cfg.model.rpn_head).strides
    divisor = cfg.model.data_preprocessor.pad_size_divisor
    assert divisor == (128 if cfg.model.neck.type == 'BiFPN' and len(strides) == 5 else 32)
    # Images have the same size in validation and test.
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_dataloader.dataset.pipeline
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline
