# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import numpy as np
import pytest

from mmface.evaluation.thresholds import operate
from mmface.evaluation.wider_ap import match_rows


@pytest.mark.parametrize('subset', ['easy', 'hard'])
def test_operate__equals_a_count_of_scores_above_each_threshold(drawn_gt, drawn_rows, subset):
    matched = match_rows(drawn_gt, drawn_rows)
    keep = drawn_gt.keep[subset]
    found = operate(matched, keep)
    images = (np.diff(drawn_gt.splits) > 0).sum()
    for place in range(0, 1000, 37):
        # Halfway to the next threshold, because scores with two digits lie on thresholds.
        over = matched.scores >= found.scores[place] - 1e-9
        hits = over & (matched.face >= 0)
        hits[hits] = keep[matched.face[hits]]
        true = (hits & matched.first).sum()
        false = (hits & ~matched.first).sum() + (over & matched.unmatched).sum()
        precision = true / (true + false) if true + false else np.nan
        recall = true / keep.sum()
        np.testing.assert_allclose(found.precision[place], precision)
        np.testing.assert_allclose(found.recall[place], recall)
        np.testing.assert_allclose(found.false_per_image[place], false / images)
        f1 = 2 * precision * recall / (precision + recall) if true else 0
        np.testing.assert_allclose(found.f1[place], f1)


def test_operate__chooses_thresholds(drawn_gt, drawn_rows):
    found = operate(match_rows(drawn_gt, drawn_rows), drawn_gt.keep['hard'])
    assert found.f1[found.best_f1] == found.f1.max()
    for wanted in (0.3, 0.5, 0.7):
        place = found.for_precision(wanted)
        if place is None:
            continue
        known = np.isfinite(found.precision[: place + 1])
        assert (found.precision[: place + 1][known] >= wanted).all()
        assert place == 999 or not found.precision[place + 1] >= wanted
    assert found.for_precision(0.0) == 999
    assert found.for_precision(1.1) is None


def test_operate__no_detections(drawn_gt):
    found = operate(match_rows(drawn_gt, {}), drawn_gt.keep['hard'])
    assert np.isnan(found.precision).all()
    assert (found.recall.max(), found.f1.max()) == (0, 0)
    assert found.for_precision(0.5) is None
