# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The drawn WIDER FACE data set: formats, correct labels, reproducibility."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from mmface.datasets.annotations import read_annotations
from mmface.toys.faces import ToyFace
from mmface.toys.portrait import draw_person
from mmface.toys.scenes import compose, random_face
from mmface.toys.widerface import EVENTS, make_toy_widerface

SUBSETS = ('easy', 'medium', 'hard')


@pytest.fixture(scope='module')
def toy(tmp_path_factory) -> Path:
    return make_toy_widerface(tmp_path_factory.mktemp('toy') / 'set', num_train=12, num_val=16)


def digests(root: Path) -> dict[str, str]:
    files = (f for f in sorted(root.rglob('*')) if f.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def boxes_of_mat(root: Path) -> dict[str, np.ndarray]:
    mat = loadmat(root / 'val/gt/wider_face_val.mat')
    return {
        f'{event[0]}/{name[0]}.jpg': mat['face_bbx_list'][e, 0][i, 0]
        for e, (event,) in enumerate(mat['event_list'])
        for i, (name,) in enumerate(mat['file_list'][e, 0])
    }


def indices(root: Path, subset: str) -> dict[tuple[int, int], set[int]]:
    gt = loadmat(root / f'val/gt/wider_{subset}_val.mat')['gt_list']
    return {
        (e, i): set(cell[0].ravel().tolist())
        for e in range(len(gt))
        for i, cell in enumerate(gt[e, 0])
    }


def test_rerun__gives_the_same_bytes(toy, tmp_path):
    again = make_toy_widerface(tmp_path / 'again', num_train=12, num_val=16)
    assert digests(again) == digests(toy)


def test_more_images__leave_the_first_ones_as_they_are(toy, tmp_path):
    fewer = make_toy_widerface(tmp_path / 'fewer', num_train=7, num_val=0)
    images = {k: v for k, v in digests(fewer).items() if k.endswith('.jpg')}
    assert len(images) == 7
    assert images.items() <= digests(toy).items()


def test_other_seed__draws_other_images(toy, tmp_path):
    other = make_toy_widerface(tmp_path / 'other', num_train=3, num_val=0, seed=1)
    ours, theirs = digests(toy), digests(other)
    assert all(ours[k] != v for k, v in theirs.items() if k.endswith('.jpg'))


def test_finished_set__is_kept_until_a_image_is_gone(tmp_path):
    root = make_toy_widerface(tmp_path / 'set', num_train=2, num_val=0)
    first, second = sorted(root.rglob('*.jpg'))
    time = first.stat().st_mtime_ns
    make_toy_widerface(root, num_train=2, num_val=0)
    assert first.stat().st_mtime_ns == time
    second.unlink()
    make_toy_widerface(root, num_train=2, num_val=0)
    assert second.is_file()


def test_folder_with_other_data__is_refused(tmp_path):
    labels = tmp_path / 'train' / 'labelv2.txt'
    labels.parent.mkdir()
    labels.write_text('precious')
    with pytest.raises(ValueError, match='another folder'):
        make_toy_widerface(tmp_path, num_train=1, num_val=1)
    assert labels.read_text() == 'precious'


@pytest.mark.parametrize('wrong', [{'image_size': (480, 20)}, {'events': ()}, {'num_val': -1}])
def test_wrong_arguments__are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match='must'):
        make_toy_widerface(tmp_path / 'set', **wrong)


def test_labels__agree_between_the_formats(toy):
    for split in ('train', 'val'):
        official = read_annotations(toy / split / f'wider_face_{split}_bbx_gt.txt').images
        labelv2 = read_annotations(toy / split / 'labelv2.txt').images
        assert [a.path for a in official] == [b.path for b in labelv2]
        for a, b in zip(official, labelv2, strict=True):
            size = a.bboxes[:, 2:] - a.bboxes[:, :2]
            whole = b.bboxes[(b.bboxes % 1 == 0).all(axis=1)]  # without the box of half a pixel
            np.testing.assert_array_equal(a.bboxes[(size > 0).all(axis=1)], whole)


def test_labelv2__has_the_size_of_every_image(toy):
    for split in ('train', 'val'):
        for item in read_annotations(toy / split / 'labelv2.txt').images:
            image = cv2.imread(str(toy / split / 'images' / item.path))
            assert image.shape == (item.height, item.width, 3)


def test_rows__have_the_lengths_of_their_split(toy):
    def lengths(split: str) -> set[int]:
        lines = (toy / split / 'labelv2.txt').read_text().splitlines()
        return {len(line.split()) for line in lines if not line.startswith('#')}

    assert 19 in lengths('train')
    assert lengths('train') <= {5, 19}
    assert 19 in lengths('val')
    assert lengths('val') <= {4, 19}


def test_mat__holds_the_boxes_of_the_official_text(toy):
    mat = boxes_of_mat(toy)
    text = {
        a.path: a.bboxes for a in read_annotations(toy / 'val/wider_face_val_bbx_gt.txt').images
    }
    assert mat.keys() == text.keys()
    for key, boxes in mat.items():
        assert boxes.dtype == np.int32
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        if len(text[key]):
            np.testing.assert_array_equal(corners, text[key])
        else:
            np.testing.assert_array_equal(boxes, [[0, 0, 0, 0]])


def test_subsets__are_nested_and_each_larger(toy):
    easy, medium, hard = (indices(toy, name) for name in SUBSETS)
    counts = [sum(map(len, s.values())) for s in (easy, medium, hard)]
    assert 0 < counts[0] < counts[1] < counts[2]
    for key in easy:
        assert easy[key] <= medium[key] <= hard[key]


def test_edge_cases__are_there(toy):
    boxes = boxes_of_mat(toy)
    sizes = {a.path: (a.width, a.height) for a in read_annotations(toy / 'val/labelv2.txt').images}
    assert any((b == 0).all() for b in boxes.values())
    assert any((b[:, 2] < 0).any() for b in boxes.values())
    assert any((b == [0, 0, *sizes[k]]).all(axis=1).any() for k, b in boxes.items())
    assert any((abs(b[:, 3] - 700) < 40).any() for b in boxes.values())
    train = [a.bboxes for a in read_annotations(toy / 'train/labelv2.txt').images]
    sides = np.concatenate([b[:, 2:] - b[:, :2] for b in train])
    assert ((sides > 0) & (sides < 1)).all(axis=1).any()


def test_both_forms_of_no_face__are_in_the_training_text(toy):
    lines = (toy / 'train/wider_face_train_bbx_gt.txt').read_text().split('\n')
    zeros = [k for k, line in enumerate(lines) if line == '0 0 0 0 0 0 0 0 0 0 ']
    assert {lines[k - 1] for k in zeros} == {'0', '1'}
    assert all(lines[k - 2].endswith('.jpg') for k in zeros)


def test_without_edge_cases__every_image_has_the_size_asked_for(tmp_path):
    root = make_toy_widerface(
        tmp_path / 's', 6, 0, image_size=(160, 120), events=['A', 'B'], edge_cases=False
    )
    items = read_annotations(root / 'train/labelv2.txt').images
    assert {(i.width, i.height) for i in items} == {(160, 120)}
    assert {i.path.split('/')[0] for i in items} == {'A', 'B'}
    assert all(len(i.bboxes) for i in items)


def test_keypoints__lie_in_their_boxes_in_order(toy):
    seen = 0
    for item in read_annotations(toy / 'train/labelv2.txt').images:
        for box, points in zip(item.bboxes, item.keypoints, strict=True):
            if (points[:, 2] > 0).all() and box[3] - box[1] > 20:
                seen += 1
                margin = 0.15 * (box[2:] - box[:2])
                assert (points[:, :2] > box[:2] - margin).all()
                assert (points[:, :2] < box[2:] + margin).all()
                right = points[1, :2] - points[0, :2]  # from the left eye to the right eye
                down = points[3:, :2].mean(axis=0) - points[:2, :2].mean(axis=0)
                assert right[0] * down[1] - right[1] * down[0] > 0
                assert (points[4, :2] - points[3, :2]) @ right > 0
    assert seen > 30


def test_tiny_faces__have_no_keypoints():
    _, labels = compose(np.random.default_rng(0), 4, (480, 360))
    small = [label for label in labels if label.box[3] < 11]
    assert small
    assert all((label.keypoints == -1).all() for label in small)


def test_drawn_eyes_and_mouth__are_where_the_keypoints_say():
    colours = {
        'skin': (150, 180, 230),
        'hair': (150, 180, 230),
        'iris': (0, 0, 0),
        'lips': (0, 0, 255),
        'shirt': (150, 180, 230),
        'extra': (150, 180, 230),
    }
    for yaw, pitch, roll in ((0, 0, 0), (25, 10, 20), (-25, -10, -40)):
        face = ToyFace(
            (150, 150), 160, yaw, pitch, roll, colours=colours, hair='bald', light=(-1, 0, 0)
        )
        patch, _, (x0, y0) = draw_person(face, 400)
        points, facing = face.keypoints()
        assert facing.all()
        dark = (patch[..., :3].max(axis=2) < 60) & (patch[..., 3] > 250)
        for point in points[:2]:  # the pupil is the darkest spot around an eye
            x, y = np.round(point - (x0, y0)).astype(int)
            rows, columns = np.nonzero(dark[y - 9 : y + 10, x - 9 : x + 10])
            assert abs(columns.mean() - 9) < 3.5
            assert abs(rows.mean() - 9) < 4.5
        red = patch[..., 2] - np.maximum(patch[..., 0], patch[..., 1]) > 150
        rows, columns = np.nonzero(red)
        middle = np.array((columns.mean() + x0 + 0.5, rows.mean() + y0 + 0.5))
        assert np.linalg.norm(middle - points[3:].mean(axis=0)) < 0.08 * 160


def test_hidden_face__is_labelled_as_occluded():
    rng = np.random.default_rng(3)
    behind = random_face(rng, (200, 150), 80, clear=True)
    before = random_face(rng, (240, 170), 110, clear=True)
    _, labels = compose(rng, 0, (480, 360), [behind, before])
    by_height = {label.box[3] > 95: label for label in labels}
    assert by_height[True].occlusion == 0
    assert by_height[False].occlusion == 2
    assert by_height[False].keypoints[:, 2].max() == 1


@pytest.mark.reference
@pytest.mark.parametrize('name', ['face', *SUBSETS])
def test_mat__has_the_structure_of_the_official_file(toy, reference_dir, name):
    def shape(value):
        if value.dtype == object:
            assert value.ndim == 2
            assert value.shape[1] == 1
            return ['cell', *shape(value[0, 0])]
        if value.dtype.kind == 'U':
            return ['text', value.shape]
        return [value.dtype, value.shape[1:]]

    file = f'wider_{name}_val.mat'
    official = loadmat(reference_dir / 'data/wider/ground_truth' / file)
    ours = loadmat(toy / 'val/gt' / file)
    assert ours.keys() == official.keys()
    for key in official:
        if not key.startswith('__'):
            assert shape(ours[key]) == shape(official[key]), key


def test_events__are_sorted_as_in_the_official_file(toy):
    mat = loadmat(toy / 'val/gt/wider_face_val.mat')
    assert [event[0] for (event,) in mat['event_list']] == sorted(EVENTS)
