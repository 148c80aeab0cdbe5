# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Conventions of the formats with one file for each image."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from mmface.datasets.annotations import read_annotations
from mmface.datasets.voc_labels import parse as parse_voc
from mmface.structures import FIVE_KEYPOINTS

ROW = '0 0.5 0.5 0.25 0.5'


@pytest.fixture
def photo(tmp_path):
    def photo(name, width=64, height=48):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.zeros((height, width, 3), np.uint8))

    return photo


def put(root, name, content):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ('labels', 'images'),
    [
        ('set/labels/train', 'set/images/train'),
        ('set/train/labels', 'set/train/images'),
        ('set', 'set'),
    ],
)
def test_yolo__finds_images_and_names(tmp_path, photo, labels, images):
    photo(f'{images}/x/a.png')
    photo(f'{images}/b.jpg', 100, 50)
    put(tmp_path, f'{labels}/x/a.txt', f'{ROW}\n\n1 0 0 0.5 0.5\n')
    put(tmp_path, 'set/data.yaml', 'train: ../train\nnames: [yes, "no"]\nnc: 2\n')
    put(tmp_path, 'set/README.dataset.txt', 'not labels')
    found = read_annotations(tmp_path / labels)
    # YAML itself would read the name yes as True.
    assert found.classes == ('yes', 'no')
    assert len(found.keypoints) == 0
    empty, image = found.images
    assert (empty.path, empty.width, empty.height, len(empty.bboxes)) == ('b.jpg', 100, 50, 0)
    assert image.path == 'x/a.png'
    assert image.bboxes.tolist() == [[24, 12, 40, 36], [-16, -12, 16, 12]]
    assert image.labels.tolist() == [0, 1]


def test_yolo__five_points_with_and_without_flags(tmp_path, photo):
    photo('a.jpg')
    photo('b.jpg')
    points = [(0.45, 0.4), (0.55, 0.4), (-1, -1), (0.45, 0.6), (0.55, 0.6)]
    put(tmp_path, 'a.txt', f'{ROW} ' + ' '.join(f'{x} {y}' for x, y in points))
    (image, _) = read_annotations(tmp_path).images
    assert image.keypoints[0, :, 2].tolist() == [1, 1, 0, 1, 1]
    np.testing.assert_allclose(image.keypoints[0, 0], [28.8, 19.2, 1], rtol=1e-6)
    put(tmp_path, 'a.txt', f'{ROW} ' + ' '.join(f'{x} {y} {2 * (x > 0)}' for x, y in points))
    (again, _) = read_annotations(tmp_path).images
    np.testing.assert_array_equal(again.keypoints, image.keypoints)
    put(tmp_path, 'b.txt', f'{ROW} ' + ' '.join(f'{x} {y}' for x, y in points))
    with pytest.raises(ValueError, match=r'b\.txt, line 1.*15 numbers, but other keypoints in .*a'):
        read_annotations(tmp_path)


@pytest.mark.parametrize(
    ('extra', 'names', 'flip'),
    [
        ('flip_idx: [1, 0, 2]', (), (1, 0, 2)),
        ('kpt_names: {0: [ear_r, ear_l, chin]}', ('ear_r', 'ear_l', 'chin'), (1, 0, 2)),
    ],
)
def test_yolo__keypoints_of_data_yaml(tmp_path, photo, extra, names, flip):
    photo('a.jpg')
    put(tmp_path, 'data.yaml', f'names: [face]\nkpt_shape: [3, 2]\n{extra}\n')
    put(tmp_path, 'a.txt', f'{ROW} 0.5 0.5 0.4 0.5 0.5 0.6\n{ROW}')
    found = read_annotations(tmp_path)
    assert (found.keypoints.names, found.keypoints.flip_indices) == (names, flip)
    assert found.images[0].keypoints[0, 2].tolist() == pytest.approx([32, 28.8, 1])
    assert not found.images[0].keypoints[1, :, 2].any()
    assert found.notes == ()


@pytest.mark.parametrize(
    'text',
    ['names: 3', 'names: {0: a, 2: b}', 'names: [a\n',
     'kpt_shape: [5]', 'kpt_shape: [5, 4]', '- a', '[' * 20000,
     'kpt_shape: [3, 3]\nflip_idx: [0, 0, 1]', 'kpt_shape: [3, 3]\nflip_idx: [1, 0]', '\t'],
)  # fmt: skip
def test_yolo__strange_data_yaml(tmp_path, photo, text):
    photo('a.jpg')
    put(tmp_path, 'a.txt', ROW)
    put(tmp_path, 'data.yaml', text)
    with pytest.raises(ValueError, match=r'data\.yaml: expected names'):
        read_annotations(tmp_path)


def test_yolo__a_list_of_classes(tmp_path, photo):
    photo('a.jpg')
    put(tmp_path, 'a.txt', '1 0.5 0.5 0.25 0.5')
    put(tmp_path, 'classes.txt', 'hat\nface\n')
    found = read_annotations(tmp_path, classes=['face'])
    assert found.classes == ('face',)
    assert found.images[0].labels.tolist() == [0]


def shape(kind, label, *points, group=None):
    return dict(shape_type=kind, label=label, points=list(points), group_id=group)


def labelme(*shapes, name='a.jpg'):
    return dict(imagePath=name, imageWidth=64, imageHeight=48, shapes=list(shapes))


def test_labelme__points_without_a_group_belong_to_the_box_around_them(tmp_path):
    left = shape('rectangle', 'face', [20, 20], [2, 1])
    right = shape('polygon', 'face', [15, 15], [40, 12], [30, 40])
    points = [shape('point', 'nose', [5, 5]), shape('point', 'left_eye', [17, 17])]
    put(tmp_path, 'a.json', labelme(left, right, *points))
    found = read_annotations(tmp_path / 'a.json')
    assert found.keypoints is FIVE_KEYPOINTS
    (image,) = found.images
    assert image.bboxes.tolist() == [[2, 1, 20, 20], [15, 12, 40, 40]]
    assert image.keypoints[0].tolist() == [[-1, -1, 0]] * 2 + [[5, 5, 1]] + [[-1, -1, 0]] * 2
    assert not image.keypoints[1, :, 2].any()
    # The eye is inside of both boxes.
    assert '1 points belong to no box' in found.notes[0]


def test_labelme__names_of_images_and_classes_of_a_folder(tmp_path):
    box = [[1, 2], [30, 40]]
    put(tmp_path, 'x/a.json', labelme(shape('rectangle', 'mask', *box)))
    put(tmp_path, 'x/b.json', labelme(shape('rectangle', 'face', *box), name='..\\photos\\b.jpg'))
    put(tmp_path, 'c.json', labelme(name='/data/c.jpg'))
    found = read_annotations(tmp_path)
    assert found.classes == ('face', 'mask')
    assert [image.path for image in found.images] == ['c.jpg', 'x/a.jpg', 'photos/b.jpg']
    assert [image.labels.tolist() for image in found.images] == [[], [1], [0]]


def voc(inner, folder='x'):
    return (
        f'<annotation><folder>{folder}</folder><filename>a</filename>'
        f'<size><width>64</width><height>48</height></size>{inner}</annotation>'
    )


BOX = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10.7</xmax><ymax>20</ymax></bndbox>'


def test_voc__corners_as_they_are_and_difficult():
    found = parse_voc(
        'a.xml', voc(f'<object><name>Face</name><difficult>1</difficult>{BOX}</object>')
    )
    (image,) = found.images
    np.testing.assert_allclose(image.bboxes, [[1, 1, 10.7, 20]])
    assert (image.ignore.tolist(), found.classes) == ([True], ('Face',))


def test_voc__folder_is_part_of_the_name_if_the_image_is_there(tmp_path, photo):
    for folder, name in (('x', 'a.jpg'), ('0--Parade', '0--Parade/a.jpg'), ('../y', 'a.jpg')):
        assert parse_voc('a.xml', voc('', folder)).images[0].path == name
    put(tmp_path, 'Annotations/a.xml', voc(''))
    assert read_annotations(tmp_path / 'Annotations').images[0].path == 'a.jpg'
    photo('JPEGImages/x/a.jpg')
    assert read_annotations(tmp_path / 'Annotations').images[0].path == 'x/a.jpg'


@pytest.mark.parametrize(
    'text',
    ['<annotation>', '<annotation/>', '<a/>', voc('<object/>'), voc('')[:-20], 'x', '\udcfc'],
)
def test_voc__other_xml(text):
    with pytest.raises(ValueError, match=r'^a\.xml.*expected'):
        parse_voc('a.xml', text)


def test_supervision__reads_the_same_boxes(tmp_path, photo):
    """A kept converter agrees, where it is right: rectangles and YOLO boxes."""
    supervision = pytest.importorskip('supervision')
    photo('images/a.jpg')
    put(tmp_path, 'labels/a.txt', f'{ROW}\n0 0.3 0.4 0.1 0.2\n')
    put(tmp_path, 'data.yaml', 'names: [face]\n')
    theirs = supervision.DetectionDataset.from_yolo(
        str(tmp_path / 'images'), str(tmp_path / 'labels'), str(tmp_path / 'data.yaml')
    )
    (annotation,) = theirs.annotations.values()
    (image,) = read_annotations(tmp_path / 'labels').images
    np.testing.assert_allclose(image.bboxes, annotation.xyxy, atol=1e-4)


def test_yolo__other_texts_beside_the_labels_are_no_labels(tmp_path, photo):
    photo('set/images/a.jpg')
    put(tmp_path, 'set/labels/a.txt', ROW)
    put(tmp_path, 'set/classes.txt', 'face')
    put(tmp_path, 'set/notes.txt', 'bought on Monday')
    (image,) = read_annotations(tmp_path / 'set', 'yolo').images
    assert (image.path, len(image.bboxes)) == ('a.jpg', 1)
