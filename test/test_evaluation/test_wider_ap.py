# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

from mmface.evaluation.matched import THRESHOLDS
from mmface.evaluation.wider_ap import average_precision, evaluate_rows
from mmface.evaluation.wider_gt import SUBSETS, read_ground_truth
from mmface.evaluation.wider_txt import read_predictions
from mmface.utils.image_names import read_part

SETS = ('yolov7-face', 'bsj_retinaface')
PROTOCOLS = ('float', 'official')


@pytest.fixture(params=PROTOCOLS)
def protocol(request) -> str:
    return request.param


# ---- the real prediction sets -----------------------------------------------------------


@pytest.fixture(scope='module')
def real(reference_dir):
    """Return ground truth, detections of both sets, and expected AP."""
    folder = reference_dir / 'data' / 'wider'
    gt = read_ground_truth(folder / 'ground_truth')
    rows = {
        name: read_predictions(folder / 'predictions' / f'{name}.tar.gz', gt).rows for name in SETS
    }
    return gt, rows, json.loads((folder / 'expected.json').read_text())


@pytest.mark.reference
@pytest.mark.parametrize('name', SETS)
def test_evaluate__gives_known_ap_of_real_predictions(real, name, protocol):
    gt, rows, expected = real
    result = evaluate_rows(gt, rows[name], protocol)
    assert result.ap == pytest.approx(expected[name][protocol], abs=1e-9)
    assert (result.partial, result.missing, result.extra) == (False, [], 0)


@pytest.mark.reference
@pytest.mark.parametrize('name', SETS)
def test_evaluate__real_predictions_may_be_shuffled(real, name, protocol):
    gt, rows, expected = real
    rng = np.random.default_rng(0)
    shuffled = {image: rng.permutation(rows[name][image]) for image in rows[name]}
    assert evaluate_rows(gt, shuffled, protocol).ap == pytest.approx(
        expected[name][protocol], abs=1e-9
    )


@pytest.mark.reference
def test_restrict__part_of_the_real_ground_truth_has_known_size(real, reference_dir):
    gt, rows, expected = real
    part = gt.restrict(read_part(reference_dir / 'data' / 'wider' / 'val_part.txt'))
    result = evaluate_rows(part, rows['yolov7-face'])
    faces = {'faces': len(part.boxes), 'images': len(part.names), **result.faces}
    assert faces == expected['part']
    assert result.partial
    assert result.extra == 0


# ---- edge cases ---------------------------------------------------------------------------


def test_evaluate__hand_computed_ap(small_gt, small_rows, protocol):
    # Hard, by normalised score: TP, TP, fp, fp, TP, (outside), fp, TP, fp, TP, TP at 6 faces
    # (0.95 0.9 0.8 0.7 0.6 0.5 0.4 0.35 0.3 0.2 0.1), so precision at the hits is
    # 1, 1, 3/5, 4/7, 5/9, 6/10 and the envelope 1, 1, .6, .6, .6, .6.
    result = evaluate_rows(small_gt, small_rows, protocol)
    assert result.ap['hard'] == pytest.approx((2 + 4 * 0.6) / 6)
    # Easy: faces 1, 2 of the first image, 1 of the third and the fourth; TP, TP, fp, fp, TP,
    # (0.35, 0.2 and 0.5 hit faces outside), fp 0.4, fp 0.3, TP 0.1: 1, 1, 3/5, 4/8.
    assert result.ap['easy'] == pytest.approx((2 + 0.6 + 0.5) / 4)
    assert result.faces == {'easy': 4, 'medium': 5, 'hard': 6}
    assert result.detections == 11


def test_evaluate__missing_image_counts_as_no_detections(small_gt, small_rows, protocol):
    empty = {**small_rows, '2--C/2_C_1': np.empty((0, 5))}
    missing = {name: rows for name, rows in small_rows.items() if not name.startswith('2--C')}
    expected = evaluate_rows(small_gt, empty, protocol)
    result = evaluate_rows(small_gt, missing, protocol)
    assert result.ap == expected.ap
    assert result.ap['hard'] < evaluate_rows(small_gt, small_rows, protocol).ap['hard']
    assert result.missing == ['2--C/2_C_1']
    assert expected.missing == []
    assert any('2--C/2_C_1' in text for text in result.warnings())


def test_evaluate__extra_image_has_no_influence(small_gt, small_rows, protocol):
    expected = evaluate_rows(small_gt, small_rows, protocol)
    extra = {**small_rows, '9--Z/z': np.array([[0, 0, 10, 10, 5.0], [0, 0, 10, 10, -5.0]])}
    result = evaluate_rows(small_gt, extra, protocol)
    assert result.ap == expected.ap
    assert result.extra == 1
    np.testing.assert_array_equal(result.precision['hard'], expected.precision['hard'])


@pytest.mark.parametrize('empty', [{}, {'0--A/0_A_1': np.empty((0, 5))}], ids=['none', 'empty'])
def test_evaluate__no_detections_give_zero_quietly(small_gt, protocol, empty):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        result = evaluate_rows(small_gt, empty, protocol)
    assert result.ap == {'easy': 0, 'medium': 0, 'hard': 0}
    assert len(result.warnings()) == 1


def test_evaluate__equal_scores_give_zero_and_say_why(small_gt, small_rows, protocol):
    for rows in small_rows.values():
        rows[:, 4] = 0.25
    result = evaluate_rows(small_gt, small_rows, protocol)
    assert result.ap == {'easy': 0, 'medium': 0, 'hard': 0}
    assert 'equal' in result.warnings()[0]


@pytest.mark.parametrize(('scale', 'shift'), [(100, 0), (1, -7), (64, -128)])
def test_evaluate__only_the_order_and_spacing_of_scores_counts(small_gt, small_rows, scale, shift):
    expected = evaluate_rows(small_gt, small_rows)
    for rows in small_rows.values():
        rows[:, 4] = rows[:, 4] * scale + shift
    assert evaluate_rows(small_gt, small_rows).ap == pytest.approx(expected.ap)


def test_evaluate__official_range_of_negative_scores_ends_at_zero(small_gt):
    # -1 and -3 become 2/3 and 0 of the range -3..0, instead of 1 and 0.
    rows = {
        '2--C/2_C_1': np.array([[30, 30, 60, 60, -1.0], [200, 200, 9, 9, -3.0]]),
    }
    result = evaluate_rows(small_gt, rows, 'official')
    first = int(np.flatnonzero(result.recall['hard'])[0])
    assert THRESHOLDS[first] <= 2 / 3 < THRESHOLDS[first - 1]
    assert evaluate_rows(small_gt, rows, 'float').recall['hard'][0] > 0


@pytest.mark.parametrize('side', [0, -1, -20])
def test_evaluate__boxes_without_size_are_false_positives(small_gt, small_rows, protocol, side):
    far = {name: rows.copy() for name, rows in small_rows.items()}
    bad = {name: rows.copy() for name, rows in small_rows.items()}
    name = '2--C/2_C_1'
    far[name] = np.vstack([far[name], [900, 900, 10, 10, 0.97]])
    bad[name] = np.vstack([bad[name], [40, 40, side, side, 0.97]])
    result = evaluate_rows(small_gt, bad, protocol)
    assert result.ap == evaluate_rows(small_gt, far, protocol).ap
    assert result.ap['hard'] < evaluate_rows(small_gt, small_rows, protocol).ap['hard']


def test_evaluate__shuffled_rows_change_nothing(small_gt, small_rows, protocol):
    reverse = {name: rows[::-1] for name, rows in reversed(small_rows.items())}
    expected = evaluate_rows(small_gt, small_rows, protocol)
    assert evaluate_rows(small_gt, reverse, protocol).ap == expected.ap


def test_evaluate__second_copy_of_a_row_is_a_false_positive(small_gt, small_rows, protocol):
    twice = {name: np.repeat(rows, 2, axis=0) for name, rows in small_rows.items()}
    # Copies of rows that hit a face outside the subset do not count; ten others do.
    precision = evaluate_rows(small_gt, twice, protocol).precision['hard']
    assert precision[-1] == pytest.approx(6 / 20)


def test_evaluate__detections_on_images_without_face_of_the_subset_are_false_positives(
    small_gt, small_rows, protocol
):
    name = '0--A/0_A_2'  # no easy face
    base = evaluate_rows(small_gt, small_rows, protocol)
    small_rows[name] = np.vstack([small_rows[name], [400, 400, 20, 20, 0.93]])
    result = evaluate_rows(small_gt, small_rows, protocol)
    assert result.ap['easy'] < base.ap['easy']


def test_evaluate__detections_on_images_without_any_box_are_not_looked_at(
    make_gt, small_gt, small_rows, protocol
):
    images = {'0--A/empty': ([], [], [], [])}
    for number, name in enumerate(small_gt.names):
        faces = slice(small_gt.splits[number], small_gt.splits[number + 1])
        images[name] = (
            small_gt.boxes_of(number),
            *(small_gt.keep[subset][faces] for subset in SUBSETS),
        )
    small_rows['0--A/empty'] = np.array([[10, 10, 30, 30, 0.94]])
    result = evaluate_rows(make_gt(images), small_rows, protocol)
    assert result.ap == evaluate_rows(small_gt, small_rows, protocol).ap


def test_evaluate__part_restricts_ground_truth_and_score_range(small_gt, small_rows, protocol):
    part = small_gt.restrict(['0--A/0_A_2.jpg', '2--C/2_C_1'])
    # A score of 50 outside the part would move all others to the last thresholds.
    small_rows['1--B/1_B_1'][0, 4] = 50
    result = evaluate_rows(part, small_rows, protocol)
    only = {name: small_rows[name] for name in part.names}
    np.testing.assert_array_equal(
        result.recall['hard'], evaluate_rows(part, only, protocol).recall['hard']
    )
    assert result.partial
    assert result.images == 2
    assert result.faces == {'easy': 1, 'medium': 2, 'hard': 2}
    assert (result.missing, result.extra, result.detections) == ([], 0, 4)
    # 0.7 fp, 0.4 fp, 0.35 TP, 0.1 TP: precision 1/3 and 2/4.
    assert result.ap['hard'] == pytest.approx(0.5)


def test_evaluate__subset_without_face_gives_nan(small_gt, small_rows, protocol):
    part = small_gt.restrict(['0--A/0_A_2'])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        result = evaluate_rows(part, small_rows, protocol)
    assert math.isnan(result.ap['easy'])
    assert result.ap['hard'] == pytest.approx(0.5)
    assert result.to_dict()['ap']['easy'] is None
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'protocol': 'double'}, 'expected protocol float or official'),
        ({'iou_thr': 0.0}, 'IoU threshold above 0'),
        ({'iou_thr': 1.5}, 'IoU threshold above 0'),
        ({'protocol': 'official', 'iou_thr': 0.4}, 'always 0.5'),
    ],
)
def test_evaluate__refuses_protocol_or_threshold_without_meaning(small_gt, given, message):
    with pytest.raises(ValueError, match=message):
        evaluate_rows(small_gt, {}, **given)


def test_evaluate__lower_iou_threshold_finds_more(small_gt):
    # 40 x 60 on the face of 60 x 60 with +1 sides: 41 * 61 / 61**2 = 0.67; 28: 0.475.
    rows = {'2--C/2_C_1': np.array([[30, 30, 28, 60, 0.9], [0, 0, 1, 1, 0.1]])}
    assert evaluate_rows(small_gt, rows).recall['hard'][-1] == 0
    assert evaluate_rows(small_gt, rows, iou_thr=0.4).recall['hard'][-1] == pytest.approx(1 / 6)


def test_average_precision__is_area_under_the_envelope():
    recall = np.array([0.0, 0.25, 0.5, 0.5, 1.0])
    precision = np.array([np.nan, 1.0, 0.5, 0.4, 0.75])
    assert average_precision(recall, precision) == pytest.approx(0.25 * 1 + 0.75 * 0.75)
