# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterNet2 and CenterNet2-F compute the same as the reference, in fixed shapes too.

The golden values come from xingyizhou/CenterNet2, run on a CPU with a narrow network and two
drawn images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from helpers import CONFIGS
from mmface.models.roi_heads.centernet2_roi_head import RoIs
from mmface.weights.centernet2 import rename

SCHEDULE = CONFIGS / '_base_' / 'schedules' / 'centernet2_1x.py'
CLASSES = 5
# Network of the golden values; everything else is the published config.
NARROW = f"""
_base_ = '{CONFIGS / 'centernet2'}/BASE'
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    rpn_head=dict(in_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=64, num_classes={CLASSES}),
    ),
)
"""
BASES = dict(cascade='centernet2_r50_1x.py', faster='centernet2_f_r50_1x.py')
ALL = 1 << 14  # RoIs per image: more than there are, so that all are used

BOXES = dict(atol=1e-2, rtol=0)  # pixels
SCORES = dict(atol=1e-4, rtol=0)
# Raw outputs reach several tens; float32 kernels of two CPUs differ by 1e-5 relative to them.
LOGITS = dict(atol=1e-4, rtol=1e-5)
LOSSES = dict(atol=1e-6, rtol=1e-4)
# Limits of losses after 0, 1 and 2 steps. From the second step on the network amplifies rounding:
# with PyTorch's kernels for other CPUs the losses of the third step differ by 3e-3, those of the
# second by 2e-4.
TRAJECTORY = (1e-4, 1e-3, 2e-2)
# With kernels for other CPUs, gradients differ by up to 9e-4 and 1.2e-3.
GRADIENTS = dict(cascade=1e-3, faster=2e-3)


class Golden(NamedTuple):
    """Values and weights of the reference; see the fixture ``golden``."""

    arch: str
    arrays: Any
    numbers: dict
    names: dict[str, str]
    config: Path
    state_dict: dict[str, Tensor]

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key])

    @property
    def num_stages(self) -> int:
        return 3 if self.arch == 'cascade' else 1


@pytest.fixture(scope='module', params=list(BASES))
def golden(request, reference_dir, tmp_path_factory) -> Golden:
    folder = reference_dir / 'data' / 'centernet2'
    config = tmp_path_factory.mktemp('centernet2') / f'{request.param}.py'
    config.write_text(NARROW.replace('BASE', BASES[request.param]))
    source = folder / f'{request.param}_tiny_weights.pth'
    theirs = torch.load(source, weights_only=True)['model']
    ours = rename(theirs).state_dict
    places = {value.data_ptr(): key for key, value in ours.items()}
    return Golden(
        request.param,
        np.load(folder / f'{request.param}_tiny_head.npz'),
        json.loads((folder / f'{request.param}_tiny_head.json').read_text()),
        {key: places[value.data_ptr()] for key, value in theirs.items()},
        config,
        {key: value.float() for key, value in ours.items()},
    )


@pytest.fixture(params=[False, True], ids=['dynamic', 'fixed'])
def model(request, golden) -> nn.Module:
    """Build our model with the reference's weights; it trains on all RoIs."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(golden.config).model
    cfg.train_cfg.rcnn.num_samples = ALL
    for head in (cfg.rpn_head, cfg.roi_head):
        head.fixed_shape = request.param
    model = MODELS.build(cfg)
    missing, unexpected = model.load_state_dict(golden.state_dict, strict=False)
    assert not unexpected
    assert all(key.endswith('num_batches_tracked') for key in missing)
    return model


@pytest.fixture
def stages(model, golden) -> Iterator[list[dict[str, Tensor]]]:
    """Return RoIs (R, 5), logits, deltas and labels of each stage, without padding."""
    seen: list[dict[str, Tensor]] = []

    def pooled(_: nn.Module, args: tuple, output: Tensor) -> None:
        seen.append(dict(rois=args[1], pooled=output))

    def predicted(_: nn.Module, args: tuple, output: tuple) -> None:
        real = (seen[-1]['rois'][:, 3:] > seen[-1]['rois'][:, 1:3]).all(1)
        if not model.training:
            real[:] = True
        seen[-1].update(real=real, logits=output[0], deltas=output[1])
        for key in ('rois', 'pooled', 'logits', 'deltas'):
            seen[-1][key] = seen[-1][key].detach()[real]

    def labelled(_: nn.Module, args: tuple) -> None:
        seen[-1]['labels'] = args[1][args[2]]

    model.roi_head.bbox_roi_extractor.register_forward_hook(pooled)
    for head in model.roi_head.stages:
        head.register_forward_hook(predicted)
        head.loss_cls.register_forward_pre_hook(labelled)
    return seen


def batch(golden: Golden, empty: bool = False) -> dict:
    """Return the two images, with or without the ground truth of the second one."""
    samples = []
    for image, original in enumerate(golden.numbers['orig']):
        height, width = golden[f'in/image{image}'].shape[1:]
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=tuple(original),
                scale_factor=(width / original[1], height / original[0]),
            )
        )
        truth = InstanceData(
            bboxes=golden[f'in/gt_boxes{image}'], labels=golden[f'in/gt_classes{image}']
        )
        sample.gt_instances = truth[:0] if empty and image else truth
        samples.append(sample)
    return dict(inputs=[golden['in/image0'], golden['in/image1']], data_samples=samples)


def loss(model: nn.Module, golden: Golden, **options: bool) -> dict[str, Tensor]:
    """Train on the images; return losses under the reference's names."""
    model.train()
    data = model.data_preprocessor(batch(golden, **options), training=True)
    losses = {}
    for name, value in model.loss(data['inputs'], data['data_samples']).items():
        if 'loss' in name:
            stage, dot, name = name.rpartition('.')
            name = name.replace('rpn_loss', 'loss_centernet').replace('loss_bbox', 'loss_box_reg')
            losses[name + stage.replace('s', dot and '_stage')] = value
    return losses


def check_losses(found: dict[str, Tensor], expected: dict[str, float], rtol: float = 1e-4) -> None:
    assert set(found) == set(expected)
    for name, value in found.items():
        assert value.item() == pytest.approx(float(expected[name]), rel=rtol, abs=1e-6), name


def expected_losses(golden: Golden, mode: str) -> dict[str, float]:
    prefix = f'{mode}/loss_'
    keys = [key for key in golden.arrays.files if key.startswith(prefix)]
    return {key.removeprefix(f'{mode}/'): float(golden[key]) for key in keys}


def partners(found: Tensor, expected: Tensor) -> Tensor:
    """Find for each expected box the nearest one found; boxes of near-equal score may swap."""
    assert found.shape == expected.shape
    distance = torch.cdist(expected, found, p=torch.inf)
    assert distance.amin(0).max() < BOXES['atol']
    nearest = distance.min(1)
    assert nearest.values.max() < BOXES['atol']
    return nearest.indices


def check_stages(stages: list[dict[str, Tensor]], golden: Golden, mode: str) -> None:
    """Compare RoIs, labels, logits and deltas of each stage for which golden values exist."""
    for number, stage in enumerate(stages):
        order: list[Tensor] = []
        for image in (0, 1):
            prefix = f's{number}_in{image}' if golden.num_stages > 1 else f'samp{image}'
            if f'{mode}/{prefix}_boxes' not in golden.arrays:
                continue
            (rows,) = (stage['rois'][:, 0] == image).nonzero(as_tuple=True)
            rows = rows[partners(stage['rois'][rows, 1:], golden[f'{mode}/{prefix}_boxes'])]
            if 'labels' in stage:
                assert torch.equal(stage['labels'][rows], golden[f'{mode}/{prefix}_classes'])
            order.append(rows)
        for key in ('logits', 'deltas'):
            if (name := f'{mode}/s{number}_{key}') in golden.arrays:
                assert len(order) == 2
                torch.testing.assert_close(stage[key][torch.cat(order)], golden[name], **LOGITS)


@pytest.mark.reference
def test_predict__every_stage_and_the_detections(model, golden, stages):
    model.eval()
    data = model.data_preprocessor(batch(golden))
    samples = data['data_samples']
    with torch.no_grad():
        feats = model.extract_feat(data['inputs'])
        proposals = model.rpn_head.predict(feats, samples)
        raw = model.roi_head.predict(feats, proposals, samples, rescale=False)
        assert len(stages) == golden.num_stages
        check_stages(stages, golden, 'eval')
        _, bboxes = model.roi_head(feats, proposals, samples)
        found = model.predict(data['inputs'], samples)
    for image, (proposal, sample) in enumerate(zip(proposals, samples, strict=True)):
        prefix = f'eval/prop{image}'
        order = partners(proposal.bboxes, golden[f'{prefix}_boxes'])
        torch.testing.assert_close(proposal.scores[order], golden[f'{prefix}_scores'], **SCORES)
        if image == 0:
            pooled = stages[0]['pooled'][order[:32], ::8]
            torch.testing.assert_close(pooled, golden['eval/pool_first32'], **SCORES)
        # The reference's last boxes are not clipped yet.
        height, width = sample.img_shape
        final = golden[f'eval/roi{image}_final_boxes'].clamp(min=0)
        final = torch.minimum(final, torch.tensor([width, height, width, height]))
        torch.testing.assert_close(bboxes[-1][image][order], final, **BOXES)
        for kind, result in (('raw', raw[image]), ('post', found[image].pred_instances)):
            prefix = f'eval/det{image}_{kind}'
            torch.testing.assert_close(result.bboxes, golden[f'{prefix}_boxes'], **BOXES)
            torch.testing.assert_close(result.scores, golden[f'{prefix}_scores'], **SCORES)
            assert torch.equal(result.labels, golden[f'{prefix}_classes'])


@pytest.mark.reference
def test_predict__scores_before_suppression(model, golden):
    model.eval()
    model.roi_head.test_cfg.update(score_thr=0.0, nms=None, max_per_img=-1)
    data = model.data_preprocessor(batch(golden))
    with torch.no_grad():
        feats = model.extract_feat(data['inputs'])
        proposals = model.rpn_head.predict(feats, data['data_samples'])
        results = model.roi_head.predict(feats, proposals, data['data_samples'])
    for image, result in enumerate(results):
        for label in range(CLASSES):
            scores = golden[f'eval/roi{image}_final_scores'][:, label]
            torch.testing.assert_close(
                result.scores[result.labels == label], scores.sort(descending=True).values, **SCORES
            )


@pytest.mark.slow
@pytest.mark.reference
def test_train__losses_gradients_and_three_steps(model, golden, stages):
    wrapper = build_optim_wrapper(model, Config.fromfile(SCHEDULE).optim_wrapper)
    for group in wrapper.param_groups:
        group['lr'] = golden.numbers['traj_lr']
    own = dict(model.named_parameters())
    start = {name: value.detach().clone() for name, value in own.items()}
    for step, (expected, limit) in enumerate(zip(golden.numbers['traj'], TRAJECTORY, strict=True)):
        losses = loss(model, golden)
        check_losses(losses, expected, limit)
        if step == 0:
            check_losses(losses, expected_losses(golden, 'train_all'))
            check_stages(stages, golden, 'train_all')
        # Look at the gradients before the wrapper clips them and steps.
        wrapper.backward(sum(losses.values()))
        if step == 0:
            names = [golden.names[name] for name in golden.arrays['train_all/grad_names']]
            assert set(names) == {name for name, value in own.items() if value.grad is not None}
            norms = torch.stack([own[name].grad.double().norm() for name in names])
            check_norms(norms, golden['train_all/grad_l2'], GRADIENTS[golden.arch])
        wrapper.step()
        wrapper.zero_grad()
        names = [golden.names[name] for name in golden.arrays['sgd/names']]
        moved = [(own[name].detach() - start[name]).double().norm() for name in names]
        if step < 2:
            check_norms(torch.stack(moved), golden['sgd/delta_l2'][step], (3e-3, 3e-2)[step])


def check_norms(found: Tensor, expected: Tensor, limit: float) -> None:
    error = (found - expected).abs() / expected.clamp(min=1e-5 * expected.max())
    assert error.max() < limit
    assert error.median() < limit / 10


@pytest.mark.reference
def test_train__image_without_objects(model, golden, stages):
    with torch.no_grad():
        losses = loss(model, golden, empty=True)
    check_losses(losses, expected_losses(golden, 'train_empty2'))
    check_stages(stages, golden, 'train_empty2')


@pytest.mark.reference
def test_train__the_reference_s_samples(model, golden, stages, monkeypatch):
    boxes = torch.stack([golden[f'train_512/samp{image}_boxes'] for image in (0, 1)])
    rois = RoIs(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool))
    monkeypatch.setattr(model.roi_head, 'sample', lambda *_: rois)
    with torch.no_grad():
        losses = loss(model, golden)
    check_losses(losses, expected_losses(golden, 'train_512'))
    check_stages(stages, golden, 'train_512')
