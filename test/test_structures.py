# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Keypoints move together with the image."""

from __future__ import annotations

import numpy as np
import pytest

from mmface.structures import (
    FLIP_INDICES_5,
    Face,
    clip_points,
    flip_bboxes,
    flip_keypoints,
    scale_keypoints,
    translate_keypoints,
)

POINTS = np.array(
    [[[10, 20, 1], [30, 21, 0], [20, 30, 1], [12, 40, 1], [28, 41, 1]]], dtype=np.float32
)


def test_flip__swaps_left_and_right_with_their_weights():
    flipped = flip_keypoints(POINTS, 100)
    # By hand: the point at x = 30 is at 70 after the flip and is now the left eye.
    expected = [[70, 21, 0], [90, 20, 1], [80, 30, 1], [72, 41, 1], [88, 40, 1]]
    np.testing.assert_array_equal(flipped[0], expected)
    assert POINTS[0, 0, 0] == 10, 'the input is changed'


def test_flip__twice_is_the_start():
    np.testing.assert_array_equal(flip_keypoints(flip_keypoints(POINTS, 64), 64), POINTS)
    boxes = np.array([[-3, 1, 20, 9]], np.float32)
    np.testing.assert_array_equal(flip_bboxes(flip_bboxes(boxes, 64), 64), boxes)


def test_flip_bboxes__keeps_x1_left_of_x2():
    boxes = np.array([[10, 1, 30, 9]], np.float32)
    np.testing.assert_array_equal(flip_bboxes(boxes, 100), [[70, 1, 90, 9]])


@pytest.mark.parametrize('indices', [(0, 1), (1, 0, 2, 4, 4), (1, 2, 3, 4, 5)])
def test_flip__refuses_indices_that_are_no_order(indices):
    with pytest.raises(ValueError, match='5 keypoints'):
        flip_keypoints(POINTS, 100, indices)


def test_flip__other_numbers_of_points():
    points = np.array([[[10, 0, 1], [90, 0, 1]]], np.float32)
    np.testing.assert_array_equal(flip_keypoints(points, 100, (1, 0)), points)


def test_scale_and_translate__leave_the_weight():
    scaled = scale_keypoints(POINTS, (2, 0.5))
    np.testing.assert_array_equal(scaled[0, 1], [60, 10.5, 0])
    moved = translate_keypoints(POINTS, (-5, 1))
    np.testing.assert_array_equal(moved[0, 0], [5, 21, 1])
    assert scaled.dtype == moved.dtype == np.float32


def test_clip_points__per_axis():
    points = np.array([[-4, 7], [50, 90]], np.float32)
    np.testing.assert_array_equal(clip_points(points, (0, 8), (40, 60)), [[0, 8], [40, 60]])


def test_helpers__accept_no_faces():
    none = np.zeros((0, 5, 3), np.float32)
    for result in (flip_keypoints(none, 9), scale_keypoints(none, (2, 2))):
        assert result.shape == (0, 5, 3)


def test_face__has_no_keypoints_by_default():
    assert Face(np.zeros(4, np.float32), 0.5).keypoints is None
    assert sorted(FLIP_INDICES_5) == [0, 1, 2, 3, 4]
