# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""CenterFace's crop: its position, and labels that stay on their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import results_of
from mmface.datasets.transforms import FaceAffineCrop


def make_results(height, width, bboxes=(), ignore=None) -> dict:
    bboxes = np.array(bboxes, np.float32).reshape(-1, 4)
    keypoints = np.ones((len(bboxes), 5, 3))
    keypoints[..., :2] = bboxes[:, None, :2]
    img = np.zeros((height, width, 3), np.uint8)
    # Blue grows along x and green along y, from 20 by 1 grey level per pixel.
    img[..., 0] = 20 + np.arange(width)
    img[..., 1] = 20 + np.arange(height)[:, None]
    img[..., 2] = 255
    return results_of(img, bboxes, keypoints, ignore)


PLACES = [(60, 40), (140, 80), (100.5, 60.25), (3, 117), (199, 1)]


@pytest.mark.parametrize('choice', [0.25, 0.6, 1.0, 1.3])
@pytest.mark.parametrize('size', [37, 256])
def test_crop__pixels_and_labels_stay_together(choice, size):
    """The grey levels at a keypoint tell where in the image it was."""
    scale = size / round(200 * choice)
    compared = 0
    for seed in range(80):
        np.random.seed(seed)
        results = make_results(120, 200, [[0, 0, 200, 120]])
        results['gt_keypoints'][0, :, :2] = PLACES
        results = FaceAffineCrop(size, [choice])(results)
        img = results['img'].astype(float)
        for (x, y, _), place in zip(results['gt_keypoints'][0], PLACES, strict=True):
            column, row = int(x), int(y)
            inside = 0 <= x < size and 0 <= y < size
            if not inside or img[row, column, 2] < 255:  # the edge of the image is blurred
                continue
            # A position p in the image is the middle of the index p - 1/2, here too.
            blue = img[row, column, 0] + (x - column - 0.5) / scale
            green = img[row, column, 1] + (y - row - 0.5) / scale
            assert abs(blue - (20 + place[0] - 0.5)) <= 0.75
            assert abs(green - (20 + place[1] - 0.5)) <= 0.75
            compared += 1
    assert compared >= 15


def test_crop__outside_is_black_and_labels_agree():
    np.random.seed(3)
    for _ in range(20):
        results = FaceAffineCrop(100, [1.0])(make_results(120, 200, [[0, 0, 200, 120]]))
        x1, y1, x2, y2 = results['gt_bboxes'][0]
        np.testing.assert_allclose([x2 - x1, y2 - y1], [100, 60], rtol=1e-5)
        inside = np.zeros((100, 100), bool)
        low, high = np.maximum([y1, x1], 0), np.minimum([y2, x2], 100)
        inside[int(low[0] + 1) : int(high[0] - 1), int(low[1] + 1) : int(high[1] - 1)] = True
        assert (results['img'][inside, 2] == 255).all()
        outside = np.ones((100, 100), bool)
        outside[
            max(int(low[0]) - 1, 0) : int(high[0]) + 2, max(int(low[1]) - 1, 0) : int(high[1]) + 2
        ] = False
        assert not results['img'][outside].any()


@pytest.mark.parametrize('seed', range(3))
def test_crop__is_an_affine_map_up_to_interpolation(seed):
    """The crop equals one warp of the whole image in floats, sampled at the same positions."""
    rng = np.random.default_rng(seed)
    image = np.cumsum(rng.normal(size=(90, 130, 3)), axis=1) * 8 + 128
    img = np.clip(image, 0, 255).astype(np.uint8)
    crop = FaceAffineCrop(160, [0.5])
    np.random.seed(seed)
    left, top, side = crop.draw(130, 90)
    np.random.seed(seed)
    results = crop({**make_results(90, 130), 'img': img})
    at = (np.arange(160) + 0.5) * side / 160 - 0.5
    rows, columns = at + top, at + left
    padded = np.zeros((90 + 400, 130 + 400, 3))
    padded[200:290, 200:330] = img
    r, c = np.floor(rows).astype(int) + 200, np.floor(columns).astype(int) + 200
    fr, fc = (rows % 1)[:, None, None], (columns % 1)[None, :, None]
    want = (1 - fr) * ((1 - fc) * padded[r][:, c] + fc * padded[r][:, c + 1])
    want += fr * ((1 - fc) * padded[r + 1][:, c] + fc * padded[r + 1][:, c + 1])
    # OpenCV repeats the last pixel at the border of the square.
    np.testing.assert_allclose(results['img'][2:-2, 2:-2], want[2:-2, 2:-2], atol=1)


def test_crop__shrinking_much_averages():
    """A checkerboard becomes grey; bilinear interpolation would take every fifth pixel of it."""
    img = np.zeros((640, 640, 3), np.uint8)
    img[::2, ::2] = img[1::2, 1::2] = 200
    compared = 0
    for seed in range(40):
        np.random.seed(seed)
        crop = FaceAffineCrop(64, [0.5])
        left, top, side = crop.draw(640, 640)
        if min(left, top) < 0 or max(left, top) + side > 640:
            continue
        np.random.seed(seed)
        results = crop({**make_results(640, 640), 'img': img})
        assert np.abs(results['img'].astype(int) - 100).max() <= 6  # 12 or 13 of 25
        compared += 1
    assert compared > 5


def test_draw__centres_stay_off_the_borders():
    np.random.seed(0)
    crop = FaceAffineCrop(100, [1.0])
    draws = np.array([crop.draw(100, 40) for _ in range(9000)])
    left, top, side = draws.T
    assert set(side) == {100}
    x, y = left + 50, top + 50
    # The width is 100: borders 10, 20, 25. The height is 40: 10, and 20 and 25 halved to 10 and 12.
    assert (x.min(), x.max()) == (10, 89)
    assert (y.min(), y.max()) == (10, 29)
    for value, count in ((15, 1 / 80), (22, 1 / 80 + 1 / 60), (50, 1 / 80 + 1 / 60 + 1 / 50)):
        assert np.mean(x == value) == pytest.approx(count / 3, rel=0.35)
    assert np.mean(y == 10) == pytest.approx(2 / 3 / 20, rel=0.25)


def test_draw__sides_are_of_the_long_side():
    np.random.seed(0)
    choice = [0.6, 0.85, 1.3]
    for size in ((300, 200), (200, 300)):
        sides = [FaceAffineCrop(64, choice).draw(*size)[2] for _ in range(3000)]
        for side in (180, 255, 390):
            assert sides.count(side) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize('size', [(1, 1), (1, 900), (900, 1), (2, 3), (27, 20)])
def test_draw__tiny_images(size):
    for seed in range(50):
        np.random.seed(seed)
        results = FaceAffineCrop(32, [0.3, 1.0])(make_results(*size))
        assert results['img'].shape == (32, 32, 3)


def test_faces__outside_are_dropped_and_nothing_is_cut():
    bboxes = [[0, 0, 20, 20], [-30, -30, 90, 90], [400, 400, 420, 420], [30, 30, 60, 60]]
    counts = set()
    for seed in range(60):
        np.random.seed(seed)
        results = make_results(100, 100, bboxes, [False, True, False, False])
        crop = FaceAffineCrop(200, [0.4])
        np.random.seed(seed)
        left, top, side = crop.draw(100, 100)
        np.random.seed(seed)
        results = crop(results)
        seen = [
            k
            for k, (x1, y1, x2, y2) in enumerate(bboxes)
            if x1 < left + side and x2 > left and y1 < top + side and y2 > top
        ]
        want = (np.array(bboxes)[seen] - np.array([left, top] * 2)) * (200 / side)
        np.testing.assert_allclose(results['gt_bboxes'], want.reshape(-1, 4), rtol=1e-5)
        np.testing.assert_array_equal(results['gt_ignore_flags'], np.array(seen) == 1)
        assert len(results['gt_keypoints']) == len(results['gt_bboxes_labels']) == len(seen)
        counts.add(len(seen))
    assert len(counts) > 1


def test_labels__are_not_changed_in_place():
    results = make_results(100, 100, [[10, 10, 90, 90]])
    before = {key: value.copy() for key, value in results.items()}
    arrays = dict(results)
    FaceAffineCrop(64)(results)
    for key, value in before.items():
        np.testing.assert_array_equal(arrays[key], value)


@pytest.mark.parametrize(
    'kwargs', [dict(size=0), dict(size=8, crop_choice=[]), dict(size=8, crop_choice=[0])]
)
def test_arguments__are_checked(kwargs):
    with pytest.raises(ValueError, match='expected'):
        FaceAffineCrop(**kwargs)
