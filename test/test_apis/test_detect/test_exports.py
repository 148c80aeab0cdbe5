# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tables and labels from the results: mmface's own readers read them back."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mmface.apis.detect.exports import (
    link_image,
    to_labels,
    write_coco,
    write_labelme,
    write_yolo,
)
from mmface.apis.detect.records import Record, write_csv
from mmface.datasets.annotations import read_annotations
from mmface.utils.images import write_image
from mmface.utils.sources import Source

FACE = {
    'bbox': [10.25, 20.5, 40.75, 60.0],
    'score': 0.9,
    'keypoints': [[15.5, 30.25], [30, 30], [22, 40], [17, 50], [28, 50]],
}
BEYOND = {
    'bbox': [-5.0, 50.0, 20.0, 95.0],
    'score': 0.5,
    'keypoints': [[-1, 60], [10, 60], [5, 70], [3, 85], [9, 75]],
}
OUTSIDE = {'bbox': [-30.0, 0, -10.0, 20.0], 'score': 0.4, 'keypoints': [[-20.0, 5.0]] * 5}


@pytest.fixture
def records(tmp_path):
    """Return the results of two images, one with faces beyond its border, one without faces."""
    made = []
    for name, faces in (('a.jpg', [FACE, BEYOND, OUTSIDE]), ('sub/b.png', [])):
        path = tmp_path / 'photos' / name
        write_image(path, np.zeros((80, 64, 3), np.uint8))
        found = {'image': name, 'width': 64, 'height': 80, 'faces': faces}
        made.append(Record(Source(path, Path('photos', name)), found))
    return made


def _check(labels, prefix='photos/'):
    first, second = labels.images
    assert [entry.path for entry in labels.images] == [f'{prefix}a.jpg', f'{prefix}sub/b.png']
    assert {(entry.width, entry.height) for entry in labels.images} == {(64, 80)}
    expected = [FACE['bbox'], [0, 50, 20, 80]]
    np.testing.assert_allclose(first.bboxes, expected, atol=1e-4)
    assert len(second.bboxes) == 0
    assert labels.classes == ('face',)
    assert labels.keypoints.names == (
        *('left_eye', 'right_eye', 'nose', 'left_mouth', 'right_mouth'),
    )
    np.testing.assert_allclose(first.keypoints[0, :, :2], FACE['keypoints'], atol=1e-4)
    assert first.keypoints[..., 2].tolist() == [[1] * 5, [0, 1, 1, 0, 1]]


def test_to_labels__cut_at_the_border(records):
    _check(to_labels(records))


def test_write_coco__read_back(records, tmp_path):
    write_coco(tmp_path / 'faces.json', to_labels(records), records)
    _check(read_annotations(tmp_path / 'faces.json'))


def test_write_yolo__read_back(records, tmp_path):
    files = [record.source.path for record in records]
    write_yolo(tmp_path / 'yolo', to_labels(records), files)
    _check(read_annotations(tmp_path / 'yolo'))
    rows = (tmp_path / 'yolo/labels/photos/a.txt').read_text().split()
    assert all(0 <= float(cell) <= 2 for cell in rows)


def test_write_labelme__read_back(records, tmp_path):
    files = [record.source.path for record in records]
    write_labelme(tmp_path / 'labelme', to_labels(records), files)
    _check(read_annotations(tmp_path / 'labelme'))
    assert (tmp_path / 'labelme/photos/a.jpg').resolve() == files[0]


def test_writers__refuse_two_images_that_share_a_label_file(records, tmp_path):
    twice = [records[0], Record(records[1].source._replace(name=Path('photos/a.png')), {})]
    twice[1] = twice[1]._replace(found=records[1].found)
    files = [record.source.path for record in twice]
    for write in (write_yolo, write_labelme):
        with pytest.raises(
            ValueError, match=r'a\.jpg and photos/a\.png would have the same labels'
        ):
            write(tmp_path / 'out', to_labels(twice), files)


def test_write_csv__images_and_frames(records, tmp_path):
    frame = {
        'frame': 3,
        'seconds': 0.12,
        'width': 64,
        'height': 80,
        'faces': [{**FACE, 'track': 7}],
    }
    video = Record(Source(Path('clip.mp4'), Path('clip.mp4'), 'video'), frame)
    write_csv(tmp_path / 'faces.csv', [*records, video])
    with (tmp_path / 'faces.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['file'] for row in rows] == [*['photos/a.jpg'] * 3, 'clip.mp4']
    assert [rows[0][key] for key in ('x1', 'y1', 'x2', 'y2', 'score')] == [
        *('10.25', '20.5', '40.75', '60.0', '0.9'),
    ]
    assert (rows[0]['frame'], rows[3]['frame'], rows[3]['track']) == ('', '3', '7')
    assert [float(value) for value in rows[0]['keypoints'].split()][:2] == [15.5, 30.25]


def test_link_image__never_over_a_file(tmp_path):
    (tmp_path / 'a.jpg').write_text('image')
    link_image(tmp_path / 'sub/a.jpg', tmp_path / 'a.jpg')
    link_image(tmp_path / 'sub/a.jpg', tmp_path / 'a.jpg')
    assert (tmp_path / 'sub/a.jpg').read_text() == 'image'
    with pytest.raises(ValueError, match='is a file, expected a link'):
        link_image(tmp_path / 'a.jpg', tmp_path / 'sub/a.jpg')


def test_to_labels__classes_and_other_keypoints(records):
    faces = [
        {**FACE, 'class': name, 'keypoints': [[12, 30], [20, 40]]} for name in ('mask', 'bare')
    ]
    (record, _) = records
    labels = to_labels([record._replace(found={**record.found, 'faces': faces})])
    assert labels.classes == ('bare', 'mask')
    assert labels.images[0].labels.tolist() == [1, 0]
    assert (labels.keypoints.names, labels.keypoints.flip_indices) == ((), (0, 1))


def test_to_labels__no_keypoints(records, tmp_path):
    (record, _) = records
    plain = record._replace(found={**record.found, 'faces': [{**FACE, 'keypoints': None}]})
    labels = to_labels([plain])
    assert labels.images[0].keypoints.shape == (1, 0, 3)
    write_yolo(tmp_path / 'yolo', labels, [record.source.path])
    assert len((tmp_path / 'yolo/labels/photos/a.txt').read_text().split()) == 5
    assert 'kpt_shape' not in (tmp_path / 'yolo/data.yaml').read_text()
    write_labelme(tmp_path / 'labelme', labels, [record.source.path])
    shapes = json.loads((tmp_path / 'labelme/photos/a.json').read_text())['shapes']
    assert [shape['shape_type'] for shape in shapes] == ['rectangle']
