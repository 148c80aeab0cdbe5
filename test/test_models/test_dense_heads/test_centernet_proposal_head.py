# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet2's first stage: golden values of the reference, and properties."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmface_benchmark.step_trace import trace_steps
from torch import Tensor, nn

import mmface.models  # noqa: F401
from helpers import random_boxes, random_maps, samples_of
from mmface.models import CenterNetProposalHead
from mmface.models.task_modules.padded_ground_truth import pack_ground_truth

NMS = dict(type='nms', iou_threshold=0.9)
TEST = dict(score_thr=1e-4, nms_pre=1000, nms=NMS, max_per_img=256)
TRAIN = dict(score_thr=1e-4, nms_pre=4000, nms=NMS, max_per_img=2000)
PROPOSALS = dict(eval=TEST, train_all=TRAIN, train_empty2=TRAIN)
LOSSES = ('loss_loc', 'loss_agn_pos', 'loss_agn_neg')
TOWER = ('conv', 'gn')
# Names of the reference and our names, in the order of replacement.
RENAMED = [
    (r'^backbone\.bottom_up\.stem\.conv1\.norm', 'backbone.bn1'),
    (r'^backbone\.bottom_up\.stem', 'backbone'),
    (r'^backbone\.bottom_up\.res(\d)', lambda m: f'backbone.layer{int(m[1]) - 1}'),
    (r'\.shortcut\.norm', '.downsample.1'),
    (r'\.shortcut', '.downsample.0'),
    (r'\.conv(\d)\.norm', r'.bn\1'),
    (r'^backbone\.fpn_lateral(\d)', lambda m: f'neck.lateral_convs.{int(m[1]) - 3}.conv'),
    (r'^backbone\.fpn_output(\d)', lambda m: f'neck.fpn_convs.{int(m[1]) - 3}.conv'),
    (r'^backbone\.top_block\.p(\d)', lambda m: f'neck.fpn_convs.{int(m[1]) - 3}.conv'),
    (r'^proposal_generator\.centernet_head', 'rpn_head'),
    (r'\.bbox_tower\.(\d+)', lambda m: f'.reg_convs.{int(m[1]) // 3}.{TOWER[int(m[1]) % 3]}'),
    (r'\.bbox_pred', '.conv_reg'),
    (r'\.agn_hm', '.conv_cls'),
]


def rename(key: str) -> str:
    for pattern, ours in RENAMED:
        key = re.sub(pattern, ours, key)
    return key


def build_head(in_channels: int = 32, **kwargs) -> CenterNetProposalHead:
    kwargs.setdefault('test_cfg', TEST)
    torch.manual_seed(0)
    head = MODELS.build(dict(type='CenterNetProposalHead', in_channels=in_channels, **kwargs))
    head.init_weights()
    return head


class Golden(NamedTuple):
    """Values of the reference, our narrow model with its weights, and its maps."""

    values: dict[str, np.ndarray]
    stages: nn.ModuleDict
    backbone: list[Tensor]
    neck: list[Tensor]
    heat: list[Tensor]
    distances: list[Tensor]

    @property
    def head(self) -> CenterNetProposalHead:
        return self.stages['rpn_head']

    def gt(self, mode: str = 'train_all') -> list[InstanceData]:
        found = []
        for i in range(2):
            count = 0 if mode == 'train_empty2' and i == 1 else None
            found.append(
                InstanceData(
                    bboxes=torch.from_numpy(self.values[f'in/gt_boxes{i}'])[:count],
                    labels=torch.from_numpy(self.values[f'in/gt_classes{i}'])[:count],
                )
            )
        return found

    def level_first(self, values: Tensor) -> Tensor:
        """Reorder cells (B, A, ...) as in the reference: by level, then by image."""
        sizes = [level.shape[-2] * level.shape[-1] for level in self.heat]
        return torch.cat([part.flatten(0, 1) for part in values.split(sizes, dim=1)])


@pytest.fixture(scope='module', params=['cascade', 'faster'])
def golden(request, reference_dir) -> Golden:
    folder: Path = reference_dir / 'data/centernet2'
    values = dict(np.load(folder / f'{request.param}_tiny_head.npz'))
    norm = dict(type='BN', requires_grad=False)
    stages = nn.ModuleDict(
        dict(
            backbone=MODELS.build(
                dict(
                    type='ResNet',
                    depth=50,
                    style='caffe',
                    frozen_stages=1,
                    norm_cfg=norm,
                    norm_eval=True,
                    base_channels=8,
                    stem_channels=8,
                )
            ),
            neck=MODELS.build(
                dict(
                    type='FPN',
                    in_channels=[32, 64, 128, 256],
                    out_channels=64,
                    start_level=1,
                    num_outs=5,
                    add_extra_convs='on_output',
                    relu_before_extra_convs=True,
                )
            ),
            rpn_head=build_head(64),
        )
    )
    weights = torch.load(folder / f'{request.param}_tiny_weights.pth')['model']
    weights = {rename(key): value.float() for key, value in weights.items()}
    state = {key: value for key, value in weights.items() if not key.startswith('roi_heads.')}
    stages.load_state_dict(state)
    stages.train()

    mean = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    inputs = torch.zeros(2, 3, 640, 896)
    for i in range(2):
        image = torch.from_numpy(values[f'in/image{i}']).float() - mean
        inputs[i, :, : image.shape[1], : image.shape[2]] = image
    np.testing.assert_array_equal(inputs[:, :, ::4, ::4], values['eval/input'])
    backbone = stages['backbone'](inputs)
    neck = stages['neck'](backbone)
    _, heat, distances = stages['rpn_head'](neck)
    return Golden(values, stages, list(backbone[1:]), list(neck), heat, distances)


def assert_near(found: Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    np.testing.assert_allclose(found.detach(), expected, rtol=0, atol=tolerance)


@pytest.mark.reference
def test_golden__features_and_raw_maps(golden):
    for level, name in enumerate(('res3', 'res4', 'res5')):
        assert_near(golden.backbone[level][:, ::8], golden.values[f'eval/bb_{name}'])
    for level in range(5):
        assert_near(golden.neck[level][:, ::8], golden.values[f'eval/fpn_p{level + 3}'])
        assert_near(golden.heat[level], golden.values[f'eval/head_agn_l{level}'])
        assert_near(golden.distances[level], golden.values[f'eval/head_reg_l{level}'])


@pytest.mark.reference
@pytest.mark.parametrize('mode', ['train_all', 'train_empty2', 'train_512'])
def test_golden__targets(golden, mode):
    sizes = [(level.shape[-2], level.shape[-1]) for level in golden.heat]
    gt = pack_ground_truth(golden.gt(mode), torch.device('cpu'))
    targets = golden.head.targets(gt, sizes)

    cells = targets.heatmap.shape[-1]
    order = golden.level_first(torch.arange(2 * cells).view(2, cells))
    place = torch.empty_like(order)
    place[order] = torch.arange(2 * cells)
    found = [
        place[image * cells + targets.pos_cell[image][targets.positive[image]]]
        for image in range(2)
    ]
    assert torch.cat(found).tolist() == golden.values[f'{mode}/gt_pos_inds'].tolist()
    if mode != 'train_all':
        return  # the maps were not stored
    # One unit in the last place: the exponential depends on the order of the computation.
    heatmap = golden.level_first(targets.heatmap.transpose(1, 2))
    np.testing.assert_allclose(heatmap, golden.values[f'{mode}/gt_heatmap'], rtol=3e-7, atol=0)
    expected = golden.values[f'{mode}/gt_reg_targets']
    learned = golden.level_first(targets.regressed).numpy()
    np.testing.assert_array_equal(learned, expected.max(1) >= 0)
    np.testing.assert_array_equal(
        golden.level_first(targets.distances).numpy()[learned], expected[learned]
    )


@pytest.mark.reference
@pytest.mark.parametrize('mode', ['train_all', 'train_empty2', 'train_512'])
def test_golden__losses(golden, mode):
    losses = golden.head.loss_by_feat([], golden.heat, golden.distances, golden.gt(mode))
    assert set(losses) == set(LOSSES)
    for name in LOSSES:
        expected = float(golden.values[f'{mode}/{name.replace("loss", "loss_centernet")}'])
        assert float(losses[name].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6), name


@pytest.mark.reference
def test_golden__gradients_of_the_head(golden):
    """Compare gradients: none comes from the second stage, only from the losses of the head."""
    golden.stages.zero_grad()
    losses = golden.head.loss(
        [level.detach() for level in golden.neck], samples_of(golden.gt(), img_shape=(128, 128))
    )
    sum(losses.values()).backward()
    names = golden.values['train_all/grad_names'].tolist()
    expected = dict(zip(names, golden.values['train_all/grad_l2'].tolist(), strict=True))
    expected = {rename(name): value for name, value in expected.items() if 'centernet_head' in name}
    floor = 1e-5 * golden.values['train_all/grad_l2'].max()
    found = dict(golden.head.named_parameters(prefix='rpn_head'))
    assert set(found) == set(expected)
    for name, value in expected.items():
        norm = float(found[name].grad.double().norm())
        assert norm == pytest.approx(value, rel=1e-3, abs=floor), name


def assert_same_set(found: InstanceData, boxes: np.ndarray, scores: np.ndarray) -> None:
    """Compare without order: each of our boxes has one of theirs, and the reverse."""
    assert len(found) == len(boxes)
    expected = torch.from_numpy(boxes)
    far = (found.bboxes[:, None] - expected).abs().amax(-1)
    nearest, index = far.min(1)
    assert nearest.max() < 1e-2
    assert far.min(0).values.max() < 1e-2
    assert_near(found.scores, scores[index.numpy()])


@pytest.mark.reference
@pytest.mark.parametrize('mode', PROPOSALS)
@pytest.mark.parametrize('fixed_shape', [False, True])
def test_golden__proposals(golden, mode, fixed_shape):
    golden.head.fixed_shape = fixed_shape
    maps = golden.heat, golden.distances
    proposals = golden.head.predict_by_feat([], *maps, cfg=PROPOSALS[mode])
    outside = 0
    for i, found in enumerate(proposals):
        boxes, scores = (golden.values[f'{mode}/prop{i}_{name}'] for name in ('boxes', 'scores'))
        assert_same_set(found, boxes, scores)
        height, width = golden.values[f'in/image{i}'].shape[1:]
        limits = torch.tensor([width, height])
        outside += int(((found.bboxes[:, :2] < 0) | (found.bboxes[:, 2:] > limits)).any(-1).sum())
        assert ('valid' in found) is fixed_shape
    assert outside > 100, 'proposals are not clipped'


# ---- without golden values ------------------------------------------------------------------


def feats(size: int = 128) -> list[Tensor]:
    return random_maps(*((2, 32, size // s, size // s) for s in (8, 16, 32, 64, 128)), grad=True)


def objects(count: int, size: int = 128, seed: int = 0) -> InstanceData:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(count, place=(0, size / 2), side=(4, 4 + size / 2), generator=generator)
    labels = torch.randint(0, 80, (count,), generator=generator)
    return InstanceData(bboxes=boxes, labels=labels)


@pytest.mark.parametrize('fixed_shape', [False, True])
def test_loss_and_predict__one_pass_gives_both(fixed_shape):
    head = build_head(fixed_shape=fixed_shape)
    data = samples_of([objects(5), objects(0)], img_shape=(128, 128))
    losses, proposals = head.loss_and_predict(feats(), data, proposal_cfg=TRAIN)
    alone = head.loss(feats(), data)
    assert {name: float(v.detach()) for name, v in losses.items()} == {
        name: float(v.detach()) for name, v in alone.items()
    }
    for found in proposals:
        assert not found.bboxes.requires_grad
        assert not found.scores.requires_grad
        assert found.bboxes.dtype == torch.float32
        assert bool((found.scores[:-1] >= found.scores[1:]).all())


def test_proposals__fixed_shape_pads_with_zeros():
    dynamic, fixed = build_head(fixed_shape=False), build_head(fixed_shape=True)
    cfg = dict(TEST, score_thr=0.01015, max_per_img=400)  # more than the number of cells
    counts = []
    for one, two in zip(
        dynamic.predict_by_feat(*dynamic(feats()), cfg=cfg),
        fixed.predict_by_feat(*fixed(feats()), cfg=cfg),
        strict=True,
    ):
        counts.append(len(one))
        assert len(two) == 400
        assert int(two.valid.sum()) == len(one)
        assert torch.equal(two.bboxes[: len(one)], one.bboxes)
        assert torch.equal(two.scores[: len(one)], one.scores)
        assert not two.bboxes[len(one) :].any()
        assert not two.scores[len(one) :].any()
    assert min(counts) > 0
    assert counts[0] != counts[1]


def test_proposals__score_is_the_root_of_the_heat():
    head = build_head()
    heat = [torch.full((1, 1, s, s), -20.0) for s in (16, 8, 4, 2, 1)]
    heat[1][0, 0, 2, 3] = 0.0
    distances = [torch.full((1, 4, s, s), 2.0) for s in (16, 8, 4, 2, 1)]
    (found,) = head.predict_by_feat([], heat, distances)
    assert found.scores.tolist() == pytest.approx([0.5**0.5])
    assert found.bboxes.tolist() == [[24.0, 8.0, 88.0, 72.0]]


def test_loss__without_objects_is_finite_and_lowers_the_heat():
    head = build_head()
    losses = head.loss(feats(), samples_of([objects(0), objects(0)], img_shape=(128, 128)))
    assert losses['loss_loc'] == 0
    assert losses['loss_agn_pos'] == 0
    assert losses['loss_agn_neg'] > 0
    sum(losses.values()).backward()
    assert (head.conv_cls.bias.grad > 0).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_loss__image_without_objects_adds_only_negatives():
    head = build_head()
    maps = feats(size=256)
    one = head.loss([level[:1] for level in maps], samples_of([objects(5)], img_shape=(128, 128)))
    two = head.loss(maps, samples_of([objects(5), objects(0)], img_shape=(128, 128)))
    for name in ('loss_loc', 'loss_agn_pos'):
        torch.testing.assert_close(one[name], two[name])
    assert two['loss_agn_neg'] > 1.5 * one['loss_agn_neg']


def test_loss__labels_have_no_influence():
    head = build_head()
    gt = objects(5)
    zero = InstanceData(bboxes=gt.bboxes, labels=torch.zeros_like(gt.labels))
    one, two = (
        head.loss(feats(), samples_of([each, each], img_shape=(128, 128))) for each in (gt, zero)
    )
    assert all(torch.equal(one[name], two[name]) for name in LOSSES)


@pytest.mark.parametrize('value', [1e4, -1e4])
def test_loss__extreme_maps_stay_finite(value):
    head = build_head()
    maps = [
        [torch.full((1, c, s, s), v).requires_grad_() for s in (16, 8, 4, 2, 1)]
        for c, v in ((1, value), (4, max(value, 0.0)))
    ]
    losses = head.loss_by_feat([], *maps, [objects(5)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(level.grad).all() for row in maps for level in row)


def test_loss__a_thousand_objects():
    head = build_head()
    losses = head.loss(
        feats(), samples_of([objects(1000), objects(1, seed=1)], img_shape=(128, 128))
    )
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_step__has_fixed_shapes_and_reads_nothing(dtype):
    head = build_head(fixed_shape=True)

    def step(data: list[DetDataSample]) -> None:
        head.zero_grad()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            losses, proposals = head.loss_and_predict(feats(), data, proposal_cfg=TRAIN)
        assert all(len(found) == 2000 for found in proposals)
        assert proposals[0].bboxes.dtype == torch.float32
        sum(losses.values()).backward()

    batches = [samples_of([objects(n), objects(30 - n)], img_shape=(128, 128)) for n in (1, 30, 0)]
    # NMS has a result of data-dependent size; the same function makes its shape fixed.
    trace = trace_steps(step, batches, host_functions=('pack_ground_truth', 'suppress_fixed'))
    assert not trace.faults, str(trace)
    assert trace.num_operators > 300


def test_head__several_classes_are_an_error():
    with pytest.raises(ValueError, match='found num_classes=80'):
        build_head(num_classes=80)
