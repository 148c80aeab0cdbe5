# Copyright (c) mmface authors. Licensed under the Apache License 2.0.

from __future__ import annotations

import numpy as np
import pytest

from mmface.evaluation.nme import keypoint_errors

POINTS = np.array([[10, 10], [30, 10], [20, 20], [12, 30], [28, 30]], float)
BOX = np.array([[0.0, 0.0, 40.0, 40.0]])


def labelled(points=POINTS, weights=1.0) -> np.ndarray:
    return np.concatenate([points, np.broadcast_to(weights, 5)[:, None]], axis=1)[None]


def detection(score=0.9, shift=(0, 0)) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[0, 0, 40, 40, score]]), (POINTS + shift)[None]


def test_keypoint_errors__divides_mean_distance_by_eye_distance_or_box_side():
    rows, points = detection(shift=(3, 4))  # off by 5 pixels; eyes 20 apart, box 40 x 40
    assert keypoint_errors(rows, points, BOX, labelled()) == pytest.approx([5 / 20])
    assert keypoint_errors(rows, points, BOX, labelled(), normalizer='box') == pytest.approx(
        [5 / 40]
    )


def test_keypoint_errors__averages_over_labelled_points_only():
    rows, points = detection()
    points[0, 4] += 100  # not labelled
    points[0, 3] += [0, 8]
    weights = np.array([1, 1, 1, 1, 0])
    assert keypoint_errors(rows, points, BOX, labelled(weights=weights)) == pytest.approx(
        [8 / 4 / 20]
    )


def test_keypoint_errors__skips_faces_that_cannot_be_measured():
    rows, points = detection()
    no_eye = np.array([0, 1, 1, 1, 1])
    assert keypoint_errors(rows, points, BOX, labelled(weights=0)).shape == (0,)
    assert keypoint_errors(rows, points, BOX, labelled(weights=no_eye)).shape == (0,)
    assert keypoint_errors(rows, points, BOX, labelled(weights=no_eye), normalizer='box').shape == (
        1,
    )
    one_point = labelled(np.tile([[10.0, 10.0]], (5, 1)))
    assert keypoint_errors(rows, points, BOX, one_point).shape == (0,)


def test_keypoint_errors__takes_highest_scoring_detection_that_hits():
    rows, points = detection(0.5, (0, 0))
    better, better_points = detection(0.9, (0, 6))
    far = np.array([[200, 200, 40, 40, 1.0]])
    errors = keypoint_errors(
        np.concatenate([rows, far, better]),
        np.concatenate([points, points + 200, better_points]),
        BOX,
        labelled(),
    )
    assert errors == pytest.approx([6 / 20])


def test_keypoint_errors__missed_face_is_nan():
    gt = np.concatenate([BOX, BOX + np.array([100, 100, 0, 0])])
    keypoints = np.concatenate([labelled(), labelled(POINTS + 100.0)])
    errors = keypoint_errors(*detection(), gt, keypoints)
    np.testing.assert_array_equal(errors, [0, np.nan])
    none = np.empty((0, 5)), np.empty((0, 5, 2))
    assert np.isnan(keypoint_errors(*none, gt, keypoints)).all()
    assert keypoint_errors(*detection(), np.empty((0, 4)), np.empty((0, 5, 3))).shape == (0,)


def test_keypoint_errors__refuses_unknown_normalizer_and_other_keypoint_sets():
    with pytest.raises(ValueError, match='interocular or box'):
        keypoint_errors(*detection(), BOX, labelled(), normalizer='pupil')
    rows, points = detection()
    with pytest.raises(ValueError, match=r'expected 5 predicted keypoints .* found 3'):
        keypoint_errors(rows, points[:, :3], BOX, labelled())


def test_keypoint_errors__the_eyes_of_other_schemes():
    """Six points; the distance of the last two is the unit."""
    points = np.concatenate([POINTS, [[60.0, 10.0]]])
    truth = np.concatenate([points, np.ones((6, 1))], axis=1)[None]
    rows = np.array([[0, 0, 40, 40, 0.9]])
    found = points[None] + (3, 4)
    errors = keypoint_errors(rows, found, BOX, truth, eyes=(0, 5))
    assert errors == pytest.approx([5 / 50])
    for eyes in ((0, 6), (-1, 2)):
        with pytest.raises(ValueError, match='indices of two of the 6 keypoints'):
            keypoint_errors(rows, found, BOX, truth, eyes=eyes)
