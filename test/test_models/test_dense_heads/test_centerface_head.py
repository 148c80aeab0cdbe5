# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Losses and decoding of CenterFace, compared with their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from helpers import centerface_head as build_head
from helpers import faces, objects, random_maps, samples_of
from mmface.models import CenterFaceHead

CONVENTIONS = ('centernet', 'star_clouds', 'mindspore')
BOX = [100.0, 120.0, 180.0, 220.0]  # cell (35, 42)
POINTS = [[120.0, 150.0], [160.0, 152.0], [140.0, 170.0], [125.0, 190.0], [155.0, 192.0]]


def raw_maps(batch: int = 2, size: int = 64) -> list[Tensor]:
    maps = random_maps(*((batch, c, size, size) for c in (1, 2, 2, 10)))
    maps[0] -= 2.2
    return [level.requires_grad_() for level in maps]


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(losses.values())


def perfect_maps(head: CenterFaceHead, gt: list[InstanceData], size: int = 64) -> list[Tensor]:
    """Build raw maps that equal the targets."""
    maps = [torch.zeros(len(gt), c, size, size) for c in (1, 2, 2, 10)]
    maps[0] -= 20
    for image, found in enumerate(gt):
        values = head.coder.encode(found.bboxes, found.keypoints[..., :2])
        for face, (x, y) in enumerate(values.cell.tolist()):
            maps[0][image, 0, y, x] = 10.0 - face / 10
            for level, value in zip(maps[1:], values[1:], strict=True):
                level[image, :, y, x] = value[face]
    return maps


def test_classes__have_their_own_heatmaps():
    """Two faces at one cell are two peaks, and a face has no effect on the other class."""
    head = build_head(num_classes=2)
    gt = faces([BOX, BOX], [POINTS, POINTS])
    gt.labels = torch.tensor([0, 1])
    one = gt[:1]
    maps = raw_maps(batch=1)
    heat = torch.cat([maps[0], maps[0]], 1).detach().requires_grad_()

    def slopes(found: InstanceData) -> Tensor:
        losses = head.loss_by_feat(heat, *maps[1:], batch_gt_instances=[found])
        return torch.autograd.grad(losses['loss_heatmap'], heat)[0][0, :, 42, 35]

    assert (slopes(gt) < 0).all(), 'both classes are pushed up at the centre'
    assert slopes(one)[0] < 0 < slopes(one)[1]


def test_classes__predict_the_class_of_the_heatmap():
    head = build_head(num_classes=3)
    gt = faces([BOX, [20.0, 20.0, 70.0, 80.0]], [POINTS, POINTS])
    maps = perfect_maps(head, [gt])
    peaks = maps[0]
    maps[0] = torch.full((1, 3, *peaks.shape[2:]), -20.0)
    maps[0][0, 2] = peaks[0, 0]
    maps[0][0, 1, 42, 35] = 9.0  # the first face is of two classes
    meta = dict(img_shape=(256, 256), scale_factor=(1.0, 1.0))
    cfg = dict(peak=3, topk=10, score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5))
    (found,) = head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=cfg)
    assert found.labels.tolist() == [2, 2, 1]
    torch.testing.assert_close(found.bboxes, gt.bboxes[[0, 1, 0]], rtol=1e-4, atol=1e-3)


# ---- losses ---------------------------------------------------------------------------------


def test_loss__of_one_face_is_that_of_the_formulas():
    maps = raw_maps(batch=1)
    losses = build_head().loss_by_feat(*maps, batch_gt_instances=[faces(BOX, [POINTS])])
    heat, size, offset, points = (level.detach()[0, :, 42, 35] for level in maps)
    expected = F.smooth_l1_loss(size, torch.tensor([math.log(5), math.log(6.25)]), reduction='sum')
    torch.testing.assert_close(losses['loss_size'].detach(), 0.1 * expected / 1.0001)
    expected = F.smooth_l1_loss(offset, torch.tensor([0.0, 0.5]), reduction='sum')
    torch.testing.assert_close(losses['loss_offset'].detach(), expected / 1.0001)
    wanted = torch.tensor(POINTS) / 4 - torch.tensor([35.0, 42.0])
    expected = 0.1 * (points - wanted.flatten()).abs().sum() / 10.0001
    torch.testing.assert_close(losses['loss_kps'].detach(), expected)
    # One positive cell: the heatmap loss is divided by one.
    losses['loss_heatmap'].backward(retain_graph=True)
    p = heat.sigmoid()
    slope = -((1 - p) ** 3) + 2 * p * (1 - p) ** 2 * p.log()
    torch.testing.assert_close(maps[0].grad[0, :, 42, 35], slope)


def test_loss__divides_by_the_objects_of_the_batch():
    maps = raw_maps(batch=1)
    pair = [torch.cat([level, level]) for level in maps]
    gt = faces([BOX, [20.0, 20.0, 70.0, 80.0]], [POINTS, POINTS])
    once = build_head().loss_by_feat(*maps, batch_gt_instances=[gt])
    twice = build_head().loss_by_feat(*pair, batch_gt_instances=[gt, gt])
    for name in once:
        torch.testing.assert_close(once[name], twice[name], rtol=2e-4, atol=1e-6)


def test_loss__without_faces_is_finite_and_trains_the_heat_map():
    maps = raw_maps()
    losses = build_head().loss_by_feat(*maps, batch_gt_instances=[faces([])] * 2)
    total(losses).backward()
    assert float(losses['loss_heatmap'].detach()) > 0
    assert all(float(losses[f'loss_{n}'].detach()) == 0 for n in ('size', 'offset', 'kps'))
    assert all(torch.isfinite(level.grad).all() for level in maps)
    assert maps[0].grad.abs().sum() > 0


def test_loss__with_a_face_in_every_cell():
    corner = torch.cartesian_prod(torch.arange(16), torch.arange(16)).float() * 4
    gt = faces(torch.cat([corner + 0.5, corner + 2.5], dim=1))
    maps = raw_maps(batch=1, size=16)
    losses = build_head().loss_by_feat(*maps, batch_gt_instances=[gt])
    total(losses).backward()
    assert all(torch.isfinite(level.grad).all() for level in maps)
    # Boxes beyond the last cell's corner are dropped; all other scores are pushed up.
    assert (maps[0].grad[0, 0, :15, :15] < 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('convention', CONVENTIONS)
def test_loss__extreme_half_precision_outputs_stay_finite(dtype, convention):
    for value in (torch.finfo(torch.float16).max, torch.finfo(torch.float16).min):
        maps = [
            torch.full_like(level, value, dtype=dtype).requires_grad_()
            for level in raw_maps(batch=1)
        ]
        gt = [faces([BOX, [0.0, 0.0, 0.4, 0.4]], [POINTS, POINTS])]
        losses = build_head(convention).loss_by_feat(*maps, batch_gt_instances=gt)
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        assert torch.isfinite(total(losses))
        total(losses).backward()
        assert all(torch.isfinite(level.grad).all() for level in maps)


def test_loss__infinities_away_from_faces_do_no_harm():
    maps = raw_maps(batch=1)
    with torch.no_grad():
        for level in maps[1:]:
            level[0, :, 0, 0] = float('inf')  # the cell that padding refers to
    losses = build_head().loss_by_feat(*maps, batch_gt_instances=[faces(BOX, [POINTS])])
    total(losses).backward()
    assert torch.isfinite(total(losses))
    assert all(torch.isfinite(level.grad).all() for level in maps)


@pytest.mark.parametrize('convention', CONVENTIONS)
def test_loss__of_perfect_maps_is_almost_zero(convention):
    head = build_head(convention)
    gt = [faces([BOX, [20.0, 20.0, 70.0, 80.0]], [POINTS, POINTS])]
    losses = head.loss_by_feat(*perfect_maps(head, gt), batch_gt_instances=gt)
    assert float(total(losses)) < 1e-5


def test_loss__missing_keypoint_has_no_influence():
    maps = raw_maps(batch=1)
    gt = faces(BOX, [POINTS])
    gt.keypoints[0, 3, 2] = 0
    first = build_head().loss_by_feat(*maps, batch_gt_instances=[gt])
    gt.keypoints[0, 3, :2] = -1
    second = build_head().loss_by_feat(*maps, batch_gt_instances=[gt])
    assert torch.equal(total(first), total(second))
    assert float(first['loss_kps'].detach()) > 0


def test_loss__order_of_images_and_padding_do_not_matter():
    generator = torch.Generator().manual_seed(5)
    corner = torch.rand(40, 2, generator=generator) * 200
    many = torch.cat([corner, corner + 10 + corner.flip(0) / 8], dim=1)
    points = corner[:, None] + torch.rand(40, 5, 2, generator=generator) * 10
    gt = [faces(many, points), faces(many[:3], points[:3])]
    maps = raw_maps()
    losses = total(build_head().loss_by_feat(*maps, batch_gt_instances=gt))
    swapped = [level.flip(0) for level in maps]
    torch.testing.assert_close(
        losses, total(build_head().loss_by_feat(*swapped, batch_gt_instances=gt[::-1]))
    )


def test_loss__ignored_faces_are_background_unless_asked():
    maps = raw_maps(batch=1)
    args = dict(
        batch_gt_instances=[faces(BOX, [POINTS])],
        batch_gt_instances_ignore=[faces([8.0, 8.0, 72.0, 72.0])],
    )
    published = build_head().loss_by_feat(*maps, **args)
    plain = build_head().loss_by_feat(*maps, batch_gt_instances=args['batch_gt_instances'])
    assert torch.equal(total(published), total(plain))
    masked = build_head(targets=dict(mask_ignored=True)).loss_by_feat(*maps, **args)
    masked['loss_heatmap'].backward()
    inside = maps[0].grad[0, 0, 2:18, 2:18]
    assert float(inside.abs().sum()) == 0
    assert int((maps[0].grad == 0).sum()) == inside.numel()
    none = build_head(targets=dict(mask_ignored=True)).loss_by_feat(
        *maps, batch_gt_instances=args['batch_gt_instances']
    )
    assert torch.equal(total(none), total(plain))


def test_loss__small_face_weights_change_size_and_offset_only():
    maps = raw_maps(batch=1)
    gt = [faces([100.0, 100.0, 124.0, 124.0], [POINTS])]  # 36 square cells have weight 5
    plain = build_head().loss_by_feat(*maps, batch_gt_instances=gt)
    weighted = build_head(targets=dict(small_face_weights=True)).loss_by_feat(
        *maps, batch_gt_instances=gt
    )
    factors = {name: float((weighted[name] / plain[name]).detach()) for name in plain}
    assert factors == pytest.approx(
        dict(loss_heatmap=1.0, loss_size=5.0, loss_offset=5.0, loss_kps=1.0)
    )


def test_loss__from_samples_reaches_every_parameter():
    head = build_head()
    samples = samples_of([faces(BOX, [POINTS])], img_shape=(256, 256))
    total(head.loss((torch.rand(1, 8, 64, 64),), samples)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_loss__without_keypoints():
    head = build_head(num_keypoints=0)
    maps = raw_maps(batch=1)[:3]
    gt = objects(BOX)
    losses = head.loss_by_feat(*maps, batch_gt_instances=[gt])
    assert set(losses) == {'loss_heatmap', 'loss_size', 'loss_offset'}
    meta = dict(img_shape=(256, 256), scale_factor=(1.0, 1.0))
    found = head.predict_by_feat(*maps, batch_img_metas=[meta])[0]
    assert 'keypoints' not in found


def test_init__keypoints_without_their_loss_are_refused():
    with pytest.raises(ValueError, match='needs loss_kps'):
        CenterFaceHead(
            head_module=dict(type='CenterFaceModule', in_channels=8),
            coder=dict(type='CenterFaceCoder'),
            loss_heatmap=dict(type='DenseGaussianFocalLoss'),
            loss_size=dict(type='SmoothL1Loss'),
            loss_offset=dict(type='SmoothL1Loss'),
        )


def test_init__even_peak_is_refused():
    with pytest.raises(ValueError, match='peak must be odd, got 2'):
        build_head(test_cfg=dict(peak=2))


# ---- decoding -------------------------------------------------------------------------------


@pytest.mark.parametrize('convention', CONVENTIONS)
def test_predict__gives_back_faces_in_original_pixels(convention):
    head = build_head(convention)
    gt = faces([BOX, [20.0, 20.0, 70.0, 80.0]], [POINTS, POINTS])
    maps = perfect_maps(head, [gt])
    meta = dict(img_shape=(256, 256), scale_factor=(2.0, 0.5), pad_offset=(12.0, 7.0))
    found = head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=dict(peak=3, topk=2))[0]
    start, factor = torch.tensor([12.0, 7.0]), torch.tensor([2.0, 0.5])
    expected = (gt.bboxes.view(2, 2, 2) - start) / factor
    assert (found.bboxes - expected.flatten(1)).abs().max() < 0.01
    assert (found.keypoints[..., :2] - (gt.keypoints[..., :2] - start) / factor).abs().max() < 0.01
    assert (found.keypoints[..., 2] == 1).all()
    assert found.labels.tolist() == [0, 0]
    torch.testing.assert_close(found.scores, torch.tensor([10.0, 9.9]).sigmoid())

    same = dict(img_shape=(256, 256), scale_factor=(1.0, 1.0))
    plain = head.predict_by_feat(*maps, batch_img_metas=[same], cfg=dict(topk=2))[0]
    network = head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=dict(topk=2), rescale=False)[
        0
    ]
    assert torch.equal(plain.bboxes, network.bboxes)
    assert torch.equal(plain.keypoints, network.keypoints)


def heat_of(values: list[list[float]]) -> list[Tensor]:
    heat = torch.tensor(values).logit()[None, None]
    size = heat.shape[-2:]
    return [heat, *(torch.zeros(1, channels, *size) for channels in (2, 2, 10))]


META = dict(img_shape=(16, 20), scale_factor=(1.0, 1.0))
HEAT = [
    [0.1, 0.2, 0.1, 0.1, 0.1],
    [0.2, 0.9, 0.8, 0.1, 0.1],
    [0.1, 0.2, 0.1, 0.1, 0.7],
    [0.1, 0.1, 0.1, 0.6, 0.6995],
]


@pytest.mark.parametrize(
    ('cfg', 'scores'),
    [
        (dict(score_thr=0.5), [0.9, 0.8, 0.7, 0.6995, 0.6]),
        (dict(score_thr=0.5, topk=3), [0.9, 0.8, 0.7]),
        (dict(score_thr=0.75, topk=200), [0.9, 0.8]),
        (dict(score_thr=0.5, peak=3, topk=200), [0.9, 0.7]),
        (dict(score_thr=0.5, peak=3, topk=1), [0.9]),
        (dict(score_thr=0.5, peak=3, peak_tolerance=1e-3, topk=200), [0.9, 0.7, 0.6995]),
        (dict(score_thr=0.5, topk=200, max_per_img=2), [0.9, 0.8]),
        (dict(score_thr=0.95), []),
    ],
)
def test_predict__candidates(cfg, scores):
    found = build_head().predict_by_feat(*heat_of(HEAT), batch_img_metas=[META], cfg=cfg)[0]
    torch.testing.assert_close(found.scores, torch.tensor(scores))
    assert found.bboxes.shape == (len(scores), 4)
    assert found.keypoints.shape == (len(scores), 5, 3)


def test_predict__suppresses_overlapping_boxes_in_pixels_of_the_input():
    # Boxes of 16 x 16 at neighbouring cells have overlap 12 / 20 = 0.6. If corners are whole
    # pixels it is 13 * 17 / (2 * 17 * 17 - 13 * 17) = 0.619.
    maps = heat_of(HEAT)
    head = build_head()
    meta = dict(META, scale_factor=(100.0, 0.1))
    for iou, offset, count in ((0.59, 0, 1), (0.61, 0, 2), (0.61, 1, 1), (0.63, 1, 2)):
        cfg = dict(score_thr=0.75, nms=dict(type='nms', iou_threshold=iou, offset=offset))
        found = head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=cfg)[0]
        assert len(found) == count, (iou, offset)
    assert len(head.predict_by_feat(*maps, batch_img_metas=[meta], cfg=cfg, with_nms=False)[0]) == 2


def test_predict__scores_are_those_that_soft_suppression_leaves():
    nms = dict(type='soft_nms', iou_threshold=0.5, sigma=0.5, min_score=1e-3, method='gaussian')
    cfg = dict(score_thr=0.75, nms=nms)
    found = build_head().predict_by_feat(*heat_of(HEAT), batch_img_metas=[META], cfg=cfg)[0]
    expected = [0.9, 0.8 * math.exp(-(0.6**2) / 0.5)]
    torch.testing.assert_close(found.scores, torch.tensor(expected))


def test_predict__half_precision_maps_give_float32_faces():
    maps = [level.half() for level in heat_of(HEAT)]
    found = build_head().predict_by_feat(*maps, batch_img_metas=[META])[0]
    assert found.bboxes.dtype == found.scores.dtype == found.keypoints.dtype == torch.float32


def test_predict__from_features():
    head = build_head(test_cfg=dict(peak=3, topk=7))
    sample = DetDataSample(metainfo=META)
    found = head.predict((torch.rand(1, 8, 16, 20),), [sample], rescale=True)[0]
    assert len(found) == 7
