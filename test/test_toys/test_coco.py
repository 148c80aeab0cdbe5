# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The drawn COCO data set matches its description."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmface.toys.coco import CATEGORIES, CLASSES, make_toy_coco


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp('toy'), num_train=24, num_val=8)


@pytest.fixture(scope='module')
def table(toy):
    return json.loads((toy / 'annotations/instances_train2017.json').read_text())


def _rows(table, index):
    return [row for row in table['annotations'] if row['image_id'] == index + 1]


def test_layout__is_that_of_coco(toy, table):
    assert sorted(path.name for path in toy.iterdir() if path.is_dir()) == [
        'annotations', 'train2017', 'val2017',
    ]  # fmt: skip
    assert len(list((toy / 'val2017').iterdir())) == 8
    for image in table['images']:
        pixels = cv2.imread(str(toy / 'train2017' / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)
    sizes = {(image['width'], image['height']) for image in table['images']}
    assert sizes == {(320, 240), (240, 320)}
    coco = COCO(toy / 'annotations/instances_train2017.json')
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert len({row['id'] for row in table['annotations']}) == len(table['annotations'])


def test_all_classes_and_sizes_are_there(table):
    rows = [row for row in table['annotations'] if not row['iscrowd']]
    assert {row['category_id'] for row in rows} == set(CATEGORIES)
    sides = np.array([row['bbox'][2:] for row in rows]).max(1)
    assert (sides < 8).sum() >= 5
    assert (sides > 64).sum() >= 5
    assert sum(row['iscrowd'] for row in table['annotations']) >= 2


def test_edge_cases(table):
    assert not _rows(table, 1)
    (crowd,) = _rows(table, 2)
    assert crowd['iscrowd'] == 1
    tiny = [row['bbox'] for row in _rows(table, 3)]
    assert len(tiny) >= 8
    assert max(max(w, h) for _, _, w, h in tiny) <= 8
    assert min(min(w, h) for _, _, w, h in tiny) < 1
    (large,) = _rows(table, 4)
    assert max(large['bbox'][2:]) > 200
    assert sum(min(row['bbox'][2:]) == 0 for row in _rows(table, 5)) == 2
    width = table['images'][5]['width']
    assert any(row['bbox'][0] > width for row in _rows(table, 5))


def test_boxes_are_the_extent_of_what_is_seen(tmp_path):
    """Check that the dark outline of a large object reaches all four edges of its box."""
    make_toy_coco(tmp_path, num_train=5, num_val=0, seed=3)
    table = json.loads((tmp_path / 'annotations/instances_train2017.json').read_text())
    (row,) = _rows(table, 4)
    image = cv2.imread(str(tmp_path / 'train2017' / table['images'][4]['file_name']))
    x, y, w, h = (int(v) for v in row['bbox'])
    dark = image[y : y + h, x : x + w].max(axis=2) < 60
    for edge in (dark[:3], dark[-3:], dark[:, :3], dark[:, -3:]):
        assert edge.any()


def test_same_seed_same_set__whatever_the_number(toy, tmp_path):
    again = make_toy_coco(tmp_path, num_train=6, num_val=2)
    for name in ('train2017/000000000001.jpg', 'val2017/000000000002.jpg'):
        assert (again / name).read_bytes() == (toy / name).read_bytes()
    other = make_toy_coco(tmp_path / 'other', num_train=1, num_val=0, seed=1)
    name = 'train2017/000000000001.jpg'
    assert (other / name).read_bytes() != (toy / name).read_bytes()


def test_is_kept__and_finished_if_something_is_missing(tmp_path):
    args = dict(num_train=2, num_val=1, image_size=(64, 64), edge_cases=False)
    make_toy_coco(tmp_path, **args)
    first = tmp_path / 'train2017/000000000001.jpg'
    before = first.stat().st_mtime_ns
    make_toy_coco(tmp_path, **args)
    assert first.stat().st_mtime_ns == before
    first.unlink()
    make_toy_coco(tmp_path, **args)
    assert first.is_file()


def test_refuses(tmp_path):
    with pytest.raises(ValueError, match='at least 64 x 64'):
        make_toy_coco(tmp_path, image_size=(320, 60))
    with pytest.raises(ValueError, match='num_train and num_val must be 0 or more, got -1, 60'):
        make_toy_coco(tmp_path, num_train=-1)
    (tmp_path / 'annotations').mkdir()
    with pytest.raises(ValueError, match='data that this program did not make'):
        make_toy_coco(tmp_path)
