# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.evaluation.pr_curve import plot_pr_curves
from mmface.evaluation.wider_ap import evaluate_rows
from mmface.evaluation.wider_result import format_table


def coloured(path) -> int:
    """Return the number of pixels of an image that are not grey."""
    image = cv2.imread(str(path)).astype(int)
    return int((image.max(axis=2) - image.min(axis=2) > 60).sum())


def test_plot_pr_curves__draws_one_result_and_many(small_gt, small_rows, tmp_path):
    result = evaluate_rows(small_gt, small_rows)
    nothing = evaluate_rows(small_gt, {})
    plot_pr_curves({'nothing': nothing}, tmp_path / 'nothing.png')
    plot_pr_curves({'some': result}, tmp_path / 'one.png')
    plot_pr_curves({'a': result, 'b': nothing, 'c': result}, tmp_path / 'sub' / 'many.png')
    # The legend is coloured too, so the comparison is with the image without a curve.
    assert coloured(tmp_path / 'one.png') > coloured(tmp_path / 'nothing.png') + 300
    assert coloured(tmp_path / 'sub' / 'many.png') > 1000
    assert [path.name for path in (tmp_path / 'sub').iterdir()] == ['many.png']


def test_plot_pr_curves__subset_without_face_is_no_error(small_gt, small_rows, tmp_path):
    part = small_gt.restrict(['0--A/0_A_2'])
    plot_pr_curves({'part': evaluate_rows(part, small_rows)}, tmp_path / 'part.png')
    assert cv2.imread(str(tmp_path / 'part.png')) is not None


def test_plot_pr_curves__needs_a_result(tmp_path):
    with pytest.raises(ValueError, match='at least one result'):
        plot_pr_curves({}, tmp_path / 'x.png')


def test_format_table__shows_numbers_and_conditions(small_gt, small_rows):
    part = small_gt.restrict(['0--A/0_A_2'])
    text = format_table(
        {
            'full': evaluate_rows(small_gt, small_rows, 'official'),
            'part': evaluate_rows(part, small_rows, iou_thr=0.4),
        }
    )
    header, full, partial = text.splitlines()
    assert header.split() == ['easy', 'medium', 'hard', 'images', 'detections', 'protocol']
    assert full.split() == ['full', '0.7750', *full.split()[2:3], '0.7333', '4', '11', 'official']
    assert partial.split() == [
        'part',
        'nan',
        '0.5000',
        '0.5000',
        '1',
        '2',
        'float',
        'IoU',
        '0.4',
        '(partial)',
    ]
    assert np.isclose(
        float(full.split()[2]), evaluate_rows(small_gt, small_rows).ap['medium'], atol=1e-4
    )


@pytest.mark.parametrize(
    ('suffix', 'start'), [('.pdf', b'%PDF'), ('.svg', b'<?xml'), ('.png', b'\x89PNG')]
)
def test_plot_pr_curves__suffix_chooses_the_kind(small_gt, small_rows, tmp_path, suffix, start):
    result = evaluate_rows(small_gt, small_rows)
    for name in 'ab':
        plot_pr_curves({'x': result}, tmp_path / f'{name}{suffix}', title='My faces')
    first, second = ((tmp_path / f'{name}{suffix}').read_bytes() for name in 'ab')
    assert first.startswith(start)
    if suffix == '.svg':
        assert b'My faces: x' in first
    else:
        assert first == second  # no date; ids in an SVG are random
