# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_txt import detection_rows, read_predictions, write_wider_txt

ROWS = [[1, 2, 30, 40, 0.5], [5.25, 6, 7, 8, 0.25]]
WELL_FORMED = 'a\n2\n1 2 30 40 0.5\n5.25 6 7 8 0.25\n'


def write(root, **files: str | bytes):
    folder = root / '0--A'
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f'{stem}.txt').write_bytes(data)
    return root


@pytest.mark.parametrize(
    'text',
    [
        WELL_FORMED,
        'a\n2\n1 2 30 40 0.5\n5.25 6 7 8 0.25',
        'a\r\n2\r\n1 2 30 40 0.5\r\n5.25 6 7 8 0.25\r\n',
        'a\n2\n1\t2\t30\t40\t0.5\n5.25\t6\t7\t8\t0.25\n',
        'a\n2\n1,2,30,40,0.5\n5.25, 6, 7, 8, 0.25\n',
        'a\n2\n  1  2 30   40 0.5  \n5.25 6 7 8 0.25 \n',
        'a\n2\n\n1 2 30 40 0.5\n\n5.25 6 7 8 0.25\n\n',
        'a\n2\n1 2 30 40 0.5' + ' 9' * 10 + '\n5.25 6 7 8 0.25' + ' 9' * 10 + '\n',
        'a\n2\n1 2 30 40 0.5\n5.25 6 7 8 0.25 1 2 3\n',
        'a\n 2 \n1e0 2 3e1 40 5e-1\n5.25 6 7 8 .25\n',
        'C:\\images\\some_other_name.jpeg\n2\n1 2 30 40 0.5\n5.25 6 7 8 0.25\n',
        '\u4eba\u8138.png\n2\n1 2 30 40 0.5\n5.25 6 7 8 0.25\n',
    ],
    ids=[
        'plain', 'no-last-line-end', 'crlf', 'tabs', 'commas', 'blanks', 'blank-lines',
        '15-columns', 'mixed-columns', 'exponents', 'wrong-header', 'chinese-header',
    ],
)  # fmt: skip
@pytest.mark.parametrize('beside', [WELL_FORMED, 'b\n1\n1,2,3,4,0.5\n'], ids=['fast', 'careful'])
def test_read_predictions__accepts_what_people_write(tmp_path, text, beside):
    # Each form is read by both readers: a file with commas in the folder makes all slow.
    found = read_predictions(write(tmp_path, a=text, b=beside))
    assert found.rows['0--A/a'].tolist() == ROWS
    assert len(found.rows['0--A/b']) == (2 if beside == WELL_FORMED else 1)
    assert (found.extra, found.notes) == (0, [])


@pytest.mark.parametrize('text', ['', 'a', 'a\n', 'a\n0', 'a\n0\n', 'a\n0\n\n', '\n', '\n\n'])
def test_read_predictions__file_without_rows_has_no_detections(tmp_path, text):
    found = read_predictions(write(tmp_path, a=text, b=WELL_FORMED))
    assert found.rows['0--A/a'].shape == (0, 5)
    assert len(found.rows['0--A/b']) == 2
    assert found.notes == []


def test_read_predictions__all_files_empty(tmp_path):
    found = read_predictions(write(tmp_path, a='', b='b\n0\n'))
    assert {name: rows.shape for name, rows in found.rows.items()} == {
        '0--A/a': (0, 5),
        '0--A/b': (0, 5),
    }


@pytest.mark.parametrize('count', [1, 7])
def test_read_predictions__wrong_count_is_noted_and_all_rows_used(tmp_path, count):
    found = read_predictions(write(tmp_path, a=WELL_FORMED.replace('\n2\n', f'\n{count}\n')))
    assert found.rows['0--A/a'].tolist() == ROWS
    assert f'{count} announced, 2 found' in found.notes[0]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('1 2 3 4', r'a\.txt:4: expected x y w h score, found 4 columns'),
        ('1 2 3 4 nan', r'a\.txt:4: expected five finite numbers .* found .1 2 3 4 nan.'),
        ('1 2 3 4 inf', r'a\.txt:4: expected five finite numbers'),
        ('1 2 3 4 1e999', r'a\.txt:4: expected five finite numbers'),
        ('1 nan 3 4 0.5', r'a\.txt:4: expected five finite numbers'),
        ('1 2 x 4 0.5', r'a\.txt:4: expected five finite numbers'),
        ('1 2 3 4 0.5# no', r'a\.txt:4: expected five finite numbers'),
    ],
)
def test_read_predictions__bad_row_is_named_with_file_and_line(tmp_path, line, message):
    folder = write(tmp_path, a=f'a\n3\n1 2 3 4 0.5\n{line}\n5 6 7 8 0.1\n', b=WELL_FORMED)
    with pytest.raises(ValueError, match=message):
        read_predictions(folder)


def test_read_predictions__rows_without_header_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r'a\.txt:2: expected the number of detections, found'):
        read_predictions(write(tmp_path, a='1 2 3 4 0.5\n5 6 7 8 0.1\n'))


def test_read_predictions__folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='do not exist'):
        read_predictions(tmp_path / 'nowhere')
    (tmp_path / 'readme.md').write_text('no predictions')
    with pytest.raises(FileNotFoundError, match=r'expected files <event>/<image>\.txt'):
        read_predictions(tmp_path)
    with pytest.raises(ValueError, match='expected a folder or a tar archive'):
        read_predictions(tmp_path / 'readme.md')


def test_read_predictions__two_sets_in_one_folder_are_refused(tmp_path):
    write(tmp_path / 'one', a=WELL_FORMED)
    write(tmp_path / 'two', a=WELL_FORMED)
    with pytest.raises(ValueError, match='expected one file per image'):
        read_predictions(tmp_path)


def test_read_predictions__archive_equals_folder(tmp_path):
    folder = write(tmp_path / 'set', a=WELL_FORMED, b='b\n0\n')
    archive = tmp_path / 'set.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(folder, 'set')
    found, expected = read_predictions(archive), read_predictions(folder)
    assert found.rows.keys() == expected.rows.keys()
    for name, rows in expected.rows.items():
        np.testing.assert_array_equal(found.rows[name], rows)
    cut = tmp_path / 'cut.tar.gz'
    cut.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(ValueError, match='tar archive'):
        read_predictions(cut)


def test_read_predictions__reads_only_images_of_the_ground_truth(tmp_path, small_gt):
    part = small_gt.restrict(['0--A/0_A_1'])
    broken = 'x\n1\n1 2 3\n'
    folder = write(tmp_path, **{'0_A_1': WELL_FORMED, '0_A_2': broken, 'other': broken})
    found = read_predictions(folder, part)
    assert list(found.rows) == ['0--A/0_A_1']
    assert found.extra == 1  # 0_A_2 is in the ground truth, but not in the part


def test_write_wider_txt__is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(-5, 900, (50, 4)), rng.random(50, np.float32)])
    write_wider_txt(tmp_path / 'set', '0--A/a.b', rows)
    write_wider_txt(tmp_path / 'set', '0--A/none', np.empty((0, 5)))
    assert (tmp_path / 'set' / '0--A' / 'a.b.txt').read_text().startswith('a.b\n50\n')
    found = read_predictions(tmp_path / 'set')
    np.testing.assert_allclose(found.rows['0--A/a.b'][:, :4], rows[:, :4], atol=5.1e-6)
    # Scores of a float32 detector are reproduced exactly.
    np.testing.assert_array_equal(
        found.rows['0--A/a.b'][:, 4].astype(np.float32), rows[:, 4].astype(np.float32)
    )
    assert found.rows['0--A/none'].shape == (0, 5)
    assert found.notes == []


def test_read_predictions__written_set_has_the_same_ap(tmp_path, small_gt, small_rows):
    for name, rows in small_rows.items():
        write_wider_txt(tmp_path, name, rows)
    found = read_predictions(tmp_path, small_gt)
    assert evaluate_rows(small_gt, found.rows).ap == evaluate_rows(small_gt, small_rows).ap


def test_detection_rows__leave_out_what_cannot_be_ranked():
    nan, inf = float('nan'), float('inf')
    boxes = [[1, 2, 4, 7], [0, 0, inf, 5], [nan, 0, 1, 1], [0, 0, 2, 2], [inf, 0, inf, 1]]
    rows, dropped = detection_rows(np.array(boxes, np.float32), np.array([0.5, 1, 1, nan, 1]))
    assert rows.tolist() == [[1, 2, 3, 5, 0.5]]
    assert dropped == 4
    assert detection_rows(np.zeros((0, 4)), np.zeros(0))[0].shape == (0, 5)
