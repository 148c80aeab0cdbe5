# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses and decoding of SCRFD, compared with golden values and their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from torch import Tensor

import mmface.models  # noqa: F401
from helpers import faces, samples_of
from helpers import scrfd_head as build_head
from mmface.models import SCRFDHead


def raw_maps(
    batch: int = 2, size: int = 320, logit: float = -4.595, keypoints: int = 5, seed: int = 0
) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int, mean: float) -> list[Tensor]:
        return [
            (mean + torch.randn(batch, channels, size // s, size // s, generator=generator))
            .detach()
            .requires_grad_()
            for s in (8, 16, 32)
        ]

    return [maps(2, logit), maps(8, 2.0), maps(4 * keypoints, 0.0) if keypoints else []]


def flat(losses: dict[str, list[Tensor]]) -> Tensor:
    return torch.stack([value for parts in losses.values() for value in parts])


@pytest.mark.reference
def test_loss__equals_golden_values_and_gradients(reference_dir):
    golden = np.load(reference_dir / 'data/scrfd/golden/head_loss.npz')
    maps = [
        [torch.from_numpy(golden[f'{name}{level}']).requires_grad_() for level in range(3)]
        for name in ('cls', 'box', 'kps')
    ]
    gt = [
        faces(torch.from_numpy(golden[f'gt{i}']), torch.from_numpy(golden[f'gtk{i}']))
        for i in range(2)
    ]
    # The recorded run breaks ties like torch.topk on a CPU.
    losses = build_head(full_search=True, mean_keypoint_weight=True).loss_by_feat(*maps, gt)
    for name in ('loss_cls', 'loss_bbox', 'loss_kps'):
        found = [float(value.detach()) for value in losses[name]]
        np.testing.assert_allclose(found, golden[name], rtol=1e-5)
    flat(losses).sum().backward()
    sums = [[float(level.grad.abs().sum()) for level in row] for row in maps]
    np.testing.assert_allclose(sums, golden['grad_sum'], rtol=1e-5)

    # By default each keypoint has its own weight. Only the level of the face with four labelled
    # keypoints of five may change.
    own = build_head(full_search=True).loss_by_feat(*maps, gt)
    np.testing.assert_allclose(float(own['loss_kps'][0].detach()), golden['loss_kps'][0], rtol=1e-5)
    assert float(own['loss_kps'][1].detach()) < golden['loss_kps'][1]


def test_loss__missing_keypoint_has_no_influence():
    maps = raw_maps(batch=1)
    bboxes = torch.tensor([[100.0, 100.0, 160.0, 170.0]])
    keypoints = torch.rand(1, 5, 3) * 50 + 100
    keypoints[..., 2] = 1
    keypoints[0, 3, 2] = 0
    first = build_head().loss_by_feat(*maps, [faces(bboxes, keypoints)])
    elsewhere = keypoints.clone()
    elsewhere[0, 3, :2] = -1
    second = build_head().loss_by_feat(*maps, [faces(bboxes, elsewhere)])
    assert torch.equal(flat(first), flat(second))
    assert float(sum(first['loss_kps']).detach()) > 0


def test_loss__without_positives_is_finite_and_trains_scores():
    maps = raw_maps()
    losses = build_head().loss_by_feat(*maps, [faces(torch.zeros(0, 4))] * 2)
    flat(losses).sum().backward()
    assert float(sum(losses['loss_bbox']).detach()) == 0
    assert float(sum(losses['loss_kps']).detach()) == 0
    assert float(sum(losses['loss_cls']).detach()) > 0
    assert all(torch.isfinite(level.grad).all() for row in maps for level in row)


def test_loss__box_normaliser_is_not_clamped_at_one():
    # If the scores of all positives are equal, weights cancel out: the box loss is the mean DIoU
    # loss, however small the scores are.
    gt = [faces(torch.tensor([[100.0, 100.0, 160.0, 170.0]]))]
    totals = []
    for logit in (-9.0, 0.0):
        maps = raw_maps(batch=1)
        maps[0] = [torch.full_like(level, logit).requires_grad_() for level in maps[0]]
        losses = build_head().loss_by_feat(*maps, gt)
        totals.append(float(sum(losses['loss_bbox']).detach()))
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    assert totals[0] > 0.1


@pytest.mark.parametrize('value', [1e4, -1e4])
def test_loss__extreme_outputs_stay_finite(value):
    maps = [[torch.full_like(m, value).requires_grad_() for m in row] for row in raw_maps(batch=1)]
    gt = [faces(torch.tensor([[100.0, 100.0, 160.0, 170.0], [0.0, 0.0, 0.4, 0.4]]))]
    losses = build_head().loss_by_feat(*maps, gt)
    flat(losses).sum().backward()
    assert torch.isfinite(flat(losses)).all()
    assert all(torch.isfinite(level.grad).all() for row in maps for level in row)


def test_loss__order_of_images_and_padding_do_not_matter():
    maps = raw_maps()
    generator = torch.Generator().manual_seed(5)
    corner = torch.rand(40, 2, generator=generator) * 250
    many = torch.cat([corner, corner + 20 + corner.flip(0) / 4], dim=1)
    gt = [faces(many), faces(many[:3])]
    losses = flat(build_head().loss_by_feat(*maps, gt))
    swapped = [[level.flip(0) for level in row] for row in maps]
    torch.testing.assert_close(losses, flat(build_head().loss_by_feat(*swapped, gt[::-1])))


def test_loss__classes_are_trained_apart():
    maps = raw_maps(batch=1, keypoints=0)
    maps[0] = [level.detach().repeat(1, 3, 1, 1).requires_grad_() for level in maps[0]]
    gt = InstanceData(bboxes=torch.tensor([[100.0, 100.0, 160.0, 170.0]]), labels=torch.tensor([2]))
    head = build_head(num_keypoints=0, num_classes=3)
    head.loss_by_feat(*maps, [gt])['loss_cls'][1].backward()
    gradient = maps[0][1].grad.unflatten(1, (2, 3))
    assert (gradient[:, :, 2] < 0).any(), 'the class of the face must be pushed up'
    assert (gradient[:, :, :2] >= 0).all(), 'the other classes must be pushed down'


def test_loss__of_keypoints_does_not_grow_with_their_number():
    """Ten keypoints, each of five twice, have the loss of the five."""
    cls_scores, bbox_preds, kps_preds = raw_maps(batch=1)
    gt = faces([[100.0, 100.0, 160.0, 170.0]], torch.rand(1, 5, 2) * 60 + 100)
    once = build_head().loss_by_feat(cls_scores, bbox_preds, kps_preds, [gt])['loss_kps']
    doubled = [
        level.detach().unflatten(1, (2, 10)).repeat(1, 1, 2, 1, 1).flatten(1, 2)
        for level in kps_preds
    ]
    gt.keypoints = gt.keypoints.repeat(1, 2, 1)
    head = build_head(num_keypoints=10)
    twice = head.loss_by_feat(cls_scores, bbox_preds, doubled, [gt])['loss_kps']
    assert float(sum(once).detach()) > 0
    torch.testing.assert_close(torch.stack(twice), torch.stack(once))


@pytest.mark.reference
def test_predict__equals_golden_decoding(reference_dir):
    golden = np.load(reference_dir / 'data/scrfd/golden/head_loss.npz')
    expected = np.load(reference_dir / 'data/scrfd/golden/decode.npz')
    maps = [
        [torch.from_numpy(golden[f'{name}{level}'][:1]) for level in range(3)]
        for name in ('cls', 'box', 'kps')
    ]
    meta = dict(img_shape=(480, 640), scale_factor=(2.0, 2.0))
    found = build_head().predict_by_feat(*maps, [meta], cfg=dict(score_thr=-1), with_nms=False)[0]
    np.testing.assert_allclose(found.bboxes, expected['bboxes'], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected['scores'][:, 0], rtol=1e-5, atol=1e-7)


def one_face_maps() -> list[list[Tensor]]:
    """Build raw maps with one confident face, at cell x=5, y=4 of stride 16, second prior."""
    maps = [[torch.zeros_like(m) for m in row] for row in raw_maps(batch=1, size=160)]
    for level in maps[0]:
        level -= 20
    maps[0][1][0, 1, 4, 5] = 20
    maps[1][1][0, 4:8, 4, 5] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    maps[2][1][0, 10:20, 4, 5] = torch.arange(10) / 10
    return maps


def test_predict__decodes_boxes_and_keypoints_in_original_pixels():
    meta = dict(img_shape=(160, 160), scale_factor=(2.0, 0.5))
    found = build_head().predict_by_feat(*one_face_maps(), [meta])[0]
    x, y = 5 * 16, 4 * 16
    expected = [(x - 16) / 2, (y - 32) / 0.5, (x + 48) / 2, (y + 64) / 0.5]
    torch.testing.assert_close(found.bboxes, torch.tensor([expected]))
    assert found.keypoints.shape == (1, 5, 3)
    offsets = torch.arange(10).view(5, 2) / 10 * 16
    points = (offsets + torch.tensor([x, y])) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(found.keypoints[0, :, :2], points)
    assert (found.keypoints[..., 2] == 1).all()
    assert found.labels.tolist() == [0]


def test_predict__undoes_the_offset_of_a_letterbox():
    meta = dict(img_shape=(160, 160), scale_factor=(2.0, 0.5))
    plain = build_head().predict_by_feat(*one_face_maps(), [meta])[0]
    meta['pad_offset'] = (12.0, 7.0)
    found = build_head().predict_by_feat(*one_face_maps(), [meta])[0]
    shift = torch.tensor([12 / 2, 7 / 0.5])
    torch.testing.assert_close(found.bboxes, plain.bboxes - shift.repeat(2))
    points = plain.keypoints[..., :2] - shift
    torch.testing.assert_close(found.keypoints[..., :2], points)


def test_predict__clips_to_the_image_without_padding():
    meta = dict(img_shape=(100, 110), scale_factor=(1.0, 1.0))
    found = build_head().predict_by_feat(*one_face_maps(), [meta])[0]
    assert found.bboxes.tolist() == [[64.0, 32.0, 110.0, 100.0]]


def test_predict__minus_one_means_no_limit():
    # Here mmdet's helpers slice [:-1] and lose the last box.
    maps = [[torch.zeros_like(m) for m in row] for row in raw_maps(batch=1, size=64)]
    for level in maps[0]:
        level.fill_(5.0)
    for level in maps[1]:
        level.fill_(0.1)
    meta = dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))
    cfg = dict(score_thr=0.02, nms=dict(type='nms', iou_threshold=1.0), max_per_img=-1)
    found = build_head().predict_by_feat(*maps, [meta], cfg=cfg)[0]
    assert len(found) == 2 * (64 + 16 + 4)
    limited = build_head().predict_by_feat(*maps, [meta], cfg={**cfg, 'max_per_img': 3})[0]
    assert len(limited) == 3


def test_predict__nothing_found():
    maps = [[torch.zeros_like(m) - 20 for m in row] for row in raw_maps(batch=1, size=64)]
    meta = dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))
    found = build_head().predict_by_feat(*maps, [meta])[0]
    assert found.bboxes.shape == (0, 4)
    assert found.keypoints.shape == (0, 5, 3)


def test_loss__thousands_of_faces_in_one_image():
    head = build_head()
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2500, 2, generator=generator) * 600
    samples = samples_of([faces(torch.cat([corner, corner + 12], dim=1))])
    feats = [torch.rand(1, 8, 640 // s, 640 // s, generator=generator) for s in (8, 16, 32)]
    losses = head.loss(feats, samples)
    flat(losses).sum().backward()
    assert torch.isfinite(flat(losses)).all()


def test_loss__of_a_crowd_is_the_same(monkeypatch):
    """Compare both layouts: above CROWD faces, slots belong to priors and not to faces."""
    corner = torch.rand(300, 2, generator=torch.Generator().manual_seed(1)) * 280
    keypoints = torch.cat([corner[:, None] + torch.rand(300, 5, 2) * 20, torch.ones(300, 5, 1)], 2)
    truth = [
        faces(torch.cat([corner, corner + 20], dim=1), keypoints),
        faces(corner[:0].repeat(1, 2)),
    ]
    head = build_head()
    found = []
    for crowd in (4096, 256):
        monkeypatch.setattr('mmface.models.dense_heads.scrfd_head.CROWD', crowd)
        maps = raw_maps()
        losses = flat(head.loss_by_feat(*maps, truth))
        losses.sum().backward()
        found.append([losses.detach(), *(each.grad for level in maps for each in level)])
    for few, many in zip(*found, strict=True):
        torch.testing.assert_close(many, few, rtol=1e-5, atol=1e-7)


def test_init__keypoints_without_their_loss_are_refused():
    with pytest.raises(ValueError, match='needs loss_kps'):
        SCRFDHead(
            head_module=dict(
                type='SCRFDModule',
                in_channels=8,
                feat_channels=8,
                stacked_convs=1,
                norm_cfg=dict(type='BN'),
            ),
            prior_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[1], strides=[8]),
            loss_cls=dict(type='DenseQualityFocalLoss'),
            loss_bbox=dict(type='DIoULoss'),
            num_keypoints=5,
        )
