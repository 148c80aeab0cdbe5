# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace's whole augmentation, with the numbers of both references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch.utils.data import DataLoader

from mmface.datasets.samplers import EpochIndexSampler
from mmface.utils.epoch_index import EpochIndex

MINDSPORE = [
    dict(anchors=[*range(16, 89, 8), 96, 128, 256, 512], max_choices=11, min_keypoint_area=8),
    dict(size=512, crop_choice=np.arange(0.6, 1.0, 0.05).tolist()),
]


def make(repo, root, kind='chenjun2hao', **kwargs):
    train = Config.fromfile(
        repo / 'configs/_base_/datasets/wider_face_centerface.py'
    ).train_dataloader.dataset
    train.update(data_root=str(root), **kwargs)
    if kind == 'mindspore':
        for step, change in zip(train.pipeline[3:5], MINDSPORE, strict=True):
            step.update(change)
    return DATASETS.build(train)


def assert_same(left, right):
    assert torch.equal(left['inputs'], right['inputs'])
    mine, other = (sample['data_samples'].gt_instances for sample in (left, right))
    for key in ('bboxes', 'labels', 'keypoints'):
        np.testing.assert_array_equal(mine[key], other[key])


@pytest.mark.parametrize(('kind', 'size'), [('chenjun2hao', 800), ('mindspore', 512)])
def test_samples__bytes_of_a_square_and_labels_inside(repo, toy, mmdet_scope, kind, size):
    dataset = make(repo, toy, kind)
    assert len(dataset) == 12
    faces = keypoints = 0
    for index in range(8):
        for epoch in range(3):
            sample = dataset[EpochIndex(index, epoch, 0)]
            assert sample['inputs'].dtype == torch.uint8
            assert tuple(sample['inputs'].shape) == (3, size, size)
            found = sample['data_samples'].gt_instances
            assert (found.bboxes[:, 2:] > 0).all()
            assert (found.bboxes[:, :2] < size).all()
            assert found.keypoints.shape == (len(found), 5, 3)
            faces += len(found)
            keypoints += int(found.keypoints[..., 2].sum())
    assert faces > 12
    assert keypoints > 20


def test_samples__depend_on_seed_epoch_and_index_alone(repo, toy, mmdet_scope):
    dataset = make(repo, toy)
    first = {}
    for seed, epoch, index in ((0, 0, 2), (1, 0, 2), (0, 1, 2), (0, 0, 3)):
        first[seed, epoch, index] = dataset[EpochIndex(index, epoch, seed)]
    np.random.seed(99)
    for (seed, epoch, index), sample in reversed(first.items()):
        assert_same(sample, dataset[EpochIndex(index, epoch, seed)])
    images = [sample['inputs'] for sample in first.values()]
    assert not any(torch.equal(images[0], other) for other in images[1:])


def test_samples__do_not_depend_on_the_number_of_workers(repo, toy, mmdet_scope):
    dataset = make(repo, toy)
    sampler = EpochIndexSampler(dataset, seed=5)
    sampler.set_epoch(1)
    runs = []
    for workers in (0, 1, 2):
        loader = DataLoader(dataset, 1, sampler=sampler, num_workers=workers, collate_fn=list)
        runs.append([batch[0] for batch in loader])
    for run in runs[1:]:
        for left, right in zip(runs[0], run, strict=True):
            assert_same(left, right)


@pytest.mark.parametrize('serialize_data', [True, False])
def test_labels__are_the_same_after_any_number_of_epochs(repo, toy, mmdet_scope, serialize_data):
    dataset = make(repo, toy, serialize_data=serialize_data)
    keys = ('bboxes', 'keypoints', 'ignore_flags')
    before = [{k: dataset.get_data_info(i)[k].copy() for k in keys} for i in range(8)]
    for epoch in range(3):
        for index in range(8):
            dataset[EpochIndex(index, epoch, 0)]
    for index, labels in enumerate(before):
        for key, value in labels.items():
            np.testing.assert_array_equal(dataset.get_data_info(index)[key], value)


def test_images_without_faces__pass(repo, toy, tmp_path, mmdet_scope):
    path = toy / 'train/labelv2.txt'
    heads = [line for line in path.read_text().splitlines() if line.startswith('#')]
    (tmp_path / 'empty.txt').write_text('\n'.join(heads))
    kwargs = dict(ann_file=str(tmp_path / 'empty.txt'), keep_empty=True, ann_format='labelv2')
    with pytest.raises(ValueError, match='need_keypoints'):
        make(repo, toy, **kwargs)
    sample = make(repo, toy, **kwargs, need_keypoints=False)[EpochIndex(0, 0, 0)]
    found = sample['data_samples'].gt_instances
    assert found.bboxes.shape == (0, 4)
    assert found.keypoints.shape == (0, 5, 3)
    assert sample['inputs'].any()


@pytest.mark.reference
@pytest.mark.parametrize('kind', ['chenjun2hao', 'mindspore'])
def test_real_faces__are_where_their_labels_are(repo, reference_dir, mmdet_scope, kind):
    """Colours match those of the same face cropped from the image as stored."""
    import cv2

    dataset = make(
        repo,
        reference_dir / 'data/wider',
        kind,
        ann_file='annotations/labelv2_train_part.txt',
        data_prefix=dict(img_path='WIDER_train/images'),
    )
    assert len(dataset) == 600
    related = []
    for index in range(0, 600, 20):
        sample = dataset[EpochIndex(index, 0, 0)]
        info = dataset.get_data_info(index)
        if len(info['bboxes']) != 1 or not len(sample['data_samples'].gt_instances):
            continue
        box = sample['data_samples'].gt_instances.bboxes[0].round().astype(int)
        origin = info['bboxes'][0].round().astype(int)
        img = np.ascontiguousarray(sample['inputs'].permute(1, 2, 0).numpy())
        if (box[:2] < 0).any() or (box[2:] > img.shape[0]).any():
            continue
        parts = []
        for source, (x1, y1, x2, y2) in ((img, box), (cv2.imread(info['img_path']), origin)):
            grey = cv2.cvtColor(source[y1:y2, x1:x2], cv2.COLOR_BGR2GRAY)
            parts.append(cv2.resize(grey, (12, 12), interpolation=cv2.INTER_AREA).astype(float))
        if sample['data_samples'].flip:
            parts[0] = parts[0][:, ::-1]
        related.append(np.corrcoef(parts[0].ravel(), parts[1].ravel())[0, 1])
    assert len(related) >= 5
    assert np.median(related) > 0.9
