# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""A flip moves the coordinates of keypoints and swaps their names accordingly."""

from __future__ import annotations

import numpy as np

from mmface.datasets.transforms import FaceFlip

COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)], np.uint8)


def make_results() -> dict:
    """Build an image of width 40 with a spot of a different colour at each keypoint."""
    points = np.array([[8, 10], [20, 11], [15, 18], [9, 25], [19, 26]], np.float32)
    img = np.zeros((30, 40, 3), np.uint8)
    for (x, y), colour in zip(points.astype(int), COLOURS, strict=True):
        # The spot covers x - 1 to x + 1, so that x is its middle before and after the flip.
        img[y, x - 1 : x + 1] = colour
    keypoints = np.dstack([points[None], [[1, 1, 1, 0, 1]]]).astype(np.float32)
    return dict(img=img, gt_bboxes=np.array([[5, 5, 25, 29]], np.float32), gt_keypoints=keypoints)


def test_flip__names_swap_and_the_image_agrees():
    results = FaceFlip(prob=1)(make_results())
    points = results['gt_keypoints'][0, :, :2].astype(int)
    # The spots are at the keypoints. The colours of the eyes and of the corners of the mouth are
    # swapped, because the eye that was on the right is on the left now.
    found = [results['img'][y, x].tolist() for x, y in points]
    assert found == COLOURS[[1, 0, 2, 4, 3]].tolist()
    assert points[0, 0] < points[1, 0]
    assert points[3, 0] < points[4, 0]
    assert results['gt_keypoints'][0, :, 2].tolist() == [1, 1, 1, 1, 0]
    assert results['gt_bboxes'].tolist() == [[15, 5, 35, 29]]
    assert (results['flip'], results['flip_direction']) == (True, 'horizontal')


def test_flip__never_leaves_everything():
    results = FaceFlip(prob=0)(make_results())
    np.testing.assert_array_equal(results['img'], make_results()['img'])
    np.testing.assert_array_equal(results['gt_keypoints'], make_results()['gt_keypoints'])
    assert (results['flip'], results['flip_direction']) == (False, None)


def test_flip__half_of_the_images_and_the_same_for_the_same_seed():
    def draws(seed):
        np.random.seed(seed)
        return [FaceFlip()(make_results())['flip'] for _ in range(1000)]

    first = draws(0)
    assert 450 < sum(first) < 550
    assert first == draws(0) != draws(1)


def test_flip__other_numbers_of_keypoints():
    results = make_results()
    results['gt_keypoints'] = results['gt_keypoints'][:, :2]
    flipped = FaceFlip(prob=1, flip_indices=(1, 0))(results)
    assert flipped['gt_keypoints'][0].tolist() == [[20, 11, 1], [32, 10, 1]]
