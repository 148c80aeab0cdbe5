# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import numpy as np
import pytest

from mmface.evaluation.bootstrap import (
    ap_of_draws,
    compare_all,
    difference,
    draw_weights,
    interval,
)
from mmface.evaluation.wider_ap import evaluate_matched, evaluate_rows, match_rows
from mmface.evaluation.wider_gt import SUBSETS

# Images without faces fix the score range of every draw; their detections count nowhere.
ENDS = np.array([[0, 0, 9, 9, 1.0], [20, 0, 9, 9, 0.0]])


def repeated(make_gt, gt, rows, weights):
    """Build the set of a draw: an image drawn twice is there twice, under two names."""
    images, own = {'ends/0': ([], [], [], [])}, {'ends/0': ENDS}
    for number, name in enumerate(gt.names):
        faces = slice(gt.splits[number], gt.splits[number + 1])
        for copy in range(int(weights[number])):
            new = f'{name}_{copy}'
            images[new] = (gt.boxes[faces], *(gt.keep[subset][faces] for subset in SUBSETS))
            own[new] = rows[name]
    return make_gt(images), own


@pytest.fixture(scope='module')
def small(drawn_gt, drawn_rows):
    """Return 14 images, some of whose faces are all ignored, and scores from 0 to 1."""
    gt = drawn_gt.restrict(drawn_gt.names[:14])
    rows = {name: drawn_rows[name].copy() for name in gt.names}
    rows[gt.names[0]][:2, 4] = (0, 1)
    assert any(own.size and not own.any() for own in np.split(gt.keep['easy'], gt.splits[1:-1]))
    return gt, rows


@pytest.mark.parametrize('protocol', ['float', 'official'])
def test_ap_of_draws__equals_a_naive_re_evaluation(make_gt, small, protocol):
    gt, rows = small
    weights = draw_weights(len(gt.names), 25, seed=1)
    assert (weights.sum(axis=1) == len(gt.names)).all()
    found = ap_of_draws(match_rows(gt, rows, protocol), SUBSETS, weights)
    for number, own in enumerate(weights):
        expected = evaluate_rows(*repeated(make_gt, gt, rows, own), protocol).ap
        for subset in SUBSETS:
            np.testing.assert_allclose(
                found[subset][number], expected[subset], rtol=0, atol=1e-12, equal_nan=True
            )


def test_ap_of_draws__each_image_once_is_the_ap(drawn_gt, drawn_rows):
    matched = match_rows(drawn_gt, drawn_rows)
    once = ap_of_draws(matched, SUBSETS, np.ones((1, len(drawn_gt.names)), np.float32))
    expected = evaluate_matched(matched).ap
    assert {subset: own[0] for subset, own in once.items()} == pytest.approx(expected, abs=1e-12)


def test_draw_weights__depend_on_the_seed_only():
    np.testing.assert_array_equal(draw_weights(9, 5, 3), draw_weights(9, 5, 3))
    assert (draw_weights(9, 5, 3) != draw_weights(9, 5, 4)).any()


def test_interval__covers_the_true_ap_of_simulated_data(make_gt):
    """Of 95 % intervals, most must hold the AP of the population that the images come from."""
    rng = np.random.default_rng(7)

    def draw_set(images):
        boxes = {f'a/{i}': ([[0, 0, 30, 30]], [1], [1], [1]) for i in range(images)}
        rows = {'a/0': ENDS}
        for name in boxes:
            hit = rng.random() < 0.8
            score = rng.uniform(0.3, 0.999) if hit else rng.uniform(0.001, 0.7)
            place = 0 if hit else 100
            rows[name] = np.array([[place, place, 30, 30, score]])
        rows['b/ends'] = ENDS
        return make_gt({**boxes, 'b/ends': ([], [], [], [])}), rows

    truth = evaluate_rows(*draw_set(20_000)).ap['hard']
    covered = 0
    for trial in range(100):
        gt, rows = draw_set(60)
        matched = match_rows(gt, rows)
        draws = ap_of_draws(matched, ['hard'], draw_weights(len(gt.names), 300, trial))['hard']
        found = interval(evaluate_matched(matched).ap['hard'], draws)
        covered += found.low <= truth <= found.high
    assert 86 <= covered <= 100  # 95 expected; fewer than 86 has a chance below 1 in 1,000


def test_difference__is_paired_and_knows_its_sign(drawn_gt, drawn_rows):
    worse = {name: table[table[:, 4] > 0.4] for name, table in drawn_rows.items()}
    ap, draws = {}, {}
    weights = draw_weights(len(drawn_gt.names), 400)
    for name, rows in {'all': drawn_rows, 'cut': worse, 'same': drawn_rows}.items():
        matched = match_rows(drawn_gt, rows)
        ap[name] = evaluate_matched(matched).ap['hard']
        draws[name] = ap_of_draws(matched, ['hard'], weights)['hard']
    pairs = compare_all(ap, draws)
    assert list(pairs) == [('all', 'cut'), ('all', 'same'), ('cut', 'same')]
    same = pairs['all', 'same']
    assert (same.interval.low, same.interval.high, same.p) == (0, 0, 1)
    better = pairs['all', 'cut']
    assert 0 < better.interval.low < better.interval.value < better.interval.high
    assert better.p == pytest.approx(2 / 401)
    other = difference(ap['cut'], ap['all'], draws['cut'], draws['all'])
    assert other.interval.value == -better.interval.value
    paired = better.interval.high - better.interval.low
    alone = interval(ap['all'], draws['all'])
    assert paired < alone.high - alone.low
