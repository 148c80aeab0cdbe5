# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The stretch of Star-Clouds to an image whose sides fit the strides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.datasets.transforms import FaceStretch, LoadFaceAnnotations


@pytest.mark.parametrize(
    ('size', 'scale', 'shape'),
    [
        ((1024, 678), None, (704, 1024)),
        ((1024, 704), None, (704, 1024)),
        ((1, 33), None, (64, 32)),
        ((1024, 678), (640, 640), (448, 640)),  # fitted to 640 x 424 first
        ((678, 1024), (1100, 1650), (1664, 1120)),  # fitted to 1092 x 1650 first
        ((4000, 3), (640, 640), (32, 640)),
    ],
)
def test_stretch__sides_are_multiples(size, scale, shape):
    width, height = size
    img = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    results = FaceStretch(32, scale)(dict(img=img))
    assert results['img_shape'] == results['img'].shape[:2] == shape
    assert results['scale_factor'] == (shape[1] / width, shape[0] / height)
    np.testing.assert_array_equal(results['img'], cv2.resize(img, shape[::-1]))


def test_stretch__large_images_are_shrunk():
    img = np.zeros((300, 400, 3), np.uint8)
    results = FaceStretch(max_pixels=30_000)(dict(img=img))
    assert results['img_shape'] == (160, 224)  # 150 x 200, to multiples of 32
    assert results['scale_factor'] == (224 / 400, 160 / 300)
    assert FaceStretch(max_pixels=120_000)(dict(img=img))['img_shape'] == (320, 416)
    with pytest.raises(ValueError, match='max_pixels 0: expected'):
        FaceStretch(max_pixels=0)


def test_stretch__labels_come_later():
    img = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(ValueError, match='LoadFaceAnnotations'):
        FaceStretch()(LoadFaceAnnotations()(dict(img=img)))


@pytest.mark.reference
def test_stretch__golden_factors(reference_dir):
    folder = reference_dir / 'data/centerface/golden'
    golden = np.load(folder / 'golden_000388_1024x704_boxes.npz')
    results = FaceStretch(32)(dict(img=cv2.imread(str(folder / '000388.jpg'))))
    assert results['img_shape'] == (704, 1024)
    np.testing.assert_allclose(results['scale_factor'], golden['scale_xy'], rtol=1e-6)
