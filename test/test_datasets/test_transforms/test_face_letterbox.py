# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The letterbox and the mapping back to the original image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.datasets.transforms import FaceLetterbox, LoadFaceAnnotations, PackFaceInputs

SIZES = [(200, 120), (120, 200), (131, 131), (1, 77), (640, 333)]


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize(('width', 'height'), SIZES)
def test_letterbox__position_in_the_square(width, height, aligned):
    size = 160
    img = np.full((height, width, 3), 255, np.uint8)
    results = FaceLetterbox(size, aligned)(dict(img=img))
    scale = size / max(width, height)
    assert results['scale_factor'] == (scale, scale)
    assert results['img_shape'] == results['img'].shape[:2] == (size, size)
    x, y = results['pad_offset']
    np.testing.assert_allclose([2 * x + width * scale, 2 * y + height * scale], size)
    # The brightness of the whole square equals the area of the image in it.
    area = results['img'][..., 0].sum(dtype=float) / 255
    if aligned and min(width, height) > 1:
        assert area == pytest.approx(width * height * scale**2, rel=0.01)


@pytest.mark.parametrize('size', [96, 160, 416])
def test_letterbox__positions_are_those_of_edges(size):
    """Blue is 1 grey level per pixel along x, so it tells where each pixel came from."""
    img = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (120, 200, 3))
    results = FaceLetterbox(size)(dict(img=np.ascontiguousarray(img)))
    x, y = results['pad_offset']
    scale = results['scale_factor'][0]
    index = np.arange(round(x + 3 * scale) + 1, int(x + 197 * scale))
    want = (index + 0.5 - x) / scale - 0.5
    row = results['img'][round(y + 60 * scale), index, 0]
    assert np.abs(row - want).max() <= 0.6


@pytest.mark.parametrize(('width', 'height'), SIZES)
def test_letterbox__not_aligned_gives_the_pixels_of_the_reference(width, height):
    """Use the three points of CenterNet's get_affine_transform: middle, top and side."""
    img = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side, half = max(width, height), 400
    centre = np.array([width / 2, height / 2], np.float32)
    source = np.stack([centre, centre - [0, side / 2], centre - [side / 2, side / 2]])
    target = np.array([[half, half], [half, 0], [0, 0]], np.float32)
    matrix = cv2.getAffineTransform(source.astype(np.float32), target)
    want = cv2.warpAffine(img, matrix, (800, 800), flags=cv2.INTER_LINEAR)
    got = FaceLetterbox(800, aligned=False)(dict(img=img))['img']
    # getAffineTransform solves for the matrix, with an error of about 1e-6. OpenCV rounds
    # positions to 1/32 px.
    assert np.mean(got != want) < 1e-3


def test_letterbox__meta_reaches_the_sample():
    results = dict(
        img=np.zeros((60, 80, 3), np.uint8), img_path='a', img_id='a', ori_shape=(60, 80)
    )
    results = LoadFaceAnnotations()(FaceLetterbox(160)(results))
    sample = PackFaceInputs()(results)['data_samples']
    assert sample.pad_offset == (0, 20)
    assert sample.scale_factor == (2, 2)


def test_letterbox__labels_come_later():
    img = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(ValueError, match='LoadFaceAnnotations'):
        FaceLetterbox(32)(LoadFaceAnnotations()(dict(img=img)))
    with pytest.raises(ValueError, match='at least 1'):
        FaceLetterbox(0)
