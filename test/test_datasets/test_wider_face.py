# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The data set: kept, dropped and missing images."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

import mmface.datasets
from mmface.datasets import WiderFaceDataset


def make(root, **kwargs) -> WiderFaceDataset:
    args = dict(
        data_root=str(root), ann_file='train/labelv2.txt', data_prefix=dict(img_path='train/images')
    )
    return WiderFaceDataset(**{**args, **kwargs})


def ids(dataset) -> list[str]:
    return [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]


def test_training__keeps_images_with_a_face_to_learn(tiny_root):
    dataset = make(tiny_root)
    assert ids(dataset) == ['a/1.jpg', 'a/2.jpg']
    item = dataset[0]
    assert item['bboxes'].tolist() == [[10, 10, 50, 60], [1, 1, 9, 9]]
    assert item['keypoints'].shape == (2, 5, 3)
    assert item['keypoints'][:, :, 2].tolist() == [[1] * 5, [0] * 5]
    assert item['ignore_flags'].tolist() == [False, False]
    assert (item['width'], item['height']) == (64, 48)
    assert item['img_path'] == str(tiny_root / 'train/images/a/1.jpg')
    assert dataset[1]['ignore_flags'].tolist() == [False, True]
    assert dataset.metainfo['classes'] == ('face',)
    assert dataset.get_cat_ids(0) == [0, 0]


def test_training__images_without_faces_are_kept_on_request(tiny_root):
    assert ids(make(tiny_root, keep_empty=True)) == [
        'a/1.jpg',
        'a/2.jpg',
        'b/3.jpg',
        'b/4.jpg',
        'b/6.jpg',
    ]
    assert 'b/5.jpg' in ids(make(tiny_root, min_image_side=31))


def test_testing__keeps_everything_in_the_order_of_the_file(tiny_root):
    dataset = make(tiny_root, test_mode=True)
    assert ids(dataset) == [f'a/{i}.jpg' for i in (1, 2)] + [f'b/{i}.jpg' for i in (3, 4, 5, 6)]
    assert [len(dataset[i]['bboxes']) for i in range(6)] == [3, 2, 0, 1, 1, 1]


def test_image_listed_twice__is_one_image_with_the_faces_of_both(tiny_root):
    """As in the converter: otherwise each entry teaches the other's faces as background."""
    labels = tiny_root / 'train/labelv2.txt'
    labels.write_text(labels.read_text() + '\n# a/2.jpg 80 60\n50 10 70 30 0\n20 20 40 40 0\n')
    dataset = make(tiny_root)
    assert ids(dataset) == ['a/1.jpg', 'a/2.jpg']
    assert dataset[1]['bboxes'].tolist() == [[20, 20, 40, 40], [1, 1, 9, 9], [50, 10, 70, 30]]


def test_min_size__small_faces_are_ignored_not_dropped(tiny_root):
    dataset = make(tiny_root, min_size=10)
    assert dataset[0]['ignore_flags'].tolist() == [False, True]


def test_part__restricts_the_images_that_have_to_be_there(tiny_root, tmp_path):
    part = tmp_path / 'part.txt'
    part.write_text('a/2.jpg\n')
    (tiny_root / 'train/images/a/1.jpg').unlink()
    assert ids(make(tiny_root, part=str(part))) == ['a/2.jpg']
    part.write_text('a/2.jpg\na/77.jpg\n')
    with pytest.raises(ValueError, match=r"part.txt: 1 of its images.*'a/77.jpg'"):
        make(tiny_root, part=str(part))


def test_official_labels__sizes_are_unknown(tiny_root):
    rows = 'b/5.jpg\n2\n1 1 9 9 0 0 0 0 0 0\n2 2 9 9 0 0 0 1 0 0\nb/3.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n'
    (tiny_root / 'train/gt.txt').write_text(rows)
    dataset = make(tiny_root, ann_file='train/gt.txt')
    # The image is 31 pixels wide, but the labels do not contain its size.
    assert ids(dataset) == ['b/5.jpg']
    item = dataset[0]
    assert (item['width'], item['height']) == (0, 0)
    assert item['ignore_flags'].tolist() == [False, True]
    assert not item['keypoints'][..., 2].any()


def test_indices_subsets_and_pickling(tiny_root):
    assert ids(make(tiny_root, indices=1)) == ['a/1.jpg']
    dataset = make(tiny_root, test_mode=True)
    assert ids(dataset.get_subset([4, 0])) == ['b/5.jpg', 'a/1.jpg']
    assert ids(pickle.loads(pickle.dumps(dataset))) == ids(dataset)
    unserialized = make(tiny_root, serialize_data=False)
    unserialized[0]['bboxes'][:] = 7
    assert unserialized[0]['bboxes'].tolist() == [[10, 10, 50, 60], [1, 1, 9, 9]]


def test_missing_data__says_what_and_how_to_get_it(tiny_root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'nowhere.*labelv2.txt does not exist.*prepare_widerface'
    ):
        make(tmp_path / 'nowhere')
    with pytest.raises(
        FileNotFoundError, match=r'folder of images .*val/images.*prepare_widerface'
    ):
        make(tiny_root, data_prefix=dict(img_path='val/images'))
    (tiny_root / 'train/images/b/4.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 6 images.*'b/4.jpg'.*prepare_widerface"):
        make(tiny_root)


def test_no_image_left__is_refused(tiny_root):
    with pytest.raises(ValueError, match=r'none of its 6 images is left'):
        make(tiny_root, min_size=1000)


def test_config__runs_both_pipelines(tiny_root, repo, mmdet_scope):
    config = Config.fromfile(repo / 'configs/_base_/datasets/wider_face.py')
    train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
    train.data_root = val.data_root = str(tiny_root)
    val.update(ann_file=train.ann_file, data_prefix=train.data_prefix)

    sample = DATASETS.build(train)[0]
    assert tuple(sample['inputs'].shape) == (3, 640, 640)
    assert str(sample['inputs'].dtype) == 'torch.uint8'
    assert len(sample['data_samples'].gt_instances) >= 1

    sample = DATASETS.build(val)[0]
    assert tuple(sample['inputs'].shape) == (3, 480, 640)
    packed = sample['data_samples']
    # In pixels of the image as stored, unlike img_shape.
    assert packed.gt_instances.bboxes[0].tolist() == [10, 10, 50, 60]
    assert packed.metainfo == dict(
        img_id='a/1.jpg',
        img_path=str(tiny_root / 'train/images/a/1.jpg'),
        ori_shape=(48, 64),
        img_shape=(480, 640),
        scale_factor=(10.0, 10.0),
        flip=False,
        flip_direction=None,
        instances=[
            dict(bbox=[10, 10, 50, 60], bbox_label=0, ignore_flag=0),
            dict(bbox=[1, 1, 9, 9], bbox_label=0, ignore_flag=0),
            dict(bbox=[5, 5, 5, 9], bbox_label=0, ignore_flag=1),
        ],
    )


def test_bbox_clip_border__is_set_on_the_data_set(tiny_root, mmdet_scope):
    crop = dict(type='RandomSquareCrop', crop_choice=[0.5])
    pipeline = [dict(type='LoadFaceImage'), dict(type='LoadFaceAnnotations'), crop]
    sides = {}
    for clip in (True, False):
        dataset = make(tiny_root, pipeline=pipeline, bbox_clip_border=clip)
        np.random.seed(0)
        sides[clip] = np.concatenate([dataset[0]['gt_bboxes'] for _ in range(40)])
    assert sides[True].min() >= 0
    assert sides[True].max() <= 24
    assert sides[False].max() > 24


@pytest.mark.reference
def test_real_part__loads(reference_dir):
    wider = reference_dir / 'data/wider'
    dataset = WiderFaceDataset(
        data_root=str(wider),
        ann_file='annotations/labelv2_train_part.txt',
        data_prefix=dict(img_path='WIDER_train/images'),
    )
    official = WiderFaceDataset(
        data_root=str(wider),
        ann_file='annotations/wider_face_train_bbx_gt_part.txt',
        data_prefix=dict(img_path='WIDER_train/images'),
    )
    assert len(dataset) == 600
    # In some images all faces are marked invalid.
    assert 590 < len(official) <= 600
    assert 'WiderFaceDataset' in mmface.datasets.__all__
