# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Views of an image are merged to one result, with boxes and keypoints in image coordinates."""

from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

import mmface.datasets  # noqa: F401
from mmface.models import FaceTTAModel
from mmface.models.task_modules.suppression import suppress

CONFIGS = {
    'scrfd': 'configs/scrfd/scrfd_500m_bnkps.py',
    'scrfd_gn': 'configs/scrfd/scrfd_500m.py',
    'centerface': 'configs/centerface/centerface_small.py',
}
SIZES = [dict(type='FaceResize', scale=(side, side), keep_ratio=True) for side in (96, 128)]
NMS = dict(type='nms', iou_threshold=0.45)
VOTING = dict(type='box_voting', iou_threshold=0.45)
MERGES = [
    NMS,
    VOTING,
    dict(type='soft_nms', method='linear', iou_threshold=0.3),
    dict(type='soft_nms', method='gaussian', sigma=0.5),
]


def build(repo, name, merge, **tta_cfg) -> FaceTTAModel:
    """Build a model with random weights, large enough that scores differ."""
    cfg = Config.fromfile(repo / CONFIGS[name], import_custom_modules=False)
    torch.manual_seed(0)
    cfg.model.test_cfg.update(score_thr=0.0)
    model = MODELS.build(
        ConfigDict(type='FaceTTAModel', tta_cfg=dict(nms=merge, **tta_cfg), module=cfg.model)
    )
    for value in model.parameters():
        if value.dim() > 1:
            torch.nn.init.normal_(value, std=(2.0 / value[0].numel()) ** 0.5)
    return model.eval()


def views_of(repo, image, *, sizes=SIZES, flips=(0.0, 1.0)):
    """Run the project's pipeline with these sizes on an image with one labelled face."""
    cfg = Config.fromfile(repo / 'configs/_base_/tta/face_tta.py')
    cfg.tta_pipeline[1].transforms[0] = [dict(type='RandomFlip', prob=prob) for prob in flips]
    cfg.tta_pipeline[1].transforms[1] = sizes
    pipeline = Compose(copy.deepcopy(cfg.tta_pipeline))
    labels = dict(
        bboxes=np.array([[10, 20, 30, 50]], np.float32),
        keypoints=np.full((1, 5, 3), 25, np.float32),
        ignore_flags=np.zeros(1, bool),
    )
    return pseudo_collate([pipeline(dict(img=image, img_id='e/p.jpg', img_path='p', **labels))])


@pytest.fixture(autouse=True)
def scope():
    """Set the default scope, as every run does; mmcv's TestTimeAug builds its transforms in it."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module')
def image():
    """Return 100 x 150 pixels (height x width) of smooth noise."""
    noise = np.random.default_rng(0).integers(0, 256, (10, 15, 3), np.uint8)
    return cv2.resize(noise, (150, 100), interpolation=cv2.INTER_CUBIC)


def mirrored(found: InstanceData, width: int) -> InstanceData:
    x1, y1, x2, y2 = found.bboxes.unbind(-1)
    result = InstanceData(
        bboxes=torch.stack([width - x2, y1, width - x1, y2], -1),
        scores=found.scores,
        labels=found.labels,
    )
    if 'keypoints' in found:
        points = found.keypoints[:, [1, 0, 2, 4, 3]].clone()
        points[..., 0] = width - points[..., 0]
        result.keypoints = points
    return result


def test_flip__swaps_the_pairs_that_the_sample_names(repo):
    """The data set tells the pairs of keypoints that are not the usual five."""
    model = build(repo, 'scrfd', NMS)
    views = []
    for flip in (False, True):
        view = DetDataSample(metainfo=dict(ori_shape=(50, 100), flip=flip, flip_indices=(1, 0, 2)))
        view.set_metainfo(dict(flip_direction='horizontal' if flip else None))
        x = torch.tensor([20.0, 30, 25])
        points = torch.stack([100 - x[[1, 0, 2]] if flip else x, x, torch.ones(3)], -1)
        box = [70.0, 5, 85, 45] if flip else [15.0, 5, 30, 45]
        view.pred_instances = InstanceData(
            bboxes=torch.tensor([box]),
            scores=torch.tensor([0.9]),
            labels=torch.tensor([0]),
            keypoints=points[None],
        )
        views.append(view)
    alone = [model.merge_preds([[copy.deepcopy(view)]])[0].pred_instances for view in views]
    assert alone[0].keypoints[0, :, 0].tolist() == [20, 30, 25]
    assert alone[1].keypoints[0, :, 0].tolist() == [20, 30, 25]
    assert alone[1].bboxes.tolist() == alone[0].bboxes.tolist()


@torch.no_grad()
@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('merge', MERGES, ids=lambda m: m.get('method', m['type']))
def test_views__of_the_mirrored_image_give_the_mirrored_result(repo, image, name, merge):
    """Flip the image: both have the same views, so the results must be flipped too."""
    model = build(repo, name, merge, max_per_img=20)
    straight = model.test_step(views_of(repo, image))[0].pred_instances
    turned = model.test_step(views_of(repo, image[:, ::-1].copy()))[0].pred_instances
    expected = mirrored(straight, 150)
    assert len(turned) == 20
    assert expected.scores[0] > expected.scores[-1]
    torch.testing.assert_close(turned.scores, expected.scores, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(turned.bboxes, expected.bboxes, rtol=1e-3, atol=0.02)
    assert ('keypoints' in turned) == (name != 'scrfd_gn')
    if 'keypoints' in turned:
        torch.testing.assert_close(turned.keypoints, expected.keypoints, rtol=1e-3, atol=0.05)


@torch.no_grad()
@pytest.mark.parametrize('name', CONFIGS)
def test_one_view__is_the_test_without_augmentation(repo, image, name):
    model = build(repo, name, NMS)
    assert model.module.data_preprocessor.pad_size is None
    data = views_of(repo, image, sizes=SIZES[:1], flips=(0.0,))
    merged = model.test_step(copy.deepcopy(data))[0].pred_instances
    alone = model.module.test_step({key: value[0] for key, value in data.items()})[0]
    expected = suppress(alone.pred_instances, NMS)
    assert torch.equal(merged.bboxes, expected.bboxes)
    assert torch.equal(merged.scores, expected.scores)
    assert len(merged) > 20


@torch.no_grad()
@pytest.mark.parametrize('name', CONFIGS)
def test_view__on_a_canvas_with_an_offset(repo, image, name):
    """Put the image in the middle of a letterbox; every head must subtract the offset."""
    model = build(repo, name, NMS)
    sizes = [dict(type='FaceLetterbox', size=96)]
    data = views_of(repo, image, sizes=sizes, flips=(0.0,))
    merged = model.test_step(copy.deepcopy(data))[0]
    assert merged.pad_offset == (0, 16)
    batch = model.module.data_preprocessor({key: value[0] for key, value in data.items()})
    (found,) = model.module.predict(batch['inputs'], batch['data_samples'], rescale=False)
    inside = suppress(found.pred_instances, NMS)
    expected = (inside.bboxes - torch.tensor([0.0, 16.0, 0.0, 16.0])) / (96 / 150)
    torch.testing.assert_close(merged.pred_instances.bboxes, expected, rtol=1e-3, atol=0.05)
    assert len(expected) > 20


def test_pipeline__views_and_labels(repo, image):
    data = views_of(repo, image)
    assert [tuple(view[0].shape) for view in data['inputs']] == [
        (3, 64, 96), (3, 85, 128), (3, 64, 96), (3, 85, 128)
    ]  # fmt: skip
    samples = [view[0] for view in data['data_samples']]
    assert [sample.flip for sample in samples] == [False, False, True, True]
    assert samples[3].flip_direction == 'horizontal'
    same, turned = (data['inputs'][index][0] for index in (0, 2))
    assert (turned.flip(-1).int() - same.int()).abs().max() <= 1
    for sample in samples:  # in pixels of the image as stored, in every view
        assert sample.gt_instances.bboxes.tolist() == [[10, 20, 30, 50]]
        assert sample.gt_instances.keypoints[0, 0].tolist() == [25, 25, 25]


def views(*changes):
    """Build views of one image of width 150, each with one detection."""
    samples = []
    for change in changes:
        sample = DetDataSample(
            metainfo=dict(
                dict(ori_shape=(100, 150), flip=True, flip_direction='horizontal'), **change
            )
        )
        keypoints = torch.tensor(
            [[[12.0, 25, 1], [28, 26, 1], [20, 30, 1], [14, 40, 1], [27, 41, 1]]]
        )
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([[10.0, 20, 30, 50]]),
            scores=torch.tensor([0.9]),
            labels=torch.tensor([0]),
            keypoints=keypoints,
        )
        samples.append(sample)
    return samples


def test_flip__swaps_left_and_right(repo):
    model = build(repo, 'scrfd', NMS)
    found = model.merge_preds([views({})])[0].pred_instances
    assert found.bboxes.tolist() == [[120, 20, 140, 50]]
    assert found.keypoints[0].tolist() == [
        [122, 26, 1], [138, 25, 1], [130, 30, 1], [123, 41, 1], [136, 40, 1]
    ]  # fmt: skip


def test_merge__weighs_by_score(repo):
    model = build(repo, 'scrfd', VOTING)
    samples = views({}, dict(flip=False, flip_direction=None))
    plain = samples[1].pred_instances
    plain.bboxes = plain.bboxes + torch.tensor([112.0, 0, 112, 0])
    plain.scores = torch.tensor([0.3])
    found = model.merge_preds([samples])[0].pred_instances
    # Mean of 120 and 122 with weights 0.9 and 0.3.
    torch.testing.assert_close(found.bboxes, torch.tensor([[120.5, 20, 140.5, 50]]))
    assert found.scores.tolist() == [pytest.approx(0.9)]


def test_merge__images_are_kept_apart_and_may_be_empty(repo):
    model = build(repo, 'scrfd', NMS)
    empty = views({}, {})
    for sample in empty:
        sample.pred_instances = sample.pred_instances[:0]
    first, second = model.merge_preds([empty, views({}, {})])
    assert first.pred_instances.keypoints.shape == (0, 5, 3)
    assert len(second.pred_instances) == 1


@pytest.mark.parametrize(
    ('change', 'flip_indices', 'message'),
    [
        (dict(flip_direction='vertical'), (1, 0, 2, 4, 3), "horizontal, found 'vertical'"),
        ({}, (1, 0, 2), r'\(1, 0, 2\) do not fit the 5 keypoints'),
    ],
)
def test_merge__refuses(repo, change, flip_indices, message):
    model = build(repo, 'scrfd', NMS)
    model.flip_indices = flip_indices
    with pytest.raises(ValueError, match=message):
        model.merge_preds([views(change)])


@pytest.mark.parametrize('name', ['face_tta', 'centerface_tta'])
def test_files__have_views_of_their_sizes(repo, name):
    cfg = Config.fromfile(repo / f'configs/_base_/tta/{name}.py')
    views = Compose(copy.deepcopy(cfg.tta_pipeline)).transforms[1].subroutines
    sizes = [step['scale'] for step in cfg.tta_sizes]
    assert [view.transforms[1].scale for view in views] == [tuple(size) for size in sizes] * 2
    assert max(sizes)[0] <= 1280
