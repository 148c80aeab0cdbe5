# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""COCO-style JSON: reading, writing, and the messages for bad files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmface.datasets.annotations import read_annotations
from mmface.datasets.coco_json import coco_text, parse_coco
from mmface.datasets.face_annotation import choose_classes

POINTS = [11, 12, 2, 13, 14, 1, 0, 0, 0, 17, 18, 2, 19, 20, 0.5]


def face(image=1, **kwargs) -> dict:
    row = dict(id=7, image_id=image, category_id=1, bbox=[1.5, 2, 30, 40], keypoints=POINTS)
    return {**row, **kwargs}


def table(*rows, **kwargs) -> dict:
    images = [
        dict(id=5, file_name='a/2.jpg', width=64, height=48),
        dict(id=1, file_name='b/1.jpg'),
        dict(id='x', file_name='b/3.jpg', width=8, height=9),
    ]
    return {'images': images, 'annotations': list(rows), **kwargs}


def read(content):
    return parse_coco('some.json', json.dumps(content)).images


def test_read__order_sizes_boxes_and_keypoints():
    second = face(1, bbox=[0, 0, 9, 9], keypoints=[0] * 15, iscrowd=0)
    images = read(table(face(1), face('x'), second))
    assert [image[:3] for image in images] == [
        ('a/2.jpg', 64, 48),
        ('b/1.jpg', 0, 0),
        ('b/3.jpg', 8, 9),
    ]
    assert [len(image.bboxes) for image in images] == [0, 2, 1]
    assert images[1].bboxes.tolist() == [[1.5, 2, 31.5, 42], [0, 0, 9, 9]]
    assert images[1].keypoints[0].tolist() == [
        [11, 12, 1],
        [13, 14, 1],
        [-1, -1, 0],
        [17, 18, 1],
        [19, 20, 1],
    ]
    assert images[1].keypoints[1].tolist() == [[-1, -1, 0]] * 5
    assert images[0].keypoints.shape == (0, 5, 3)
    assert images[1].bboxes.dtype == images[1].keypoints.dtype == np.float32


def test_read__faces_to_ignore():
    (_, image, _) = read(table(face(), face(iscrowd=1), face(ignore=1), face(ignore=0)))
    assert image.ignore.tolist() == [False, True, True, False]


@pytest.mark.parametrize('missing', [{}, {'keypoints': None}, {'keypoints': []}])
def test_read__faces_without_keypoints(missing):
    row = {key: value for key, value in face().items() if key != 'keypoints'}
    (_, image, _) = read(table(face(), {**row, **missing}))
    assert image.keypoints[1].tolist() == [[-1, -1, 0]] * 5
    # Without a single keypoint there are none.
    (_, image, _) = read(table({**row, **missing}))
    assert image.keypoints.shape == (1, 0, 3)


def test_read__boxes_are_taken_as_they_are():
    bboxes = [[-5, -6, 20, 20], [60, 40, 99, 99], [3, 3, 0, 5], [9, 9, -2, 4]]
    (image, _, _) = read(table(*(face(5, bbox=bbox) for bbox in bboxes)))
    assert image.bboxes.tolist() == [
        [-5, -6, 15, 14],
        [60, 40, 159, 139],
        [3, 3, 3, 8],
        [9, 9, 7, 13],
    ]
    assert image.has_area.tolist() == [True, True, False, False]


def test_read__categories_are_classes():
    categories = [dict(id=3, name='Face'), dict(id=1, name='person')]
    rows = face(category_id=3), face(category_id=1)
    found = parse_coco('some.json', json.dumps(table(*rows, categories=categories)))
    assert found.classes == ('Face', 'person')
    assert found.images[1].labels.tolist() == [0, 1]
    chosen = choose_classes(found, 'some.json', ['person'])
    assert chosen.images[1].labels.tolist() == [0]
    assert chosen.notes[-1] == "some.json: boxes of other classes left out: 1 of 'Face'"
    with pytest.raises(ValueError, match=r"no class is named 'plate'.*Face, person"):
        choose_classes(found, 'some.json', ['plate'])


def test_auto__goes_by_the_name_or_the_first_character(tmp_path):
    for name in ('train.json', 'labels.txt'):
        (tmp_path / name).write_text('\ufeff\n ' + json.dumps(table(face())), encoding='utf-8')
        assert len(read_annotations(tmp_path / name).images[1].bboxes) == 1


BAD = {
    'four points': (
        table(face(), face(keypoints=[1] * 12)),
        r'annotations\[1\] \(id 7\).*15 num.*12',
    ),
    'other count': (table(face(), face(keypoints=[1] * 51)), r'15 numbers, found 51 values'),
    'points of words': (table(face(keypoints=['x'] * 15)), r'annotations\[0\].*15 numbers'),
    'huge number': (table(face(bbox=[1, 2, 3, 10**400])), r'annotations\[0\].*bbox with x, y'),
    'nested point': (table(face(keypoints=[[1]] + [1] * 14)), r'annotations\[0\].*15 numbers'),
    'points are no list': (table(face(keypoints='no')), r"0 numbers, found 'no'"),
    'no box': (table({'image_id': 1}), r'annotations\[0\]: expected bbox.*found None'),
    'box of three': (table(face(bbox=[1, 2, 3])), r'bbox with x, y, w, h, found 3 values'),
    'box with null': (table(face(bbox=[1, 2, 3, None])), r'bbox with x, y, w, h, found \[1, 2, 3'),
    'box with nan': (table(face(bbox=[1, 2, float('nan'), 4])), r'bbox .* found .*nan'),
    'infinite point': (table(face(keypoints=[float('inf')] * 15)), r'15 numbers, found .*inf'),
    'unknown image': (table(face(12)), r'image_id of an image, found 12'),
    'no image': (table({'id': 4, 'bbox': [1, 2, 3, 4]}), r'\(id 4\).*image_id.*found None'),
    'list as image': (table(face([1])), r'image_id of an image, found \[1\]'),
    'row is no dict': (table(17), r'annotations\[0\]: expected the image_id.*found 17'),
    'other category': (table(face(category_id=2)), r'category_id of 1, found 2'),
    'strange categories': (table(face(), categories=['face']), r"ids and names.*found \['face'\]"),
    'same name twice': (
        table(face(), categories=[dict(id=1, name='a'), dict(id=2, name='a')]),
        r'different ids and names',
    ),
    'image without id': (
        table(images=[dict(file_name='a/1.jpg')]),
        r'images\[0\].*an image with id',
    ),
    'image without name': (table(images=[dict(id=1)]), r'images\[0\].*an image with id, file_name'),
    'image is no dict': (table(images=['a.jpg']), r'images\[0\].*an image with id'),
    'size in words': (
        table(images=[dict(id=1, file_name='a/1.jpg', width='wide')]),
        r'images\[0\].*an image with id',
    ),
    'id twice': (table(images=[dict(id=1, file_name='a')] * 2), r'images\[1\] \(id 1\)'),
    'no lists': ({'images': {}, 'annotations': []}, r"found the keys \['images', 'annotations'\]"),
    'other root': ([1, 2], r'found list'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_file__is_refused_with_file_and_entry(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_annotations(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert '\n' not in text
    assert 'convert_labels' in text or 'another' in text or 'Use a file' in text


def test_bad_file__truncated(tmp_path):
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(table(face()))[:-30])
    with pytest.raises(ValueError, match=r'train.json.*line 1 column.*convert_labels'):
        read_annotations(path)
    path.write_text('')
    with pytest.raises(ValueError, match='is empty'):
        read_annotations(path)


def test_write__reading_gives_the_same_numbers(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(400):
        x1, y1, w, h = rng.uniform(0.1, 900, 4)
        points = ' '.join(f'{v:.3f}' for v in rng.uniform(0, 900, 15))
        rows.append(f'{x1:.4f} {y1:.5f} {x1 + w:.3f} {y1 + h:.2f} {points}')
    lines = ['# a/1.jpg 1024 900', *rows, '1 2 3 4 1', '# a/no face.jpg 5 6', '# b/ü.jpg 7 8']
    (tmp_path / 'labelv2.txt').write_text('\n'.join(lines))
    before = read_annotations(tmp_path / 'labelv2.txt')
    text = coco_text(before)
    after = parse_coco('x', text).images
    assert len(after) == 3
    for old, new in zip(before.images, after, strict=True):
        assert old[:3] == new[:3]
        for left, right in zip(old[3:], new[3:], strict=True):
            np.testing.assert_array_equal(left, right)


def test_write__is_what_pycocotools_and_the_references_read(tmp_path):
    from pycocotools.coco import COCO

    rows = '1.1 2 11.1 22.5 ' + ' '.join(['3.3 4.4 1'] * 4) + ' -1 -1 -1'
    (tmp_path / 'labelv2.txt').write_text(f'# a/1.jpg 64 48\n{rows}\n5 5 9 9 1\n')
    path = tmp_path / 'train.json'
    path.write_text(coco_text(read_annotations(tmp_path / 'labelv2.txt')))
    coco = COCO(str(path))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image['file_name'], image['width'], image['height']) == ('a/1.jpg', 64, 48)
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=[image['id']]))
    assert first['bbox'] == [1.1, 2.0, 10.0, 20.5]
    assert first['keypoints'] == [3.3, 4.4, 2] * 4 + [0, 0, 0]
    assert (first['num_keypoints'], first['category_id'], first['iscrowd']) == (4, 1, 0)
    assert first['area'] == 205
    assert 'ignore' not in first
    assert second['keypoints'] == [0] * 15
    assert second['ignore'] == 1
    (category,) = coco.loadCats(coco.getCatIds())
    assert category['name'] == 'face'
    assert category['keypoints'] == ['left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth']


def test_read__as_many_faces_as_the_real_training_set():
    """`benchmark.py import` compares the time with reading the JSON alone."""
    rng = np.random.default_rng(0)
    images = [dict(id=k, file_name=f'{k % 61}/{k}.jpg', width=9, height=9) for k in range(12880)]
    values = rng.uniform(1, 500, (500, 19)).round(3).tolist()
    rows = [
        dict(
            id=k,
            image_id=k % 12880,
            category_id=1,
            bbox=values[k % 500][:4],
            keypoints=values[k % 500][4:],
        )
        for k in range(159_000)
    ]
    text = json.dumps(dict(images=images, annotations=rows))
    entries = parse_coco('x', text).images
    assert sum(len(entry.bboxes) for entry in entries) == 159_000


@pytest.mark.reference
def test_real_labels__survive_the_way_to_json(reference_dir):
    folder = reference_dir / 'data/wider/annotations'
    for name in ('labelv2_train_part.txt', 'wider_face_train_bbx_gt_part.txt'):
        before = read_annotations(folder / name)
        after = parse_coco(name, coco_text(before)).images
        assert len(before.images) == len(after)
        for old, new in zip(before.images, after, strict=True):
            assert old[:3] == new[:3]
            for left, right in zip(old[3:], new[3:], strict=True):
                np.testing.assert_array_equal(left, right)
