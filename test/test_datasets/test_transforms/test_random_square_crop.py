# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The square crop: SCRFD's values and distribution. It always ends."""

from __future__ import annotations

import json
import signal
from collections import Counter

import cv2
import numpy as np
import pytest

from helpers import results_of
from mmface.datasets.transforms import FaceFlip, FaceResize, RandomSquareCrop

CROP_CHOICE = [0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
CASES = [
    f'{size}_clip{clip}_s{seed}'
    for size, first in (('480x640', 0), ('640x480', 10), ('512x512', 20))
    for clip in (0, 1)
    for seed in range(first, first + 6)
]


@pytest.fixture
def no_endless_loop():
    """Turn an endless loop into a failure."""

    def stop(*_):
        raise TimeoutError('no end after 300 s')

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def golden_input(height: int, width: int) -> dict:
    """Return the image and faces from which the golden values were computed."""
    y, x = np.mgrid[:height, :width]
    img = np.stack([(3 * x + y) % 256, (5 * y + x) % 256, (x * y) % 251], -1).astype(np.uint8)
    bboxes = [[100, 100, 180, 200], [300, 250, 360, 330], [20, 400, 50, 440], [-10, -5, 30, 40]]
    results = results_of(img, bboxes)
    places = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.8), (0.65, 0.8)])
    corners = results['gt_bboxes']
    points = corners[:, None, :2] + places * (corners[:, None, 2:] - corners[:, None, :2])
    results['gt_keypoints'] = np.dstack([points, np.ones((4, 5))]).astype(np.float32)
    results['gt_keypoints'][2] = (-1, -1, 0)
    return results


@pytest.mark.reference
@pytest.mark.parametrize('case', CASES)
def test_golden__crop_resize_and_flip(reference_dir, case):
    """The same numpy seed gives the same crop, boxes and keypoints as SCRFD's code."""
    golden = json.loads((reference_dir / 'data/scrfd/golden/pipeline.json').read_text())
    assert len(golden) == len(CASES)
    want = golden[case]
    clip = want['clip']
    results = golden_input(want['h'], want['w'])

    np.random.seed(want['seed'])
    results = RandomSquareCrop(CROP_CHOICE, clip)(results)
    assert results['img_shape'] == results['img'].shape[:2] == (want['crop_side'],) * 2
    assert len(results['gt_bboxes_labels']) == want['labels']
    np.testing.assert_allclose(results['gt_bboxes'], want['boxes'], rtol=0, atol=1e-4)
    np.testing.assert_allclose(results['gt_keypoints'], want['kps'], rtol=0, atol=1e-4)
    np.testing.assert_allclose(results['img'].mean((0, 1)), want['img_mean'], rtol=0, atol=1e-6)

    floats = cv2.resize(results['img'].astype(np.float32), (640, 640))
    results = FaceResize((640, 640), bbox_clip_border=clip)(results)
    np.testing.assert_allclose(results['scale_factor'], want['scale_factor'][:2], rtol=1e-6)
    np.testing.assert_allclose(results['gt_bboxes'], want['res_boxes'], rtol=0, atol=1e-3)
    np.testing.assert_allclose(results['gt_keypoints'], want['res_kps'], rtol=0, atol=1e-3)
    # The reference resizes floats. Rounding to uint8 moves a pixel by half a grey level, and
    # OpenCV's integer weights by a little more. The mean moves by less than that.
    np.testing.assert_allclose(
        floats.mean((0, 1), dtype=float), want['res_mean'], rtol=0, atol=2e-3
    )
    assert np.abs(results['img'] - floats).max() <= 1
    np.testing.assert_allclose(results['img'].mean((0, 1)), want['res_mean'], rtol=0, atol=0.25)

    results = FaceFlip(prob=1)(results)
    np.testing.assert_allclose(results['gt_bboxes'], want['flip_boxes'], rtol=0, atol=1e-3)
    np.testing.assert_allclose(results['gt_keypoints'], want['flip_kps'], rtol=0, atol=1e-3)


def test_crop__pixels_and_faces_stay_together():
    """A face painted in one colour is in its box after the crop; outside is the fill."""
    img = np.zeros((120, 160, 3), np.uint8)
    img[50:70, 90:120] = (10, 200, 30)
    np.random.seed(1)
    for _ in range(50):
        results = RandomSquareCrop(CROP_CHOICE)(results_of(img, [90, 50, 120, 70]))
        (x1, y1, x2, y2) = results['gt_bboxes'][0].astype(int)
        face = np.zeros(results['img_shape'], bool)
        face[y1:y2, x1:x2] = True
        np.testing.assert_array_equal((results['img'] == (10, 200, 30)).all(-1), face)
        others = {tuple(value) for value in np.unique(results['img'][~face].reshape(-1, 3), axis=0)}
        assert others <= {(0, 0, 0), (128, 128, 128)}


def test_crop__inside_the_image_is_a_view():
    img = np.zeros((100, 100, 3), np.uint8)
    cropped = RandomSquareCrop([0.5])(results_of(img, [40, 40, 60, 60]))['img']
    assert np.shares_memory(cropped, img)


def test_crop__drops_faces_whose_centre_is_outside():
    img = np.zeros((100, 200, 3), np.uint8)
    bboxes = [[10, 10, 30, 30], [150, 60, 190, 90], [12, 12, 28, 28]]
    np.random.seed(0)
    sizes = Counter()
    for _ in range(100):
        results = RandomSquareCrop([0.45], bbox_clip_border=False)(
            results_of(img, bboxes, ignore=[False, False, True])
        )
        centres = results['gt_bboxes'].reshape(-1, 2, 2).mean(1)
        assert ((centres > 0) & (centres < 45)).all()
        lengths = {len(results[key]) for key in results if key.startswith('gt_')}
        assert len(lengths) == 1
        sizes[lengths.pop()] += 1
    # The ignored face shares its centre with the first, and no square contains all three.
    assert set(sizes) == {1, 2}


def test_crop__keeps_weight_of_missing_keypoints():
    results = results_of(np.zeros((100, 100, 3), np.uint8), [40, 40, 60, 60])
    results['gt_keypoints'][0] = [[45, 45, 1], [-1, -1, 0], [50, 50, 1], [-1, -1, 0], [55, 55, 1]]
    cropped = RandomSquareCrop([0.5, 2.0])(results)
    assert cropped['gt_keypoints'][0, :, 2].tolist() == [1, 0, 1, 0, 1]
    offset = cropped['gt_bboxes'][0, :2] - 40
    np.testing.assert_array_equal(cropped['gt_keypoints'][0, 0, :2], 45 + offset)


def test_crop__clipping_can_be_turned_off():
    img = np.zeros((100, 100, 3), np.uint8)
    for clip, low in ((True, 0), (False, -100)):
        np.random.seed(3)
        results = RandomSquareCrop([0.3], clip)(results_of(img, [0, 0, 100, 100]))
        assert (results['gt_bboxes'][0, :2] <= 0).all()
        assert results['gt_bboxes'].min() >= low
        assert (results['gt_bboxes'][0, 2:] > 30).any() != clip


def test_draw__distribution_of_sides_and_positions():
    """A face in the middle of an image accepts nearly all squares of the larger choices."""
    np.random.seed(0)
    crop = RandomSquareCrop([0.8, 1.0, 1.6])
    # 100 wide, 50 high. Nearly all squares are accepted, as the centre is that of the image.
    draws = np.array([crop.draw(100, 50, np.array([[50, 25]], np.float32)) for _ in range(6000)])
    left, top, side = draws.T
    shares = [np.mean(side == s) for s in (40, 50, 80)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    # Smaller than the image: from 0 to the end of the room, exclusive; x must hold the centre.
    assert set(top[side == 40]) == set(range(10))
    assert set(left[side == 40]) == set(range(11, 50))
    # Same size: 0.
    assert set(top[side == 50]) == {0}
    # Larger than its height: from minus the room to 0, exclusive.
    assert set(top[side == 80]) == set(range(-30, 0))
    assert set(left[side == 80]) == set(range(20))
    counts = Counter(left[side == 80].tolist())
    assert max(counts.values()) / min(counts.values()) < 1.9


@pytest.mark.parametrize(
    ('shape', 'bboxes', 'ignore', 'choice'),
    [
        pytest.param((60, 80), [], [], CROP_CHOICE, id='no face'),
        pytest.param((60, 80), [[10, 10, 20, 20]], [True], CROP_CHOICE, id='all ignored'),
        pytest.param((60, 80), [[500, 500, 600, 600]], [False], CROP_CHOICE, id='face outside'),
        pytest.param(
            (60, 80), [[500, 500, 600, 600]], [False], [0.3], id='face outside, small crops'
        ),
        pytest.param((60, 80), [[-10, -10, 10, 10]], [False], [0.5], id='centre on the corner'),
        pytest.param((1, 1), [[0, 0, 1, 1]], [False], CROP_CHOICE, id='one pixel'),
        pytest.param((2, 900), [[3, 0, 9, 2]], [False], CROP_CHOICE, id='two rows'),
        pytest.param((1000, 1000), [[0, 0, 4, 4]], [False], [0.3], id='face in a far corner'),
    ],
)
def test_crop__always_ends(no_endless_loop, shape, bboxes, ignore, choice):
    np.random.seed(0)
    results = RandomSquareCrop(choice)(
        results_of(np.zeros((*shape, 3), np.uint8), bboxes, ignore=ignore)
    )
    height, width = results['img'].shape[:2]
    assert height == width == results['img_shape'][0] >= 1
    assert len(results['gt_bboxes']) == len(results['gt_keypoints']) <= len(bboxes)
    assert max(height, width) <= 2 * min(shape) + 1
    resized = FaceResize((64, 64))(results)
    assert resized['img'].shape == (64, 64, 3)


def test_crop__without_faces_is_as_random_as_with():
    np.random.seed(0)
    crop = RandomSquareCrop(CROP_CHOICE)
    none = np.zeros((0, 2), np.float32)
    assert len({crop.draw(300, 200, none) for _ in range(200)}) > 150


@pytest.mark.parametrize('choice', [[], [0.5, 0], [-1]])
def test_crop__refuses_sides_that_are_not_positive(choice):
    with pytest.raises(ValueError, match='positive'):
        RandomSquareCrop(choice)


def test_crop__with_size_equals_crop_and_resize():
    rng = np.random.default_rng(0)
    img = rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)
    bboxes = [[10, 10, 40, 50], [60, 30, 90, 80], [100, -5, 140, 60]]
    for seed in range(40):
        both = []
        for steps in (
            [RandomSquareCrop(CROP_CHOICE), FaceResize((64, 64))],
            [RandomSquareCrop(CROP_CHOICE, size=64)],
        ):
            np.random.seed(seed)
            results = results_of(img, bboxes)
            for step in steps:
                results = step(results)
            both.append({**results, 'next draw': np.random.rand()})
        two, one = both
        assert one.keys() == two.keys()
        assert one['img_shape'] == two['img_shape'] == (64, 64)
        assert one['scale_factor'] == two['scale_factor']
        assert one['next draw'] == two['next draw']
        np.testing.assert_array_equal(one['img'], two['img'])
        np.testing.assert_allclose(one['gt_bboxes'], two['gt_bboxes'], rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(one['gt_keypoints'], two['gt_keypoints'], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize('size', [None, 64])
def test_crop__reads_the_image_if_nobody_did(tmp_path, size):
    path = str(tmp_path / 'a.jpg')
    cv2.imwrite(path, cv2.resize(np.arange(35, dtype=np.uint8).reshape(5, 7), (210, 290)))
    for seed in range(20):
        both = []
        for img in (cv2.imread(path), None):
            # Only one of the two reads the size from the pixels; the labels do not contain it.
            results = results_of(np.zeros((10, 10, 3), np.uint8), [20, 30, 60, 90])
            results.update(img=img, img_path=path, height=0, width=0)
            np.random.seed(seed)
            both.append(RandomSquareCrop([0.3, 0.6, 1.4], size=size)(results))
        given, read = both
        assert read['ori_shape'] == (290, 210)
        assert (read['height'], read['width']) == (290, 210)
        assert given['img_shape'] == read['img_shape']
        for key in ('img', 'gt_bboxes', 'gt_keypoints', 'gt_bboxes_labels', 'gt_ignore_flags'):
            np.testing.assert_array_equal(given[key], read[key])


def test_crop__missing_image_is_named(tmp_path):
    results = results_of(np.zeros((10, 10, 3), np.uint8), [2, 3, 6, 9])
    results.update(img=None, img_path=str(tmp_path / 'no.jpg'))
    with pytest.raises(FileNotFoundError, match=r'no\.jpg does not exist.*prepare_widerface'):
        RandomSquareCrop([1.0])(results)


def test_draw__scale_is_what_choice_draws():
    crop = RandomSquareCrop(CROP_CHOICE)
    for seed in range(20):
        np.random.seed(seed)
        want = int(np.random.choice(CROP_CHOICE) * 200)
        np.random.seed(seed)
        assert crop.draw(300, 200, np.zeros((0, 2), np.float32))[2] == want
