# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The runtime decodes outputs as the heads do, with which the models are tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from helpers import centerface_head, scrfd_head
from mmface.deploy.model_spec import ModelSpec
from mmface.deploy.runtime.decode import decode
from mmface.deploy.runtime.detections import Detections, to_faces
from mmface.deploy.runtime.letterbox import Placement

SIZE = (320, 384)
TEST_CFG = dict(score_thr=0.02, nms=dict(type='nms', iou_threshold=0.45))
CODER = dict(type='CenterFaceCoder')
PLACEMENTS = [
    Placement((0.5, 0.503), (0.0, 0.0), (320, 250), SIZE),
    Placement((2.0, 2.1), (0.0, 0.0), (201, 384), SIZE),
]
METAS = [dict(img_shape=p.content, scale_factor=p.scale, pad_offset=p.offset) for p in PLACEMENTS]
SCRFD = ModelSpec('scrfd', 'raw', SIZE, (127.5,) * 3, (128.0,) * 3, True)
CENTERFACE = ModelSpec(
    'centerface',
    'raw',
    SIZE,
    (0.0,) * 3,
    (1.0,) * 3,
    True,
    strides=(4,),
    num_priors=1,
    convention='centernet',
    clip=False,
    peak=3,
    topk=200,
    score_thr=0.0,
    nms_iou=0.0,
)


def scrfd_maps(points: int = 5, seed: int = 0) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    grids = [(SIZE[0] // s, SIZE[1] // s) for s in (8, 16, 32)]
    return [
        [mean + torch.randn(2, channels, *grid, generator=generator) for grid in grids]
        for channels, mean in ((2, -4.0), (8, 2.0), (4 * points, 0.0))
        if channels
    ]


def centerface_maps(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    grid = (SIZE[0] // 4, SIZE[1] // 4)
    maps = [torch.randn(2, c, *grid, generator=generator) for c in (1, 2, 2, 10)]
    maps[0] -= 2
    return maps


def in_rows(maps: Sequence[torch.Tensor], channels: int) -> list[np.ndarray]:
    """Convert maps to rows as in the insightface layout."""
    return [m.permute(0, 2, 3, 1).reshape(len(m), -1, channels).numpy() for m in maps]


def assert_equal(found: Sequence[Detections], expected: Sequence[InstanceData]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.scores) == len(theirs) > 5
        np.testing.assert_allclose(ours.bboxes, theirs.bboxes, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)
        if 'keypoints' in theirs:
            np.testing.assert_allclose(
                ours.keypoints, theirs.keypoints[..., :2], rtol=1e-5, atol=1e-4
            )
        else:
            assert ours.keypoints is None


@pytest.mark.parametrize('layout', ['raw', 'insightface'])
@pytest.mark.parametrize('points', [5, 0])
def test_scrfd__equals_the_head(layout, points):
    scores, boxes, *kps = scrfd_maps(points)
    head = scrfd_head(points, test_cfg=dict(TEST_CFG, min_bbox_size=12, max_per_img=150))
    expected = head.predict_by_feat(scores, boxes, kps[0] if kps else [], METAS)
    scores = [score.sigmoid() for score in scores]
    outputs = [m.numpy() for maps in (scores, boxes, *kps) for m in maps]
    if layout == 'insightface':
        outputs = [
            *in_rows(scores, 1),
            *in_rows(boxes, 4),
            *(in_rows(kps[0], 2 * points) if kps else []),
        ]
    spec = replace(SCRFD, layout=layout, num_keypoints=points, min_bbox_size=12)
    assert_equal(decode(outputs, spec, PLACEMENTS, max_per_img=150), expected)


def test_scrfd__reads_one_image_without_a_batch_axis():
    scores, boxes, kps = scrfd_maps()
    outputs = [*in_rows([s.sigmoid() for s in scores], 1), *in_rows(boxes, 4), *in_rows(kps, 10)]
    spec = replace(SCRFD, layout='insightface')
    batched = decode(outputs, spec, PLACEMENTS)[0]
    (single,) = decode([output[0] for output in outputs], spec, PLACEMENTS[:1])
    for found, expected in zip(single, batched, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    'convention, anchor, test_cfg',
    [
        ('centernet', 'cell', dict(peak=3, topk=200)),
        ('centernet', 'centre', dict(peak=3, topk=200, max_per_img=20)),
        ('mindspore', 'cell', dict(peak=3, peak_tolerance=1e-3, topk=50)),
        ('star_clouds', 'cell', dict(score_thr=0.5, nms=dict(iou_threshold=0.3, offset=1))),
        ('star_clouds', 'cell', dict(score_thr=0.5, topk=100)),
    ],
)
def test_centerface__equals_the_head(convention, anchor, test_cfg):
    heat, *others = centerface_maps()
    metas = [dict(meta, pad_offset=(3.5, 7.25)) for meta in METAS]
    placements = [placement._replace(offset=(3.5, 7.25)) for placement in PLACEMENTS]
    head = centerface_head(
        convention,
        coder=dict(CODER, convention=convention, keypoint_anchor=anchor),
        test_cfg=test_cfg,
    )
    expected = head.predict_by_feat(heat, *others, batch_img_metas=metas)
    nms_cfg = test_cfg.get('nms', {})
    spec = replace(
        CENTERFACE,
        convention=convention,
        keypoint_anchor=anchor,
        clip=head.coder.rule.clip,
        peak=test_cfg.get('peak', 1),
        peak_tolerance=test_cfg.get('peak_tolerance', 0.0),
        topk=test_cfg.get('topk', -1),
        score_thr=test_cfg.get('score_thr', 0.0),
        nms_iou=nms_cfg.get('iou_threshold', 0.0),
        nms_offset=nms_cfg.get('offset', 0),
    )
    outputs = [heat.sigmoid().numpy(), *(each.numpy() for each in others)]
    found = decode(outputs, spec, placements, max_per_img=test_cfg.get('max_per_img', -1))
    assert_equal(found, expected)


def test_decoded__moves_a_face_inside_and_cuts_it():
    boxes = np.array([[[-10, 5, 20, 45], [360, 300, 400, 340], [0, 0, 0, 0]]], np.float32)
    points = np.array([[[[0, 10]], [[370, 310]], [[0, 0]]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.0]], np.float32)
    spec = replace(CENTERFACE, layout='decoded', num_keypoints=1)
    placement = Placement((2.0, 2.0), (0.0, 0.0), SIZE, SIZE)
    # A grid of three cells does not exist: use the outputs of the whole input.
    total = SIZE[0] // 4 * SIZE[1] // 4
    outputs = [
        np.pad(each, [(0, 0), (0, total - 3)] + [(0, 0)] * (each.ndim - 2))
        for each in (boxes, scores, points)
    ]
    (free,) = decode(outputs, spec, [placement])
    np.testing.assert_array_equal(free.bboxes, boxes[0, :2] / 2)
    (kept,) = decode(outputs, spec, [placement], clip=True)
    np.testing.assert_array_equal(kept.bboxes, [[0, 2.5, 15, 22.5], [180, 150, 192, 160]])
    np.testing.assert_array_equal(kept.keypoints, [[[5, 5]], [[185, 155]]])
    (one,) = decode(outputs, spec, [placement], topk=1)
    np.testing.assert_array_equal(one.scores, [np.float32(0.9)])


def test_decode__finds_nothing_where_nothing_is():
    total = SIZE[0] * SIZE[1] // 16
    nothing = [np.zeros((2, total, 4)), np.zeros((2, total)), np.zeros((2, total, 5, 2))]
    scores, *others = scrfd_maps()
    for outputs, spec in (
        ([m.numpy() * 0 for maps in (scores, *others) for m in maps], SCRFD),
        (
            [
                rows * 0
                for maps, n in zip(scrfd_maps(), (1, 4, 10), strict=True)
                for rows in in_rows(maps, n)
            ],
            replace(SCRFD, layout='insightface'),
        ),
        ([m.numpy() * 0 for m in centerface_maps()], CENTERFACE),
        ([m.numpy() * 0 for m in centerface_maps()], replace(CENTERFACE, nms_iou=0.3, topk=-1)),
        (nothing, replace(CENTERFACE, layout='decoded', clip=True)),
    ):
        for found in decode(outputs, spec, PLACEMENTS):
            assert (found.bboxes.shape, found.scores.shape) == ((0, 4), (0,))
            assert found.keypoints.shape == (0, 5, 2)
            assert to_faces(found) == []
        assert decode(outputs, spec, []) == []


def test_decode__survives_values_out_of_range():
    heat, *others = (m.numpy() for m in centerface_maps())
    others[0][:] = 1e30
    with np.errstate(all='raise'):
        found = decode([heat, *others], CENTERFACE, PLACEMENTS)
    assert np.isfinite(found[0].bboxes).all()


def test_decode__names_the_output_that_does_not_fit():
    outputs = [m.numpy() for maps in scrfd_maps() for m in maps]
    with pytest.raises(ValueError, match=r'expected 9 outputs \(score_8, .* found 6'):
        decode(outputs[:6], SCRFD, PLACEMENTS)
    wrong = [*outputs[:4], outputs[4][..., :-1], *outputs[5:]]
    with pytest.raises(ValueError, match=r'bbox_16: expected 2 x \(8, 20, 24\) .*320x384'):
        decode(wrong, SCRFD, PLACEMENTS)
    with pytest.raises(ValueError, match='score_8: expected 3 x'):
        decode(outputs, SCRFD, [*PLACEMENTS, PLACEMENTS[0]])
    other = PLACEMENTS[0]._replace(size=(320, 320))
    with pytest.raises(ValueError, match='inputs of the same size'):
        decode(outputs, SCRFD, [PLACEMENTS[0], other])
