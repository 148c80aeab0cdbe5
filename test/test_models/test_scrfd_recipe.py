# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The training recipes of the SCRFD models are the published ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from mmdet.registry import MODELS, PARAM_SCHEDULERS
from torch import nn

from helpers import config_file, load_config

# Images per card, learning rate, whether boxes are clipped at the image's edge
# (insightface detection/scrfd/configs/scrfd).
RECIPES = {
    'scrfd_500m': (8, 0.01, True),
    'scrfd_500m_bnkps': (16, 0.01, True),
    'scrfd_1g': (8, 0.01, True),
    'scrfd_1gbn': (8, 0.01, True),
    'scrfd_1.3g': (8, 0.01, False),
    'scrfd_2.5g': (8, 0.01, False),
    'scrfd_2.5g_bnkps': (8, 0.01, False),
    'scrfd_10g': (8, 0.01, False),
    'scrfd_10g_bnkps': (8, 0.01, False),
    'scrfd_34g': (8, 0.02, True),
}


@pytest.mark.parametrize('name', RECIPES)
def test_config__has_the_published_recipe(name):
    cfg = load_config(name)
    batch_size, lr, clip = RECIPES[name]
    assert cfg.train_dataloader.batch_size == batch_size
    assert cfg.train_dataloader.dataset.bbox_clip_border is clip
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=5e-4)
    assert cfg.train_cfg.max_epochs == 640
    assert cfg.model.train_cfg.assigner.inside_mode == 0
    # Easy, medium and hard come from the WIDER FACE metric, never from a VOC-style metric.
    assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'WiderFaceMetric'


@pytest.mark.parametrize('name', ['scrfd_500m', 'scrfd_34g'])
def test_learning_rate__warms_up_and_drops_at_the_published_points(name):
    cfg = load_config(name)
    base = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    warmup, steps = (
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in cfg.param_scheduler
    )
    for iteration in range(1502):
        # mmcv 1.x: rate * (1 - (1 - iteration / 1500) * (1 - 0.001))
        expected = base * (1 - (1 - min(iteration, 1500) / 1500) * 0.999)
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-4)
        warmup.step()
    for epoch in range(640):
        expected = base * 0.1 ** ((epoch >= 440) + (epoch >= 544))
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-4)
        steps.step()


def test_detector__head_gets_the_test_settings():
    # mmdet overwrites the configs inside bbox_head with the detector's own.
    cfg = load_config('scrfd_500m')
    head = MODELS.build(cfg.model).bbox_head
    assert head.test_cfg['score_thr'] == 0.02
    assert head.test_cfg['nms'] == dict(type='nms', iou_threshold=0.45)
    assert head.test_cfg['max_per_img'] == -1
    assert head.assigner.topk == 9


def test_group_norm_models_are_tested_in_the_published_square():
    # GroupNorm sees the padding: the same image has other scores with other padding.
    cfg = load_config('scrfd_500m')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    image = torch.randint(0, 256, (3, 360, 480), dtype=torch.uint8)
    square = model.data_preprocessor(dict(inputs=[image], data_samples=None))['inputs']
    assert square.shape == (1, 3, 640, 640)
    model.data_preprocessor.pad_size = None
    tight = model.data_preprocessor(dict(inputs=[image], data_samples=None))['inputs']
    with torch.no_grad():
        wide = model(square, mode='tensor')[0][0][..., :40, :50]
        narrow = model(tight, mode='tensor')[0][0][..., :40, :50]
    assert (wide - narrow).abs().max() > 1e-3


STEP = """
import resource, sys, torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
cfg = Config.fromfile(sys.argv[1])
init_default_scope(cfg.default_scope)
model = MODELS.build(cfg.model)

def step(faces):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(faces, 2, generator=generator) * 620
    sample = DetDataSample()
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([corner, corner + 4 + corner.flip(1) / 40], dim=1),
        labels=torch.zeros(faces, dtype=torch.long),
        keypoints=torch.ones(faces, 5, 3),
    )
    losses = model(torch.rand(1, 3, 640, 640, generator=generator), [sample], mode='loss')
    total = sum(sum(value) for value in losses.values())
    assert torch.isfinite(total)
    total.backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

step(1)
print(-step(1) + step(2500))
"""


def test_training__2500_faces_in_one_image_need_little_extra_memory():
    done = subprocess.run(
        [sys.executable, '-c', STEP, str(config_file('scrfd_500m_bnkps'))],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    extra = float(done.stdout.split()[-1])
    assert extra < 2, f'{extra:.2f} GiB'
