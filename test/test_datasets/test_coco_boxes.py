# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO boxes: the filter rules of the reference, and clear messages for bad files."""

from __future__ import annotations

import copy
import json
import logging

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger

from mmface.datasets.coco_boxes import CocoBoxDataset

CLASSES = ('cat', 'dog')
EMPTY, ONLY_CROWD, MIXED, ONLY_ZERO, SMALL = range(1, 6)


def _row(number, image, box, category=3, **more):
    return dict(id=number, image_id=image, category_id=category, bbox=box, area=1, **more)


TABLE = {
    'images': [
        dict(id=number, file_name=f'{number}.jpg', width=100, height=80)
        for number in (EMPTY, ONLY_CROWD, MIXED, ONLY_ZERO)
    ]
    + [dict(id=SMALL, file_name='5.jpg', width=20, height=20)],
    'annotations': [
        _row(1, ONLY_CROWD, [10, 10, 50, 50], iscrowd=1),
        _row(2, MIXED, [1.5, 2.5, 20, 30], category=7),
        _row(3, MIXED, [90, 70, 30, 30], iscrowd=0),  # leaves the image
        _row(4, MIXED, [5, 5, 0.5, 0.25]),  # mmdet drops boxes below one pixel
        _row(5, MIXED, [5, 5, 60, 60], iscrowd=1),
        _row(6, MIXED, [5, 5, 0, 9]),
        _row(7, MIXED, [100, 5, 9, 9]),  # outside
        _row(8, MIXED, [5, 5, 1e-6, 9]),
        _row(9, ONLY_ZERO, [5, 5, 9, 0]),
        _row(10, SMALL, [0, 0, 20, 20]),
    ],
    'categories': [dict(id=3, name='cat'), dict(id=7, name='dog')],
}


@pytest.fixture
def table():
    return copy.deepcopy(TABLE)


@pytest.fixture
def build(tmp_path):
    """Return a function that writes a table and its images and builds the data set."""
    (tmp_path / 'images').mkdir()
    for image in TABLE['images']:
        pixels = np.zeros((image['height'], image['width'], 3), np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / image['file_name']), pixels)

    def make(content, classes=CLASSES, filter_empty=True, **kwargs):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / 'labels.json').write_text(text)
        return CocoBoxDataset(
            data_root=str(tmp_path),
            ann_file='labels.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=filter_empty),
            pipeline=[],
            **kwargs,
        )

    return make


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_instance('coco_boxes')
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_training__drops_what_the_reference_drops(build, table, log):
    data = build(table)
    items = [data.get_data_info(i) for i in range(len(data))]
    assert [item['img_id'] for item in items] == [MIXED, SMALL]
    boxes = [(box['bbox'], box['bbox_label'], box['ignore_flag']) for box in items[0]['instances']]
    assert boxes == [
        ([1.5, 2.5, 21.5, 32.5], 1, 0),
        ([90, 70, 100, 80], 0, 0),
        ([5, 5, 5.5, 5.25], 0, 0),
        ([5, 5, 65, 65], 0, 1),
    ]
    assert data.get_cat_ids(0) == [1, 0, 0, 0]
    assert '4 boxes' in log.text
    assert '3 images' in log.text


def test_images_without_boxes__can_be_kept(build, table):
    assert len(build(table, filter_empty=False)) == 5


def test_short_sides__can_be_dropped(build, table, tmp_path):
    data = build(table)
    data.filter_cfg = dict(filter_empty_gt=True, min_size=32)
    data._fully_initialized = False
    data.full_init()
    assert [data.get_data_info(i)['img_id'] for i in range(len(data))] == [MIXED]


def test_testing__keeps_all_images(build, table, log):
    data = build(table, test_mode=True)
    assert [data.get_data_info(i)['img_id'] for i in range(len(data))] == [1, 2, 3, 4, 5]
    assert not log.text


def test_classes__may_be_a_part_of_the_file(build, table):
    data = build(table, classes=('dog',))
    (item,) = (data.get_data_info(i) for i in range(len(data)))
    assert [box['bbox_label'] for box in item['instances']] == [0]


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (('cat', 'fish'), r'found 2 \(cat, dog, ...\), without fish and 0 more'),
        (('dog', 'cat'), 'expected the categories in the order of the classes, dog, cat'),
    ],
)
def test_other_classes__are_refused(build, table, classes, message):
    with pytest.raises(ValueError, match=f'labels.json: .*{message}.*metainfo=dict'):
        build(table, classes=classes)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(category_id=90), 'expected the category_id of one of the 2 categories, found 90'),
        (dict(image_id=77), 'expected the image_id of an image, found 77'),
        (dict(bbox=[1, 2, 3]), r'expected bbox with x, y, w, h, found \[1, 2, 3\]'),
        (dict(bbox=[1, 2, 3, float('nan')]), r'expected bbox with x, y, w, h, found .*nan'),
        (dict(bbox=None), 'expected bbox with x, y, w, h, found None'),
    ],
)
def test_wrong_row__is_named(build, table, change, message):
    table['annotations'][2].update(change)
    with pytest.raises(ValueError, match=rf'labels.json: annotations\[2\] \(id 3\): {message}'):
        build(table)


def test_repeated_id__is_named(build, table):
    table['annotations'][2]['id'] = 1
    with pytest.raises(ValueError, match=r'annotations\[2\]: the id 1'):
        build(table)
    table['images'][1]['id'] = EMPTY
    with pytest.raises(ValueError, match=r'images\[1\]: the id 1'):
        build(table)


def test_missing_entry__is_named(build, table):
    del table['images'][1]['height']
    with pytest.raises(ValueError, match=r'images\[1\]: expected height, found'):
        build(table)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"images": [', 'Expecting value'),
        ('[1, 2]', 'expected COCO JSON'),
        ('{"images": []}', 'with the lists images, annotations and categories'),
        ('{"images": [3]}', r'found images: \[3\]'),
    ],
)
def test_no_coco_json(build, text, message):
    with pytest.raises(ValueError, match=rf'labels\.json: .*{message}'):
        build(text)


def test_missing_files(build, table, tmp_path):
    (tmp_path / 'images/3.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 5 .* first is '3\.jpg'"):
        build(table)
    with pytest.raises(FileNotFoundError, match=r'the label file .*none\.json does not exist'):
        CocoBoxDataset(ann_file=str(tmp_path / 'none.json'))


def test_nothing_left(build, table):
    table['annotations'] = table['annotations'][:1]
    with pytest.raises(ValueError, match='none of its 5 images is left to train on'):
        build(table)
