# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Label files: the result for good files, the message for bad files."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from mmface.datasets.annotations import read_annotations

read_labelv2, read_bbx_gt, read_retinaface_txt = (
    partial(read_annotations, fmt=fmt) for fmt in ('labelv2', 'bbx_gt', 'retinaface')
)

FIVE = '11 12 0 13 14 1 15 16 0.5 17 18 0 19 20 1'
NONE = ' '.join(['-1'] * 15)


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = 'label.txt'):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_labelv2__rows_of_every_length(write):
    text = f"""# a/1.jpg 640 480
1 2 30 40
1 2 30 40 0
1 2 30 40 1
1.5 2.25 30 40 {FIVE}

1 2 30 40 {NONE} 0.75
# a/2.jpg 100 200
# b/3.jpg 50 60
5 6 7 8
"""
    first, second, third = read_labelv2(write(text)).images
    assert (first.path, first.width, first.height) == ('a/1.jpg', 640, 480)
    assert (second.path, second.width, second.height) == ('a/2.jpg', 100, 200)
    assert third.bboxes.tolist() == [[5, 6, 7, 8]]
    assert second.bboxes.shape == (0, 4)
    assert second.keypoints.shape == (0, 5, 3)
    assert first.ignore.tolist() == [False, False, True, False, False]
    assert first.bboxes[3].tolist() == [1.5, 2.25, 30, 40]
    assert first.keypoints[3].tolist() == [
        [11, 12, 1],
        [13, 14, 1],
        [15, 16, 1],
        [17, 18, 1],
        [19, 20, 1],
    ]
    for face in (0, 1, 2, 4):
        assert first.keypoints[face].tolist() == [[-1, -1, 0]] * 5
    assert first.bboxes.dtype == first.keypoints.dtype == np.float32
    assert first.ignore.dtype == bool


def test_labelv2__some_points_missing_keep_their_own_weight(write):
    row = '0 0 9 9 1 2 0 -1 -1 -1 5 6 1 7 8 -1 9 9 0'
    (image,) = read_labelv2(write(f'# a/1.jpg 64 64\n{row}\n')).images
    assert image.keypoints[0, :, 2].tolist() == [1, 0, 1, 0, 1]
    assert image.keypoints[0, 3].tolist() == [-1, -1, 0]


def test_labelv2__crlf_bom_and_blanks_in_names(write):
    text = b'\xef\xbb\xbf# a b/my face.jpg 64 48\r\n1 2 3 4\r\n\r\n'
    (image,) = read_labelv2(write(text)).images
    assert (image.path, image.width, image.height) == ('a b/my face.jpg', 64, 48)
    assert image.bboxes.tolist() == [[1, 2, 3, 4]]


def test_labelv2__names_that_are_not_utf8_open_the_same_file(write, tmp_path):
    (image,) = read_labelv2(write(b'# f\xfcr.jpg 64 48\n1 2 3 4\n')).images
    (tmp_path / image.path).write_bytes(b'x')
    assert b'f\xfcr.jpg' in [bytes(p.name, 'utf-8', 'surrogateescape') for p in tmp_path.iterdir()]


def test_labelv2__stray_boxes_without_area_are_read(write):
    rows = '1 2 3 4\n' * 20 + '9 9 5 9\n'
    (image,) = read_labelv2(write(f'# a/1.jpg 64 64\n{rows}')).images
    assert len(image.bboxes) == 21


def test_bbx_gt__both_releases_of_images_without_faces(write):
    zeros = '0 0 0 0 0 0 0 0 0 0 \n'
    face = '10 20 5 6 2 0 1 {} 2 1 \n'
    older = f'a/1.jpg\n2\n{face.format(0)}{face.format(1)}a/2.jpg\n1\n{zeros}'
    older += f'b/3.jpg\n1\n{face.format(0)}'
    newer = older.replace('a/2.jpg\n1\n', 'a/2.jpg\n0\n')
    bare = newer.replace(zeros, '')
    for text in (older, newer, bare):
        first, second, third = read_bbx_gt(write(text)).images
        assert first.bboxes.tolist() == [[10, 20, 15, 26]] * 2
        assert first.ignore.tolist() == [False, True]
        assert first.keypoints[..., 2].sum() == 0
        assert (second.path, len(second.bboxes)) == ('a/2.jpg', 0)
        assert (third.path, len(third.bboxes), third.width) == ('b/3.jpg', 1, 0)


def test_bbx_gt__zero_faces_at_the_end_and_boxes_without_area(write):
    zeros = '0 0 0 0 0 0 0 0 0 0'
    first, last = read_bbx_gt(
        write(f'a/1.jpg\n1\n3 4 0 -2 0 0 0 0 0 0\na/2.jpg\n0\n{zeros}')
    ).images
    assert first.bboxes.tolist() == [[3, 4, 3, 2]]
    assert len(last.bboxes) == 0


def test_retinaface__sizes_become_corners_and_extra_columns_are_left_out(write):
    text = f'# a/1.jpg\n1 2 30 40\n1 2 30 40 {FIVE} 0.3\n1 2 30 40 {NONE} -1 0.1\n'
    (image,) = read_retinaface_txt(write(text)).images
    assert image.bboxes.tolist() == [[1, 2, 31, 42]] * 3
    assert image.keypoints[1, 2].tolist() == [15, 16, 1]
    assert image.keypoints[:, :, 2].sum(axis=1).tolist() == [0, 5, 0]
    assert (image.path, image.width, image.height) == ('a/1.jpg', 0, 0)


def test_auto__goes_by_the_headers(write):
    sized = read_annotations(write('# a/1.jpg 64 48\n1 2 30 40\n')).images
    plain = read_annotations(write('# a/1.jpg\n1 2 30 40\n')).images
    official = read_annotations(write('a/1.jpg\n1\n1 2 30 40 0 0 0 0 0 0\n')).images
    assert sized[0].bboxes.tolist() == [[1, 2, 30, 40]]
    assert plain[0].bboxes.tolist() == official[0].bboxes.tolist() == [[1, 2, 31, 42]]


HEAD = '# a/1.jpg 64 48\n'
BAD = {
    'eight numbers': (
        HEAD + '1 2 3 4\n1 2 3 4 5 6 7 8\n',
        'line 3.*4, 5, 19 or.*found 8',
    ),
    'nan': (HEAD + '1 2 3 4\n1 2 nan 4\n', 'line 3.*found the value nan'),
    'infinite': (HEAD + f'1 2 3 4 {FIVE}\n1 2 3 inf\n', 'line 3.*found the value inf'),
    'word': (HEAD + '1 2 three 4\n', 'line 2.*three'),
    'header without size': (HEAD + '1 2 3 4\n# a/2.jpg\n1 2 3 4\n', 'line 3.*path width height'),
    'header with half a size': (HEAD + '# a/2.jpg 64\n', 'line 2.*path width height'),
    'first header without size': ('# a/2.jpg\n1 2 3 4\n' + HEAD, 'line 1.*path width height'),
    'row before a header': ('1 2 3 4\n' + HEAD, 'line 1.*header'),
    'sizes for corners': (HEAD + '40 20 10 12\n' * 3, "line 2.*x2 >= x1.*'retinaface'"),
    'empty': ('', 'is empty'),
    'blank': ('\n \n\n', 'is empty'),
    'fewer faces': ('a/1.jpg\n3\n1 2 3 4 0 0 0 0 0 0\n', 'line 1.*3 faces.*found 1'),
    'faces of the next': (
        'a/1.jpg\n2\n1 2 3 4 0 0 0 0 0 0\na/2.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n',
        'line 4.*10 or 4 numbers.*a/2.jpg',
    ),
    'more faces': ('a/1.jpg\n1\n' + '1 2 3 4 0 0 0 0 0 0\n' * 2, 'line 4.*path of the next'),
    'no count': ('a/1.jpg\na/2.jpg\n', 'line 2.*number of faces of a/1.jpg'),
    'ends without count': ('a/1.jpg\n0\na/2.jpg\n', 'number of faces of a/2.jpg.*end'),
    'predictions': ('a/1.jpg\n1\n1 2 3 4 0.5\n', 'line 3.*found 5 values'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_file__is_refused_with_file_and_line(write, case):
    text, message = BAD[case]
    path = write(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_annotations(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_bad_file__labelv2_by_name_without_any_size(write):
    with pytest.raises(ValueError, match=r'line 1.*path width height'):
        read_annotations(write('# a/1.jpg\n1 2 3 4\n', 'labelv2.txt'))


def test_missing_file_and_unknown_format(tmp_path, write):
    with pytest.raises(FileNotFoundError, match=r'prepare_widerface'):
        read_annotations(tmp_path / 'no.txt')
    with pytest.raises(ValueError, match=r"'dlib'.*auto, labelme, voc, yolo, coco, labelv2, bbx"):
        read_annotations(write(HEAD), 'dlib')


def test_labelv2__as_many_images_and_faces_as_the_real_training_set(tmp_path):
    """All columns are present. `benchmark.py import` compares the time with a plain reader."""
    rng = np.random.default_rng(0)
    points = [' '.join(f'{v:.5f}' for v in row) for row in rng.uniform(0, 500, (500, 15))]
    with (tmp_path / 'labelv2.txt').open('w') as handle:
        for image in range(12880):
            handle.write(f'# {image % 61}--Event/{image}.jpg 1024 768\n')
            for face in range(12 if image % 3 else 13):
                handle.write(f'10.00000 20.00000 50.00000 60.25000 {points[face]} 0.5\n')
    found = read_annotations(tmp_path / 'labelv2.txt').images
    assert sum(len(item.bboxes) for item in found) == 158_854


@pytest.mark.reference
def test_real_files__have_the_known_counts(reference_dir):
    """The expected counts are those of the authors of the data set and of SCRFD."""
    folder = reference_dir / 'data/wider/annotations'
    official = read_annotations(folder / 'wider_face_val_bbx_gt.txt').images
    labelv2 = read_annotations(folder / 'labelv2_val.txt').images
    assert len(official) == len(labelv2) == 3226
    # 39,708 rows: 4 are rows of zeros of images without faces, 7 more have no area.
    assert sum(len(image.bboxes) for image in official) == 39704
    assert sum(int(image.ignore.sum()) for image in official) == 585
    assert sum(len(image.bboxes) for image in labelv2) == 39697
    assert sum(len(image.bboxes) == 0 for image in labelv2) == 4
    # labelv2 contains the official boxes that have area, in the same order.
    boxes = {image.path: image.bboxes for image in labelv2}
    for image in official:
        has_area = (image.bboxes[:, 2:] > image.bboxes[:, :2]).all(axis=1)
        np.testing.assert_array_equal(image.bboxes[has_area], boxes[image.path])


@pytest.mark.reference
def test_real_keypoints__lie_around_their_boxes(reference_dir):
    images = read_annotations(
        reference_dir / 'data/wider/annotations/labelv2_train_part.txt'
    ).images
    bboxes = np.concatenate([image.bboxes for image in images])
    keypoints = np.concatenate([image.keypoints for image in images])
    labelled = keypoints[..., 2].all(axis=1)
    assert (len(bboxes), int(labelled.sum())) == (6323, 4144)
    nose = keypoints[labelled, 2, :2]
    # True except for some faces in profile, and false if columns are mixed up.
    assert ((nose > bboxes[labelled, :2]) & (nose < bboxes[labelled, 2:])).all(axis=1).mean() > 0.95
