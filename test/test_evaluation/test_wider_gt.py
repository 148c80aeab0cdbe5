# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmface.evaluation.wider_gt import SUBSETS, is_wider, read_ground_truth


def test_read_ground_truth__gives_back_what_the_files_hold(small_gt, write_mats, tmp_path):
    gt = read_ground_truth(write_mats(small_gt, tmp_path / 'gt'))
    assert gt.names == small_gt.names
    np.testing.assert_array_equal(gt.boxes, small_gt.boxes)
    np.testing.assert_array_equal(gt.splits, small_gt.splits)
    for subset in SUBSETS:
        np.testing.assert_array_equal(gt.keep[subset], small_gt.keep[subset])
    assert not gt.partial


def test_read_ground_truth__val_mat_of_mindspores_zoo(small_gt, write_mats, tmp_path):
    folder = write_mats(small_gt, tmp_path / 'gt')
    (folder / 'wider_face_val.mat').rename(folder / 'val.mat')
    for path in (folder, folder / 'val.mat'):
        assert is_wider(path)
        assert read_ground_truth(path).names == small_gt.names


def test_read_ground_truth__keeps_degenerate_boxes_and_images_without_box(
    make_gt, write_mats, tmp_path
):
    boxes = [[0, 0, 0, 0], [1026, 474, -2, 23]]
    made = make_gt({'e/none': ([], [], [], []), 'e/odd': (boxes, [0, 0], [0, 0], [0, 1])})
    gt = read_ground_truth(write_mats(made, tmp_path))
    assert gt.boxes.tolist() == boxes
    assert gt.splits.tolist() == [0, 0, 2]
    assert gt.keep['hard'].tolist() == [False, True]


@pytest.mark.reference
def test_read_ground_truth__official_files_have_their_known_counts(reference_dir):
    gt = read_ground_truth(reference_dir / 'data' / 'wider' / 'ground_truth')
    assert (len(gt.names), len(gt.boxes)) == (3226, 39708)
    assert len({name.split('/')[0] for name in gt.names}) == 61
    assert {s: int(gt.keep[s].sum()) for s in SUBSETS} == {
        'easy': 7211,
        'medium': 13319,
        'hard': 31958,
    }
    assert not (gt.keep['easy'] & ~gt.keep['medium']).any()
    assert not (gt.keep['medium'] & ~gt.keep['hard']).any()
    assert ((gt.boxes[:, 2:] <= 0).any(axis=1)).sum() == 11


def test_read_ground_truth__missing_folder_and_file_name_the_remedy(small_gt, write_mats, tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist; take the four files'):
        read_ground_truth(tmp_path / 'nowhere')
    folder = write_mats(small_gt, tmp_path / 'gt')
    (folder / 'wider_medium_val.mat').unlink()
    with pytest.raises(FileNotFoundError, match=r'wider_medium_val\.mat is missing; take'):
        read_ground_truth(folder)


def _change(file: str, **fields):
    def change(folder):
        table = {k: v for k, v in loadmat(folder / file).items() if not k.startswith('__')}
        for key, value in fields.items():
            if value is None:
                del table[key]
            else:
                table[key] = value(table[key])
        savemat(folder / file, table)

    return change


def _index_beyond(cells):
    cells[0, 0][0, 0] = np.array([[9]], np.uint8)
    return cells


def _same_twice(cells):
    cells[0, 0][1, 0] = cells[0, 0][0, 0]
    return cells


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (lambda d: (d / 'wider_face_val.mat').write_bytes(b'not a mat'), 'not a MATLAB 5 file'),
        (lambda d: (d / 'wider_easy_val.mat').write_bytes(b''), 'not a MATLAB 5 file'),
        (
            lambda d: (d / 'wider_hard_val.mat').write_bytes(
                (d / 'wider_hard_val.mat').read_bytes()[:-300]
            ),
            'not a MATLAB 5 file|which is missing',
        ),
        (_change('wider_hard_val.mat', gt_list=None), 'expected the field gt_list'),
        (_change('wider_face_val.mat', face_bbx_list=None), 'expected the field face_bbx_list'),
        (_change('wider_easy_val.mat', gt_list=lambda c: c[:1]), 'index lists of 4 images'),
        (_change('wider_easy_val.mat', gt_list=_index_beyond), 'has 3 faces, found number 9'),
        (_change('wider_face_val.mat', event_list=lambda c: c[:1]), 'another structure'),
        (_change('wider_face_val.mat', face_bbx_list=lambda c: np.eye(3)), 'another structure'),
        (
            _change('wider_face_val.mat', file_list=_same_twice),
            'expected distinct images',
        ),
    ],
)
def test_read_ground_truth__wrong_file_is_named_with_remedy(
    small_gt, write_mats, tmp_path, break_it, message
):
    folder = write_mats(small_gt, tmp_path)
    break_it(folder)
    with pytest.raises(ValueError, match=rf'wider_\w+_val\.mat.*({message}).*take the four files'):
        read_ground_truth(folder)


def test_restrict__unknown_image_is_named(small_gt):
    with pytest.raises(ValueError, match=r"'0--A/7\.jpg' of the part is not in the ground truth"):
        small_gt.restrict(['0--A/0_A_1', '0--A/7.jpg'])
    with pytest.raises(ValueError, match='at least one image name'):
        small_gt.restrict([])


def test_restrict__keeps_order_of_ground_truth_and_ignores_repeats(small_gt):
    part = small_gt.restrict(['2--C/2_C_1.jpg', '0--A/0_A_2', '2--C/2_C_1'])
    assert part.names == ('0--A/0_A_2', '2--C/2_C_1')
    assert part.boxes.tolist() == [[50, 60, 20, 22], [30, 30, 60, 60]]
    assert part.keep['easy'].tolist() == [False, True]
    assert part.partial
