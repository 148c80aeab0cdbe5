# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The second stage of CenterNet2 alone; test_centernet2_parity.py compares with the reference."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmface_benchmark.step_trace import trace_steps

from helpers import load_config, random_boxes, random_maps
from mmface.models.roi_heads.centernet2_roi_head import CenterNet2RoIHead

CHANNELS = 4
SIZE = 256  # input pixels


def build(**changes) -> CenterNet2RoIHead:
    """Build a narrow head of 3 classes and initialise it."""
    torch.manual_seed(0)
    model = load_config('_base_/models/centernet2_r50').model
    cfg = model.roi_head
    cfg.bbox_roi_extractor.out_channels = CHANNELS
    cfg.bbox_head.update(in_channels=CHANNELS, fc_out_channels=16, num_classes=3)
    cfg.update(train_cfg=model.train_cfg.rcnn, test_cfg=model.test_cfg.rcnn, **changes)
    head = MODELS.build(cfg)
    head.init_weights()
    return head


def maps() -> list[torch.Tensor]:
    shapes = [(2, CHANNELS, SIZE // s, SIZE // s) for s in (8, 16, 32, 64, 128)]
    return random_maps(*shapes, seed=1, grad=True)


def batch(objects: int, seed: int = 0, proposals: int = 100) -> tuple[list, list]:
    """Build samples and proposals, 20 of them near objects, the last ones padding."""
    generator = torch.Generator().manual_seed(seed)
    options = dict(side=(8, 98), generator=generator)
    found, samples = [], []
    for image in range(2):
        truth = random_boxes(objects, place=(0, SIZE - 40), **options)
        near = truth.repeat(20, 1)[:20]
        near = near + torch.randn(near.shape, generator=generator)
        far = random_boxes(proposals - len(near), place=(-60, SIZE - 40), **options)
        valid = torch.arange(proposals) < proposals - 3 - image
        found.append(
            InstanceData(
                bboxes=torch.cat([near, far]) * valid[:, None],
                scores=torch.rand(proposals, generator=generator) * valid,
                valid=valid,
            )
        )
        meta = dict(img_shape=(SIZE - 30, SIZE - 50 * image), scale_factor=(2.0, 2.0))
        meta['ori_shape'] = (meta['img_shape'][0] // 2, meta['img_shape'][1] // 2)
        sample = DetDataSample(metainfo=meta)
        labels = torch.randint(3, (objects,), generator=generator)
        sample.gt_instances = InstanceData(bboxes=truth, labels=labels)
        samples.append(sample)
    return found, samples


def without_padding(proposals: list) -> list:
    return [
        InstanceData(**{k: v[p.valid] for k, v in p.items() if k != 'valid'}) for p in proposals
    ]


def total(losses: dict) -> torch.Tensor:
    return sum(value for name, value in losses.items() if 'loss' in name)


def shaken(head: CenterNet2RoIHead) -> CenterNet2RoIHead:
    """Make boxes move far, so that some leave the image and are dropped."""
    for stage in head.stages:
        torch.nn.init.normal_(stage.fc_reg.weight, std=3)
        torch.nn.init.normal_(stage.fc_cls.weight, std=3)
    return head


def rois_of(head: CenterNet2RoIHead) -> list[torch.Tensor]:
    """Collect the RoIs of each stage when they are pooled."""
    seen: list[torch.Tensor] = []
    head.bbox_roi_extractor.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    return seen


@pytest.mark.parametrize('num_stages', [1, 3])
@pytest.mark.parametrize('objects', [3, 0])
def test_loss__fixed_shapes_change_nothing(num_stages, objects):
    results = []
    for fixed_shape in (False, True):
        # Use all RoIs: the order of the random draws depends on the padding.
        head = shaken(build(num_stages=num_stages, fixed_shape=fixed_shape))
        head.train_cfg['num_samples'] = 1 << 14
        proposals, samples = batch(objects)
        feats, seen = maps(), rois_of(head)
        losses = head.loss(feats, proposals if fixed_shape else without_padding(proposals), samples)
        total(losses).backward()
        results.append((losses, [p.grad for p in head.parameters()], [f.grad for f in feats]))
        if fixed_shape:
            assert {len(rois) for rois in seen} == {2 * (100 + 32)}
        elif num_stages == 3:
            # Some were dropped after the first stage.
            assert len(seen[0]) > len(seen[1]) > 0
    for one, two in zip(results[0][0].items(), results[1][0].items(), strict=True):
        assert one[0] == two[0]
        torch.testing.assert_close(one[1], two[1], rtol=1e-5, atol=1e-6)
    for one, two in zip(results[0][1] + results[0][2], results[1][1] + results[1][2], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_predict__fixed_shapes_change_nothing():
    results = []
    for fixed_shape in (False, True):
        head = shaken(build(fixed_shape=fixed_shape)).eval()
        proposals, samples = batch(3)
        with torch.no_grad():
            results.append(
                head.predict(
                    maps(), proposals if fixed_shape else without_padding(proposals), samples, True
                )
            )
    for one, two in zip(*results, strict=True):
        assert len(one) > 0
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(one[key], two[key], rtol=1e-5, atol=1e-4)


def test_loss__step_has_fixed_shapes_and_reads_nothing():
    head = build(fixed_shape=True)

    def step(data: tuple) -> None:
        total(head.loss(maps(), *data)).backward()

    trace = trace_steps(step, [batch(objects, objects) for objects in (1, 30, 0)])
    assert not trace.faults, str(trace)
    assert trace.num_operators > 500


def test_loss__later_stages_train_on_what_the_stage_before_gave():
    """Compare with a plain loop: no new draw, ground truth appended once, empty boxes dropped."""
    head = shaken(build(fixed_shape=False))
    head.train_cfg['num_samples'] = 1 << 14
    proposals, samples = batch(3)
    proposals = without_padding(proposals)
    seen = rois_of(head)
    logits, deltas = [], []
    for stage in head.stages:
        stage.register_forward_hook(lambda *args: deltas.append(args[2][1]))
        stage.register_forward_hook(lambda *args: logits.append(args[2][0]))
    losses = head.loss(maps(), proposals, samples)
    first = [
        torch.cat([found.bboxes, sample.gt_instances.bboxes])
        for found, sample in zip(proposals, samples, strict=True)
    ]
    for image, expected in enumerate(first):
        own = seen[0][seen[0][:, 0] == image, 1:]
        assert torch.equal(own.sort(dim=0).values, expected.sort(dim=0).values)
    for stage in (0, 1):
        coder = head.stages[stage].bbox_coder
        assert coder.weights == tuple((stage + 1) * w for w in (10, 10, 5, 5))
        expected = []
        for rois, delta in zip(seen[stage], deltas[stage], strict=True):
            height, width = samples[int(rois[0])].img_shape
            left, top, right, bottom = coder.decode(rois[1:], delta).tolist()
            left, right = (min(max(x, 0), width) for x in (left, right))
            top, bottom = (min(max(y, 0), height) for y in (top, bottom))
            if right > left and bottom > top:
                expected.append([rois[0], left, top, right, bottom])
        torch.testing.assert_close(seen[stage + 1], torch.tensor(expected))
    # The mean over all RoIs of the stage, including those of other images.
    for stage in range(3):
        wanted = torch.full((len(seen[stage]),), 3)
        for index, rois in enumerate(seen[stage]):
            gt = samples[int(rois[0])].gt_instances
            overlap = [box_iou(rois[1:].tolist(), box.tolist()) for box in gt.bboxes]
            if max(overlap) >= (0.6, 0.7, 0.8)[stage]:
                wanted[index] = gt.labels[overlap.index(max(overlap))]
        assert (wanted < 3).any()
        expected = torch.nn.functional.cross_entropy(logits[stage], wanted)
        torch.testing.assert_close(losses[f's{stage}.loss_cls'], expected)
        share = (logits[stage].argmax(1) == wanted).float().mean() * 100
        torch.testing.assert_close(losses[f's{stage}.acc'], share)


def box_iou(one: list[float], two: list[float]) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    overlap = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return overlap / (sum(areas) - overlap)


@pytest.mark.parametrize('num_stages', [1, 3])
def test_loss__gradient_of_maps_is_divided_by_the_number_of_stages(num_stages):
    head = build(num_stages=num_stages)
    seen = rois_of(head)
    proposals, samples = batch(0)
    feats = maps()
    losses = head.loss(feats, proposals, samples)
    total(losses).backward()
    own = maps()
    # Without objects everything is background, class 3.
    plain = []
    for stage, rois in zip(head.stages, list(seen), strict=True):
        logits, _ = stage(head.bbox_roi_extractor(own, rois))
        wanted = torch.full((len(rois),), 3)
        plain.append(torch.nn.functional.cross_entropy(logits, wanted))
    torch.testing.assert_close(sum(plain), total(losses))
    sum(plain).backward()
    for feat, other in zip(feats, own, strict=True):
        torch.testing.assert_close(feat.grad * num_stages, other.grad)
    assert feats[0].grad.abs().max() > 0


def test_sample__draws_what_the_config_says():
    head = build()
    proposals, samples = batch(3, proposals=2000)
    seen = rois_of(head)
    head.loss(maps(), proposals, samples)
    assert len(seen[0]) == 2 * 512
    first = seen[0].clone()
    torch.manual_seed(0)
    head.loss(maps(), proposals, samples)
    torch.manual_seed(0)
    head.loss(maps(), proposals, samples)
    assert torch.equal(seen[3], seen[6])
    assert not torch.equal(seen[3], first)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('fixed_shape', [False, True])
def test_half_precision__boxes_stay_float32(dtype, fixed_shape):
    """Pool half-precision maps at exact boxes: only the values of the maps are rounded."""
    results = []
    for half in (False, True):
        head = build(fixed_shape=fixed_shape)
        feats = [feat.detach().to(dtype) for feat in maps()]
        if half:
            head.to(dtype)
        else:
            feats = [feat.float() for feat in feats]
        pooled, seen = [], rois_of(head)
        head.bbox_roi_extractor.register_forward_hook(
            lambda *args, pooled=pooled: pooled.append(args[2])
        )
        with torch.no_grad():
            logits, found = head(feats, *batch(3))
        assert {t.dtype for t in (*seen, *pooled, *logits, *found)} == {torch.float32}
        results.append((seen[0], pooled[0], logits[0]))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    # In contrast to boxes and pooled values, logits are rounded.
    assert not torch.equal(results[0][2], results[1][2])
    torch.testing.assert_close(results[0][2], results[1][2], rtol=0.05, atol=0.01)


@pytest.mark.parametrize('fixed_shape', [False, True])
def test_head__no_proposals_are_no_error(fixed_shape):
    head = build(fixed_shape=fixed_shape)
    _, samples = batch(3)
    none = [InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0)) for _ in samples]
    for sample in samples[:1]:
        sample.gt_instances = sample.gt_instances[:0]
    losses = head.loss(maps(), none, samples)
    assert torch.isfinite(total(losses))
    results = head.predict(maps(), none, samples, rescale=True)
    assert [len(result) for result in results] == [0, 0]
    for sample in samples:
        sample.gt_instances = sample.gt_instances[:0]
    losses = head.loss(maps(), none, samples)
    total(losses).backward()
    assert total(losses) == 0


def detect(head: CenterNet2RoIHead, found: list, **meta) -> InstanceData:
    """Detect at given boxes (x1, y1, x2, y2, proposal score); the network predicts class 1."""
    for stage in head.stages:
        torch.nn.init.zeros_(stage.fc_cls.weight)
        torch.nn.init.zeros_(stage.fc_reg.weight)
        stage.fc_cls.bias.data = torch.tensor([0.0, 2.0, 0.0, 0.0])
    found = torch.tensor(found)
    proposals = InstanceData(bboxes=found[:, :4], scores=found[:, 4])
    sample = DetDataSample(metainfo=dict(dict(img_shape=(100, 200)), **meta))
    feats = [feat[:1].detach() for feat in maps()]
    return head.eval().predict(feats, [proposals], [sample], rescale='ori_shape' in meta)[0]


def test_predict__scores_are_roots_of_products():
    found = detect(build(), [[10.0, 10.0, 50.0, 50.0, 0.81]])
    known = math.exp(2) / (math.exp(2) + 3)
    other = 1 / (math.exp(2) + 3)
    assert found.labels.tolist() == [1, 0, 2]
    expected = [math.sqrt(0.81 * chance) for chance in (known, other, other)]
    assert found.scores.tolist() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(found.bboxes, torch.tensor([[10.0, 10.0, 50.0, 50.0]] * 3))


def test_predict__averages_probabilities_and_not_logits():
    head = build()
    found = [[10.0, 10.0, 50.0, 50.0, 1.0]]
    detect(head, found)
    for stage, bias in zip(head.stages, (9.0, 0.0, 0.0), strict=True):
        stage.fc_cls.bias.data[1] = bias
    sample = DetDataSample(metainfo=dict(img_shape=(100, 200)))
    proposals = InstanceData(bboxes=torch.tensor(found)[:, :4], scores=torch.ones(1))
    with torch.no_grad():
        result = head.predict([feat[:1] for feat in maps()], [proposals], [sample])[0]
    chances = [math.exp(bias) / (math.exp(bias) + 3) for bias in (9.0, 0.0, 0.0)]
    assert result.scores[0].item() == pytest.approx(math.sqrt(sum(chances) / 3), rel=1e-6)


def test_predict__suppresses_within_a_class_and_limits_the_number():
    head = build()
    row = [
        [10.0, 10.0, 50.0, 50.0, 0.9],
        [11.0, 10.0, 50.0, 50.0, 0.8],
        [90.0, 10.0, 150.0, 50.0, 0.7],
    ]
    found = detect(head, row)
    assert found.labels.sort().values.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.bboxes[:2, 0].tolist() == [10.0, 90.0]
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)
    head.test_cfg['max_per_img'] = 2
    assert detect(head, row).bboxes[:, 0].tolist() == [10.0, 90.0]
    head.test_cfg.update(max_per_img=-1, score_thr=0.75)
    assert len(detect(head, row)) == 1


def test_predict__boxes_are_clipped_and_dropped_only_when_rescaled():
    rows = [
        [-20.0, 10.0, 50.0, 50.0, 0.9],
        [205.0, 10.0, 220.0, 50.0, 0.8],
        [90.0, 60.0, 150.0, 130.0, 0.7],
    ]
    head = build()
    head.test_cfg['score_thr'] = 0.5
    raw = detect(head, rows)
    expected = [[0, 10, 50, 50], [200, 10, 200, 50], [90, 60, 150, 100]]
    torch.testing.assert_close(raw.bboxes, torch.tensor(expected).float())
    found = detect(head, rows, scale_factor=(2.0, 0.5), ori_shape=(200, 100))
    expected = [[0, 20, 25, 100], [45, 120, 75, 200]]
    torch.testing.assert_close(found.bboxes, torch.tensor(expected).float())
    assert found.scores.tolist() == raw.scores[[0, 2]].tolist()


def test_predict__undoes_the_offset_of_a_view():
    rows = [[30.0, 30.0, 60.0, 60.0, 0.9]]
    meta = dict(scale_factor=(2.0, 2.0), ori_shape=(20, 90), pad_offset=(20.0, 10.0))
    head = build()
    head.test_cfg['score_thr'] = 0.5
    assert detect(head, rows, **meta).bboxes.tolist() == [[5.0, 10.0, 20.0, 20.0]]


def test_build__stages_need_their_numbers():
    with pytest.raises(ValueError, match=r'3 stages need .* delta_weights, got 2'):
        build(delta_weights=[(10, 10, 5, 5)] * 2)
    with pytest.raises(ValueError, match=r'4 stages need .* stage_ious, got 3'):
        build(num_stages=4, delta_weights=[(10, 10, 5, 5)] * 4)


def test_build__weights_start_as_in_the_reference():
    head = build()
    for stage in head.stages:
        for layer, inputs in zip(stage.shared_fcs, (CHANNELS * 49, 16), strict=True):
            bound = math.sqrt(3 / inputs)
            assert 0.8 * bound < layer.weight.abs().max() <= bound
        assert 0.005 < stage.fc_cls.weight.std() < 0.015
        assert 0.0005 < stage.fc_reg.weight.std() < 0.0015
        assert all(p.abs().max() == 0 for n, p in stage.named_parameters() if n.endswith('bias'))


def test_state_dict__one_stage_has_no_index():
    one, three = build(num_stages=1).state_dict(), build().state_dict()
    assert {key.split('.')[1] for key in three} == {'0', '1', '2'}
    assert set(one) == {key.replace('.1.', '.', 1) for key in three if '.1.' in key[:12]}
