# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/alignment.py."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.alignment import MAX_RESIDUAL, TEMPLATE, align_face, crop_face, similarity, template
from mmface.structures import Face


def _turned(points, degrees, scale=2.0, shift=(60, 50)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((points - points.mean(0)) @ turn.T * scale + shift).astype(np.float32)


def _fitted(transform, points):
    if hasattr(transform.SimilarityTransform, 'from_estimate'):  # since 0.26
        return transform.SimilarityTransform.from_estimate(points, template(112))
    oracle = transform.SimilarityTransform()
    oracle.estimate(points, template(112))
    return oracle


def _box(points):
    """Return a box around the points, larger in the way of a face."""
    low, high = points.min(0), points.max(0)
    grow = 0.5 * (high - low).max()
    return np.concatenate([low - grow, high + grow]).astype(np.float32)


@pytest.fixture
def image():
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize('seed', range(20))
def test_similarity__the_bits_of_scikit_image(seed):
    transform = pytest.importorskip('skimage.transform')
    rng = np.random.default_rng(seed)
    points = _turned(TEMPLATE, rng.uniform(-180, 180), rng.uniform(0.05, 9))
    points += rng.normal(0, 1, points.shape).astype(np.float32)
    oracle = _fitted(transform, points)
    np.testing.assert_array_equal(similarity(points, template(112))[0], oracle.params[:2])


def test_similarity__points_on_a_line_as_scikit_image():
    transform = pytest.importorskip('skimage.transform')
    points = TEMPLATE.copy()
    points[:, 0] = 50
    oracle = _fitted(transform, points)
    matrix, residual = similarity(points, template(112))
    np.testing.assert_allclose(matrix, oracle.params[:2], atol=1e-9)
    assert abs(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))) < 0.5  # a profile stays upright
    assert residual < MAX_RESIDUAL


@pytest.mark.parametrize(
    ('size', 'left_eye'),
    [
        (112, (38.2946, 51.6963)),
        (128, (46.2946, 51.6963)),
        (224, (76.5892, 103.3926)),
        (256, (92.5892, 103.3926)),
    ],
)
def test_template__sizes(size, left_eye):
    np.testing.assert_allclose(template(size)[0], left_eye, atol=1e-4)


@pytest.mark.parametrize('size', [0, -112, 100, 160])
def test_template__other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f'size {size}: expected a multiple of 112 or 128'):
        template(size)


@pytest.mark.parametrize('degrees', [0, 30, -75, 170])
def test_align__brings_the_points_to_the_template(degrees, image):
    points = _turned(TEMPLATE, degrees, 0.5)
    dots = np.zeros_like(image)
    for x, y in points:
        cv2.circle(dots, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
    face = Face(_box(points), 0.9, points)
    aligned = face.align(dots, 112)
    assert aligned.shape == (112, 112, 3)
    assert all(aligned[round(float(y)), round(float(x))].max() > 150 for x, y in TEMPLATE)


@pytest.mark.parametrize(
    ('order', 'name'),
    [((1, 0, 2, 4, 3), 'mirrored'), ((1, 0, 2, 3, 4), 'eyes'), ((0, 1, 2, 4, 3), 'mouth')],
)
def test_align__refuses_mirrored_and_exchanged_points(order, name, image):
    points = _turned(TEMPLATE, 10)[list(order)]
    with pytest.raises(ValueError, match='mirrored or exchanged'):
        align_face(image, _box(points), points)


def test_align__refuses_points_that_are_no_face(image):
    points = _turned(TEMPLATE, 0)
    box = _box(points)
    with pytest.raises(ValueError, match='within 0 pixels of each other'):
        align_face(image, box, np.full((5, 2), 30, np.float32))
    with pytest.raises(ValueError, match='cannot be aligned'):
        align_face(image, box, _turned(TEMPLATE, 0, 0.02))
    points[2, 0] = np.nan
    with pytest.raises(ValueError, match='not finite'):
        align_face(image, box, points)
    with pytest.raises(ValueError, match='needs five keypoints, found none'):
        Face(box, 0.9).align(image)
    with pytest.raises(ValueError, match=r'found shape \(4, 2\)'):
        Face(box, 0.9, points[:4]).align(image)


def test_crop__touched_pixels_inside_the_image(image):
    def crop(*box, margin=0.0):
        return crop_face(image, np.array(box, np.float32), margin)

    np.testing.assert_array_equal(crop(10.2, 20.9, 30.1, 40), image[20:40, 10:31])
    np.testing.assert_array_equal(crop(10, 20, 30, 60, margin=0.1), image[16:64, 8:32])
    np.testing.assert_array_equal(crop(-9, -9, 500, 30), image[:30])
    cut = crop(0, 0, 5, 5)
    cut[:] = 0
    assert image[:5, :5].any()  # a copy
    for box in ((200, 0, 220, 20), (10, 10, 10, 20), (np.nan, 0, 5, 5)):
        with pytest.raises(ValueError):
            crop(*box)
    with pytest.raises(ValueError, match='margin -1'):
        crop(0, 0, 5, 5, margin=-1)


def test_face__to_dict():
    face = Face(np.array([1.234, 2, 3, 4.999], np.float32), 0.98765, np.ones((5, 2), np.float32))
    expected = {'bbox': [1.23, 2.0, 3.0, 5.0], 'score': 0.9877, 'keypoints': [[1.0, 1.0]] * 5}
    assert face.to_dict() == expected
    assert Face(face.bbox, 0.5).to_dict()['keypoints'] is None
