# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The outputs in each layout are the detections of the detector."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmface.deploy.export.networks import build_network
from mmface.deploy.export.spec import make_spec
from mmface.models.task_modules.centerface_coder import CenterFaceCoder

SIZE = (64, 96)
SCRFD = 'scrfd/scrfd_500m_bnkps.py'
CENTERFACE = 'centerface/centerface.py'
CODERS = [
    ('centernet', 'cell'),
    ('centernet', 'centre'),
    ('mindspore', 'cell'),
    ('mindspore', 'centre'),
    ('star_clouds', 'cell'),
]


@pytest.fixture(scope='module')
def image():
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def spec_of(model, layout):
    preprocessor = ConfigDict(mean=[0.0] * 3, std=[1.0] * 3)
    cfg = ConfigDict(model=dict(data_preprocessor=preprocessor))
    return make_spec(cfg, model, layout, SIZE, 'keep_ratio')


@torch.no_grad()
def run(model, layout, image, size=SIZE):
    network = build_network(model, spec_of(model, layout), size)
    outputs = network(image)
    assert len(outputs) == len(network.output_names)
    return network, dict(zip(network.output_names, outputs, strict=True))


def cells(size=SIZE, stride=4):
    y, x = torch.meshgrid(
        torch.arange(size[0] // stride), torch.arange(size[1] // stride), indexing='ij'
    )
    return torch.stack([x, y], -1).reshape(-1, 2)


def rows(values):
    """Reshape (C, H, W) to (H * W, C)."""
    return values.flatten(1).T


def test_insightface__rows_are_cells_with_their_priors(detector, image):
    _, model = detector(SCRFD)
    _, maps = run(model, 'raw', image)
    _, found = run(model, 'insightface', image)
    assert list(found) == [f'{kind}_{s}' for kind in ('score', 'bbox', 'kps') for s in (8, 16, 32)]
    for kind, width in (('score', 1), ('bbox', 4), ('kps', 10)):
        for stride in (8, 16, 32):
            height, columns = SIZE[0] // stride, SIZE[1] // stride
            wanted = maps[f'{kind}_{stride}']
            assert wanted.shape == (2, 2 * width, height, columns)
            table = found[f'{kind}_{stride}']
            assert table.shape == (2, height * columns * 2, width)
            # Row 1, column 1, second prior.
            row = (1 * columns + 1) * 2 + 1
            assert torch.equal(table[1, row], wanted[1, width : 2 * width, 1, 1])


@pytest.mark.parametrize('size', [SIZE, None])
def test_scrfd_decoded__is_what_the_head_decodes(detector, image, size):
    _, model = detector(SCRFD)
    _, found = run(model, 'decoded', image, size)
    with torch.no_grad():
        maps = model.bbox_head(model.extract_feat(image))
        metas = [dict(img_shape=SIZE, scale_factor=(1.0, 1.0))] * 2
        wanted = model.bbox_head.predict_by_feat(
            *maps, batch_img_metas=metas, cfg=dict(score_thr=-1), with_nms=False
        )
    clipped = found['boxes'].reshape(2, -1, 2, 2)
    clipped = torch.minimum(clipped.clamp(min=0), torch.tensor([SIZE[1], SIZE[0]])).flatten(2)
    assert (clipped != found['boxes']).any()  # they are not clipped in the file
    for image, truth in enumerate(wanted):
        torch.testing.assert_close(clipped[image], truth.bboxes)
        torch.testing.assert_close(found['scores'][image], truth.scores)
        torch.testing.assert_close(found['keypoints'][image], truth.keypoints[..., :2])


@pytest.mark.parametrize(('convention', 'anchor'), CODERS)
@pytest.mark.parametrize('size', [SIZE, None])
def test_centerface__every_convention_becomes_that_of_the_layout(
    detector, image, convention, anchor, size
):
    model = copy.copy(detector(CENTERFACE)[1])
    model._modules = dict(model._modules, bbox_head=copy.copy(model.bbox_head))
    model.bbox_head.coder = CenterFaceCoder(convention, anchor)
    _, raw = run(model, 'raw', image, size)
    converted, maps = run(model, 'centerface', image, size)
    decoder, boxes = run(model, 'decoded', image, size)
    assert list(maps) == ['output1', 'output2', 'output3', 'output4']
    assert torch.equal(maps['output1'], raw['heatmap'])
    assert converted.spec.keypoint_anchor == decoder.spec.keypoint_anchor
    coder = CenterFaceCoder('centernet', converted.spec.keypoint_anchor)
    for image in range(2):
        values = [rows(raw[name][image]) for name in ('size', 'offset', 'keypoints')]
        truth, points = model.bbox_head.coder.decode(cells(), *values)
        same = [rows(maps[f'output{number}'][image]) for number in (2, 3, 4)]
        found, found_points = coder.decode(cells(), *same)
        torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found_points, points, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(boxes['boxes'][image], truth, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(boxes['keypoints'][image], points, rtol=1e-4, atol=1e-3)


def test_centerface_decoded__keeps_the_scores_of_peaks_alone(detector, image):
    _, model = detector(CENTERFACE)
    _, raw = run(model, 'raw', image)
    _, found = run(model, 'decoded', image)
    wanted = model.bbox_head._candidates(raw['heatmap'], model.bbox_head.test_cfg)
    assert 0 < (wanted > 0).sum() < wanted.numel() / 4
    assert torch.equal(found['scores'], wanted.clamp(min=0))


def test_starclouds__is_raw_with_the_names_of_the_released_file(detector, image):
    _, model = detector('centerface/centerface_starclouds.py')
    network, found = run(model, 'starclouds', image)
    _, raw = run(model, 'raw', image)
    assert network.input_name == 'input.1'
    assert list(found) == ['537', '538', '539', '540']
    for left, right in zip(found.values(), raw.values(), strict=True):
        assert torch.equal(left, right)


def test_without_keypoints__there_are_no_outputs_for_them(detector, image):
    cfg = copy.deepcopy(detector(CENTERFACE)[0])
    cfg.model.bbox_head.num_keypoints = 0
    cfg.model.bbox_head.coder.convention = 'star_clouds'
    model = MODELS.build(cfg.model).eval()
    assert list(run(model, 'centerface', image)[1]) == ['output1', 'output2', 'output3']
    assert list(run(model, 'decoded', image)[1]) == ['boxes', 'scores']
    _, scrfd = detector('scrfd/scrfd_500m.py')
    assert len(run(scrfd, 'insightface', image)[1]) == 6
    assert list(run(scrfd, 'decoded', image)[1]) == ['boxes', 'scores']


def test_model__is_not_changed(detector, image):
    _, model = detector('centerface/centerface_starclouds.py')
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run(model, 'centerface', image)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ('name', 'layout', 'message'),
    [
        (SCRFD, 'centerface', 'SCRFD has no layout .*raw, insightface, decoded'),
        (CENTERFACE, 'insightface', 'CenterFace has no layout'),
        (CENTERFACE, 'starclouds', 'convention star_clouds'),
    ],
)
def test_layout_of_another_model__is_refused(detector, name, layout, message):
    with pytest.raises(ValueError, match=message):
        spec_of(detector(name)[1], layout)
