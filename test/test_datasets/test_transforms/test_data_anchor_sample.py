# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Data-anchor sampling: the distribution of ratios, the labels, and small faces."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import results_of
from mmface.datasets.transforms import DataAnchorSample


def make_results(bboxes, ignore=None, size=(300, 400)) -> dict:
    bboxes = np.array(bboxes, np.float32).reshape(-1, 4)
    keypoints = np.ones((len(bboxes), 5, 3))
    keypoints[..., :2] = bboxes.reshape(-1, 2, 2).mean(axis=1)[:, None]
    # Each column of pixels has a different value.
    ramp = np.arange(size[1]) * (240 / size[1])
    img = np.broadcast_to(ramp[None, :, None], (*size, 3)).astype(np.uint8)
    return results_of(img, bboxes, keypoints, ignore)


CHENJUN = dict(anchors=[16, 32, 48, 64, 96, 128, 256, 512], max_choices=5)
MINDSPORE = dict(
    anchors=[16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 128, 256, 512],
    max_choices=11,
    min_keypoint_area=8,
)


@pytest.mark.parametrize(
    ('kind', 'side', 'targets'),
    [
        (CHENJUN, 10, [16]),
        (CHENJUN, 24, [16]),  # equally near to 16 and 32: the first is chosen
        (CHENJUN, 30, [16, 32]),
        (CHENJUN, 100, [16, 32, 48, 64, 96]),
        (CHENJUN, 2000, [16, 32, 48, 64, 96]),
        (MINDSPORE, 30, [16, 24, 32]),
        (MINDSPORE, 300, [16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96]),
    ],
)
def test_draw__a_smaller_anchor_within_an_octave(kind, side, targets):
    """Sides are in units of the smallest possible side; the test checks each octave's frequency."""
    np.random.seed(0)
    sample = DataAnchorSample(**kind)
    box = np.array([[5, 5, 4 + side, 4 + side]], np.float32)  # sqrt((w + 1)(h + 1)) is side
    sides = np.array([sample.draw(400, 300, box) * side for _ in range(4000)])
    assert sides.min() >= targets[0] / 2
    assert sides.max() <= targets[-1] * 2
    octaves = np.log2(np.array(targets))
    # Quantiles of the mixture of uniform distributions over octave - 1 to octave + 1.
    grid = np.linspace(octaves[0] - 1, octaves[-1] + 1, 200)
    expected = np.clip((grid[:, None] - octaves + 1) / 2, 0, 1).mean(axis=1)
    observed = (np.log2(sides)[:, None] <= grid).mean(axis=0)
    assert np.abs(observed - expected).max() < 0.035


def test_draw__side_counts_the_last_pixel():
    np.random.seed(0)
    sample = DataAnchorSample([16, 32], 1)
    boxes = np.array([[0, 0, 31, 7]], np.float32)  # sqrt(32 * 8) = 16
    ratios = np.array([sample.draw(400, 300, boxes) for _ in range(2000)])
    np.testing.assert_allclose([ratios.min(), ratios.max()], [0.5, 2], atol=0.01)


def test_area_cap():
    np.random.seed(0)
    sample = DataAnchorSample(**CHENJUN, max_side=100)
    ratios = [sample.draw(400, 300, np.array([[0, 0, 9, 9]], np.float32)) for _ in range(200)]
    # Without the cap all ratios would be at least 0.8.
    np.testing.assert_allclose(ratios, 100 / np.sqrt(400 * 300))
    results = sample(make_results([[0, 0, 9, 9]]))
    height, width = results['img'].shape[:2]
    assert height * width == pytest.approx(100**2, rel=0.01)


def test_transform__labels_go_with_the_pixels():
    np.random.seed(0)
    sizes = set()
    for _ in range(60):
        results = DataAnchorSample(**CHENJUN)(make_results([[100, 50, 250, 200]]))
        height, width = results['img'].shape[:2]
        sizes.add((height, width))
        assert results.get('img_shape', (300, 400)) == (height, width)
        expected = [width / 4, height / 6, width / 1.6, height / 1.5]
        np.testing.assert_allclose(results['gt_bboxes'][0], expected, rtol=1e-5)
        np.testing.assert_allclose(
            results['gt_keypoints'][0, 0, :2], [175 / 400 * width, 125 / 300 * height], rtol=1e-5
        )
        # The ramp has this value at the left edge of the box: 0.6 grey levels per pixel.
        column = int(expected[0])
        assert abs(int(results['img'][height // 2, column, 0]) - 60) <= 0.6 * 400 / width + 2
    assert len(sizes) > 20


def test_transform__images_are_never_enlarged():
    np.random.seed(0)
    before = make_results([[0, 0, 7, 7]])
    enlarged = 0
    for seed in range(40):
        np.random.seed(seed)
        ratio = DataAnchorSample(**CHENJUN).draw(400, 300, before['gt_bboxes'])
        np.random.seed(seed)
        results = DataAnchorSample(**CHENJUN)(dict(before))
        enlarged += ratio > 1
        assert ratio > 1  # side 8: from 1 to 4
        assert results['img'] is before['img']
        np.testing.assert_array_equal(results['gt_bboxes'], before['gt_bboxes'])
    assert enlarged == 40


@pytest.mark.parametrize(('kind', 'limit'), [(CHENJUN, 16), (MINDSPORE, 8)])
def test_small_faces__lose_their_keypoints_in_the_unit_of_the_resized_image(kind, limit):
    sample = DataAnchorSample(**kind)
    bboxes = [[0, 0, 99, 99], *([10, 10, 10 + side, 10 + side] for side in range(1, 60))]
    ignore = [False] + [True] * 59  # the large one is chosen
    seen = set()
    for seed in range(40):
        np.random.seed(seed)
        ratio = sample.draw(400, 300, np.array(bboxes[:1], np.float32))
        np.random.seed(seed)
        results = sample(make_results(bboxes, ignore))
        areas = np.array([99, *range(1, 60)]) ** 2 * ratio**2
        np.testing.assert_array_equal(
            results['gt_keypoints'][..., 2], np.repeat(areas[:, None] > limit, 5, axis=1)
        )
        seen.add(int((areas <= limit).sum()))
    assert len(seen) > 5


def test_small_faces__also_where_the_image_would_be_enlarged():
    """Faces of 3 x 3 px stay below 16 only up to a ratio of 4/3."""
    kept = []
    for seed in range(100):
        np.random.seed(seed)
        ratio = DataAnchorSample(**CHENJUN).draw(400, 300, np.array([[0, 0, 15, 15]], np.float32))
        np.random.seed(seed)
        results = DataAnchorSample(**CHENJUN)(
            make_results([[0, 0, 15, 15], [30, 30, 33, 33]], [False, True])
        )
        kept.append(results['gt_keypoints'][1, 0, 2])
        assert kept[-1] == (ratio > 4 / 3)
    assert 20 < sum(kept) < 60


def test_transform__never_changes_its_labels_in_place():
    results = make_results([[100, 50, 250, 200], [5, 5, 7, 7]])
    arrays = {key: results[key] for key in ('img', 'gt_bboxes', 'gt_keypoints')}
    copies = {key: value.copy() for key, value in arrays.items()}
    for seed in range(20):
        np.random.seed(seed)
        DataAnchorSample(**CHENJUN)(dict(results))
    for key, value in arrays.items():
        np.testing.assert_array_equal(value, copies[key])


@pytest.mark.parametrize(
    ('bboxes', 'ignore'), [([], []), ([[10, 10, 200, 200]], [True])], ids=['none', 'ignored']
)
def test_transform__without_a_face_to_learn(bboxes, ignore):
    before = make_results(bboxes, ignore)
    results = DataAnchorSample(**CHENJUN)(dict(before))
    assert results['img'] is before['img']
    np.testing.assert_array_equal(results['gt_keypoints'], before['gt_keypoints'])


@pytest.mark.parametrize(
    ('size', 'box'), [((1, 900), [0, 0, 900, 1]), ((2000, 3), [0, 0, 3, 2000])]
)
def test_transform__at_least_one_pixel_is_left(size, box):
    for seed in range(30):
        np.random.seed(seed)
        results = DataAnchorSample(**CHENJUN)(make_results([box], size=size))
        assert min(results['img'].shape[:2]) >= 1
        np.testing.assert_allclose(results['gt_bboxes'][0, 2:], results['img'].shape[1::-1])


@pytest.mark.parametrize(('anchors', 'choices'), [([], 1), ([16, 16], 1), ([0, 8], 1), ([16], 0)])
def test_arguments__are_checked(anchors, choices):
    with pytest.raises(ValueError, match='expected'):
        DataAnchorSample(anchors, choices)
