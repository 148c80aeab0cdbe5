# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The data set with JSON labels, in the layouts of the CenterFace projects."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mmface.datasets import WiderFaceDataset
from mmface.datasets.annotations import read_annotations
from mmface.datasets.coco_json import coco_text

LAYOUTS = {
    'chenjun2hao and Ascend': ('annotations/train_wider_face.json', 'image/'),
    'MindSpore': ('annotations/train.json', 'images/train/images/'),
}


@pytest.fixture(params=LAYOUTS)
def layout(request, tiny_root):
    """Return the folder, and the arguments for its training part."""
    labels, images = LAYOUTS[request.param]
    root = tiny_root.parent / 'centerface'
    shutil.copytree(tiny_root / 'train/images', root / images)
    (root / 'annotations').mkdir()
    (root / labels).write_text(coco_text(read_annotations(tiny_root / 'train/labelv2.txt')))
    return root, dict(data_root=str(root), ann_file=labels, data_prefix=dict(img_path=images))


def test_layout__gives_the_same_samples_as_labelv2(layout, tiny_root):
    root, args = layout
    text = WiderFaceDataset(
        data_root=str(tiny_root),
        ann_file='train/labelv2.txt',
        data_prefix=dict(img_path='train/images'),
    )
    dataset = WiderFaceDataset(**args, need_keypoints=True)
    assert len(dataset) == len(text) == 2
    for mine, other in zip(dataset, text, strict=True):
        assert mine['img_id'] == other['img_id']
        assert mine['img_path'] == str(root / args['data_prefix']['img_path'] / mine['img_id'])
        for key in ('bboxes', 'keypoints', 'ignore_flags'):
            np.testing.assert_array_equal(mine[key], other[key])


def test_missing_image__is_named(layout):
    root, args = layout
    (root / args['data_prefix']['img_path'] / 'a/2.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 6 images.*json.*missing.*'a/2.jpg'"):
        WiderFaceDataset(**args)


def edit(root, args, change) -> None:
    path = root / args['ann_file']
    table = json.loads(path.read_text())
    for row in table['annotations']:
        change(row)
    path.write_text(json.dumps(table))


def test_no_keypoints__are_refused_where_they_are_needed(layout):
    root, args = layout
    edit(root, args, lambda row: row.pop('keypoints'))
    assert len(WiderFaceDataset(**args)) == 2
    assert len(WiderFaceDataset(**args, need_keypoints=True, test_mode=True)) == 6
    with pytest.raises(
        ValueError, match=r'json: expected faces with keypoints, found none in 6.*Use labels'
    ):
        WiderFaceDataset(**args, need_keypoints=True)


def test_boxes_outside__are_dropped_and_those_across_the_edge_kept(layout):
    root, args = layout
    places = iter([[60, 40, 30, 30], [-20, 5, 20, 9], [5, 48, 9, 9]])  # of 64 x 48

    def move(row):
        if row['image_id'] == 1:
            row['bbox'] = next(places)

    edit(root, args, move)
    item = WiderFaceDataset(**args)[0]
    assert item['img_id'] == 'a/1.jpg'
    assert item['bboxes'].tolist() == [[60, 40, 90, 70]]
    assert len(item['keypoints']) == len(item['ignore_flags']) == 1
    assert len(WiderFaceDataset(**args, test_mode=True)[0]['bboxes']) == 3
