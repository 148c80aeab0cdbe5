# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Twenty folders as people write them by mistake, and what the evaluation says about each."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mmface.evaluation.plausibility import check_plausible, suspicions
from mmface.evaluation.prediction_files import match_predictions, open_predictions
from mmface.evaluation.wider_ap import evaluate_matched
from mmface.evaluation.wider_txt import write_wider_txt


def corners(rows):
    return np.column_stack([rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, 4]])


def change_rows(change, digits='.5f'):
    def write(root, name, rows):
        lines = [' '.join(f'{value:{digits}}' for value in row) for row in change(rows)]
        path = root / f'{name}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join([name, str(len(lines)), *lines, '']))

    return write


def change_text(change):
    def write(root, name, rows):
        write_wider_txt(root, name, rows)
        path = root / f'{name}.txt'
        path.write_text(change(path.read_text()))

    return write


def twice(root, name, rows):
    for part in ('one', 'two'):
        write_wider_txt(root / part, name, rows)


def elsewhere(root, name, rows):
    write_wider_txt(root, f'train/{name.split("_")[-1]}', rows)


def as_json(root, name, rows):
    (root / f'{name.replace("/", "_")}.json').write_text(str(rows.tolist()))


SIZE = np.array([1024, 700, 1024, 700])
WRONG = {
    'corners': (change_rows(corners), 'the boxes look like corners x1 y1 x2 y2'),
    'centres': (
        change_rows(lambda r: np.column_stack([r[:, :2] + r[:, 2:4] / 2, r[:, 2:]])),
        'the boxes look like centres',
    ),
    'exchanged axes': (change_rows(lambda r: r[:, [1, 0, 3, 2, 4]]), 'y x h w'),
    'exchanged corners': (change_rows(lambda r: corners(r)[:, [1, 0, 3, 2, 4]]), 'y1 x1 y2 x2'),
    'shares': (change_rows(lambda r: np.column_stack([r[:, :4] / SIZE, r[:, 4]])), 'shares of the'),
    'shares as corners': (
        change_rows(lambda r: np.column_stack([corners(r)[:, :4] / SIZE, r[:, 4]])),
        'shares of the',
    ),
    'score first': (change_rows(lambda r: r[:, [4, 0, 1, 2, 3]]), 'one column too many'),
    'class first': (
        change_rows(lambda r: np.column_stack([0 * r[:, 0], r])), 'one column too many'
    ),
    'score first, corners': (
        change_rows(lambda r: corners(r)[:, [4, 0, 1, 2, 3]]),
        'one column too many, then corners',
    ),
    'resized images': (
        change_rows(lambda r: r * [0.625, 0.625, 0.625, 0.625, 1]),
        'resized to a width of 640',
    ),
    'distance as score': (
        change_rows(lambda r: np.column_stack([r[:, :4], 1 - r[:, 4]])),
        'have lower scores than false finds',
    ),
    'equal scores': (
        change_rows(lambda r: np.column_stack([r[:, :4], 0 * r[:, 4] + 0.5])),
        'all scores are equal',
    ),
    'no rows': (change_rows(lambda r: r[:0]), 'no detection was read'),
    'other data set': (elsewhere, 'none of its 40 entries belongs to an image'),
    'no text files': (as_json, r'expected files <event>/<image>\.txt'),
    'two sets': (twice, 'expected one file per image'),
    'no header': (
        change_text(lambda text: text.split('\n', 2)[2]),
        'txt:2: expected the number of detections',
    ),
    'four columns': (
        change_rows(lambda r: r[:, :4]), 'txt:3: expected x y w h score, found 4 columns'
    ),
    'NaN': (
        change_rows(lambda r: np.column_stack([r[:, :4], r[:, 4] * np.nan])),
        'txt:3: expected five finite numbers',
    ),
    'words': (change_text(lambda text: text.replace('\n0.', '\nface 0.').replace(' 0.', ' p0.')),
              'expected five finite numbers'),
}  # fmt: skip


def write_set(root, rows, write):
    root.mkdir(exist_ok=True)
    for name, table in rows.items():
        write(root, name, table)
    return root


def good_rows(gt):
    """Draw a good detector: surer of faces than of other places."""
    rng = np.random.default_rng(8)
    rows = {}
    for number, name in enumerate(gt.names):
        boxes = gt.boxes_of(number) + rng.uniform(-1, 1, (len(gt.boxes_of(number)), 4))
        false = np.column_stack([rng.uniform(0, 600, (3, 2)), rng.uniform(10, 90, (3, 2))])
        scores = np.concatenate([rng.uniform(0.5, 1, len(boxes)), rng.uniform(0, 0.5, 3)])
        rows[name] = np.column_stack([np.concatenate([boxes, false]), scores])
    return rows


def evaluate(root, gt, name='set'):
    matched, sample = match_predictions(open_predictions(root, gt), gt)
    ap = evaluate_matched(matched).ap
    return check_plausible(matched, sample, max(ap.values()), name), ap


@pytest.mark.parametrize('mistake', WRONG)
def test_twenty_wrong_folders__say_what_is_wrong(tmp_path, drawn_gt, mistake):
    write, message = WRONG[mistake]
    root = write_set(tmp_path / 'set', good_rows(drawn_gt), write)
    try:
        found, _ = evaluate(root, drawn_gt)
    except (ValueError, FileNotFoundError) as error:
        found = [str(error)]
    assert len(found) == 1
    assert re.search(message, found[0]), found


def test_check_plausible__good_predictions_are_not_suspected(tmp_path, drawn_gt):
    found, ap = evaluate(
        write_set(tmp_path / 'set', good_rows(drawn_gt), write_wider_txt), drawn_gt
    )
    assert found == []
    assert min(ap.values()) > 0.9


def test_check_plausible__a_weak_detector_is_not_refused(tmp_path, drawn_gt):
    rows = {name: table[-3:] for name, table in good_rows(drawn_gt).items()}  # false finds alone
    found, ap = evaluate(write_set(tmp_path / 'set', rows, write_wider_txt), drawn_gt)
    assert found == []
    assert max(ap.values()) < 0.05


def test_check_plausible__high_ap_warns_only(tmp_path, drawn_gt):
    rows = {name: np.repeat(table, 2, axis=0) for name, table in good_rows(drawn_gt).items()}
    root = write_set(tmp_path / 'set', rows, write_wider_txt)
    found, ap = evaluate(root, drawn_gt)
    assert 'are repetitions' in found[0]
    assert max(ap.values()) > 0.3
    matched, sample = match_predictions(open_predictions(root, drawn_gt), drawn_gt)
    with pytest.raises(ValueError, match=r'AP of at most 0\.0100, and: .*force'):
        check_plausible(matched, sample, 0.01, 'set')
    assert suspicions(matched, sample) == found
