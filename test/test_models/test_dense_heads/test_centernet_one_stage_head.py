# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet2's one-stage detectors: losses and decoding, compared with their definitions."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from mmface_benchmark.step_trace import trace_steps
from torch import Tensor

import mmface.models  # noqa: F401
from helpers import objects, random_maps, samples_of
from mmface.models import CenterNetOneStageHead
from mmface.models.losses.plus_one_giou_loss import plus_one_giou
from mmface.models.task_modules.padded_ground_truth import pack_ground_truth

CLASSES = 3
SIZES = (16, 8, 4, 2, 1)  # cells per side of images of 128 px
SHAPES = [(2, 32, size, size) for size in SIZES]
META = dict(img_shape=(128, 100), ori_shape=(64, 50), scale_factor=(2.0, 2.0))
TEST = dict(score_thr=0.05, nms_pre=1000, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)


def build_head(**kwargs) -> CenterNetOneStageHead:
    kwargs.setdefault('targets', dict(type='CenterNetTargets', more_pos=True))
    kwargs.setdefault('test_cfg', TEST)
    torch.manual_seed(0)
    head = MODELS.build(
        dict(
            type='CenterNetOneStageHead',
            in_channels=32,
            num_classes=CLASSES,
            stacked_convs=1,
            **kwargs,
        )
    )
    head.init_weights()
    return head


GT = [
    objects(
        [[8.0, 8.0, 40.0, 48.0], [10.0, 10.0, 100.0, 120.0], [60.0, 4.0, 70.0, 20.0]], [2, 0, 2]
    ),
    objects([], []),
]


def flat(maps: list[Tensor]) -> Tensor:
    return torch.cat([level.flatten(2) for level in maps], dim=2)


@pytest.mark.parametrize('more_pos', [False, True])
@pytest.mark.parametrize('agnostic', [False, True])
def test_loss__equals_the_definition(more_pos, agnostic):
    head = build_head(agnostic=agnostic, targets=dict(type='CenterNetTargets', more_pos=more_pos))
    scores, heat, distances = head(random_maps(*SHAPES))
    losses = head.loss_by_feat(scores, heat, distances, GT)

    boxes = flat(distances).transpose(1, 2)
    gt = pack_ground_truth(GT, torch.device('cpu'))
    targets = head.targets(gt, [(size, size) for size in SIZES], CLASSES, boxes)
    count = int(targets.positive.sum())
    assert count > 0
    learned = targets.regressed
    giou = plus_one_giou(boxes[learned], targets.distances[learned])
    expected = dict(loss_loc=2 * (1 - giou).mean())

    def add(name: str, chance: Tensor, heatmap: Tensor, channels: list[int]) -> None:
        chance = chance.clamp(1e-4, 1 - 1e-4)
        cells = targets.pos_cell[targets.positive].tolist()
        images = targets.positive.nonzero()[:, 0].tolist()
        positives = torch.stack(
            [chance[place] for place in zip(images, channels, cells, strict=True)]
        )
        expected[f'{name}_pos'] = -0.25 * (positives.log() * (1 - positives) ** 2).sum() / count
        negatives = (1 - chance).log() * chance**2 * (1 - heatmap) ** 4
        expected[f'{name}_neg'] = -0.75 * negatives.sum() / count

    channels = targets.pos_channel[targets.positive].tolist()
    assert set(channels) == {0, 2}
    add('loss', flat(scores).sigmoid(), targets.heatmap, channels)
    if agnostic:
        heatmap = targets.heatmap.amax(1, keepdim=True)
        add('loss_agn', flat(heat).sigmoid(), heatmap, [0] * count)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=lambda text, name=name: name + text)


def test_loss__classes_are_trained_apart():
    head = build_head()
    maps = [
        [torch.zeros(1, channels, size, size).requires_grad_() for size in SIZES]
        for channels in (CLASSES, 4)
    ]
    losses = head.loss_by_feat(maps[0], [], maps[1], [GT[0][:1]])
    losses['loss_pos'].backward()
    pushed = {channel for level in maps[0] for channel in level.grad.nonzero()[:, 1].tolist()}
    assert pushed == {2}


def test_loss__without_objects_is_finite():
    head = build_head()
    losses = head.loss(random_maps(*SHAPES), samples_of([GT[1], GT[1]], **META))
    assert losses['loss_loc'] == losses['loss_pos'] == 0
    # The wrong heatmap of mmdet's CenterNetUpdateHead would give about a hundred.
    assert 0 < losses['loss_neg'] < 1
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_step__has_fixed_shapes_and_reads_nothing():
    head = build_head(agnostic=True)

    def step(gt: list[InstanceData]) -> None:
        head.zero_grad()
        sum(head.loss(random_maps(*SHAPES), samples_of(gt, **META)).values()).backward()

    trace = trace_steps(step, [GT, GT[::-1], [GT[1], GT[1]]])
    assert not trace.faults, str(trace)


def one_cell_maps(logits: dict[int, float], reach: float = 1.0) -> list[list[Tensor]]:
    """Build maps with one confident cell, at x=12, y=5 of stride 8, and class logits there."""
    maps = [[torch.full((1, CLASSES, size, size), -20.0) for size in SIZES]]
    maps.append([torch.full((1, 1, size, size), -20.0) for size in SIZES])
    maps.append([torch.full((1, 4, size, size), reach) for size in SIZES])
    for label, logit in logits.items():
        maps[0][0][0, label, 5, 12] = logit
    return maps


def test_predict__boxes_scores_and_labels():
    scores, _, distances = one_cell_maps({1: 0.0, 2: 2.0})
    head = build_head()
    (found,) = head.predict_by_feat(scores, [], distances, [META])
    assert found.labels.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.880797, 0.5])
    assert found.bboxes.tolist() == [[92.0, 36.0, 100.0, 52.0]] * 2, 'clipped to the image'
    (rescaled,) = head.predict_by_feat(scores, [], distances, [META], rescale=True)
    assert rescaled.bboxes.tolist() == [[46.0, 18.0, 50.0, 26.0]] * 2


def test_predict__undoes_the_offset_of_a_letterbox():
    scores, _, distances = one_cell_maps({1: 2.0})
    meta = dict(META, img_shape=(128, 128), pad_offset=(20.0, 10.0))
    (found,) = build_head().predict_by_feat(scores, [], distances, [meta], rescale=True)
    assert found.bboxes.tolist() == [[36.0, 13.0, 44.0, 21.0]]


def test_predict__agnostic_heat_multiplies_after_the_threshold():
    scores, heat, distances = one_cell_maps({2: 0.0})
    heat[0][0, 0, 5, 12] = -4.0
    head = build_head(agnostic=True)
    (found,) = head.predict_by_feat(scores, heat, distances, [META])
    # 0.5 is above the threshold of 0.05; the product of 0.009 would be below it.
    assert found.scores.tolist() == pytest.approx([(0.5 * 0.0179862) ** 0.5])


def test_predict__boxes_that_clip_to_nothing_are_dropped():
    scores, _, distances = one_cell_maps({0: 3.0})
    scores[0][0, 0, 5, 15] = 3.0  # its box starts at x = 124 - 8, right of the image
    (found,) = build_head().predict_by_feat(scores, [], distances, [META])
    assert len(found) == 1


def test_predict__nothing_found():
    scores, _, distances = one_cell_maps({})
    (found,) = build_head().predict_by_feat(scores, [], distances, [META])
    assert found.bboxes.shape == (0, 4)


def test_detector__trains_and_predicts():
    torch.manual_seed(0)
    detector = MODELS.build(
        dict(
            type='SingleStageDetector',
            backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
            neck=dict(
                type='FPN',
                in_channels=[8, 16, 32, 64],
                out_channels=32,
                start_level=1,
                num_outs=5,
                add_extra_convs='on_output',
            ),
            bbox_head=dict(
                type='CenterNetOneStageHead',
                in_channels=32,
                num_classes=CLASSES,
                stacked_convs=1,
                targets=dict(type='CenterNetTargets', more_pos=True),
            ),
            train_cfg=None,
            test_cfg=TEST,
        )
    )
    inputs = torch.randn(2, 3, 128, 128)
    losses = detector.loss(inputs, samples_of(GT, **META))
    assert set(losses) == {'loss_loc', 'loss_pos', 'loss_neg'}
    sum(losses.values()).backward()
    detector.eval()
    with torch.no_grad():
        found = detector.predict(inputs, samples_of(GT, **META))
    assert all('labels' in sample.pred_instances for sample in found)
