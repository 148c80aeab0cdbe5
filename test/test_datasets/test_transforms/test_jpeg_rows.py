# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Image files that are decoded only down to the rows needed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from mmface.datasets.transforms.jpeg_rows import CONTEXT_ROWS, ImageFile, _Frame
from mmface.datasets.transforms.scratch import Scratch

SMOOTH = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 256, (203, 147, 3), dtype=np.uint8), (0, 0), 2
)
KINDS = {
    '4:4:4': [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    '4:2:2': [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422],
    '4:2:0': [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420],
    '4:4:0': [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440],
    '4:1:1': [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411],
    'restarts': [cv2.IMWRITE_JPEG_RST_INTERVAL, 3],
    'optimised': [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    'low quality': [cv2.IMWRITE_JPEG_QUALITY, 10],
}


@pytest.mark.parametrize('kind', KINDS)
def test_decode__the_rows_asked_for_are_those_of_the_whole_image(tmp_path, kind):
    path = str(tmp_path / 'a.jpg')
    cv2.imwrite(path, SMOOTH, KINDS[kind])
    want = cv2.imread(path)
    np.testing.assert_array_equal(ImageFile(path).decode(Scratch(), 1), want)  # the first time
    for rows in (1, 7, 8, 16, 33, 100, 170, 186, 187, 188, 203, 500):
        image = ImageFile(path)
        assert (image.height, image.width) == (203, 147)
        got = image.decode(Scratch(), rows)
        assert len(got) == (rows + CONTEXT_ROWS if rows < 203 - CONTEXT_ROWS else 203)
        np.testing.assert_array_equal(got[:rows], want[:rows])
    np.testing.assert_array_equal(ImageFile(path).decode(Scratch()), want)


def test_decode__grey_images_have_three_channels(tmp_path):
    path = str(tmp_path / 'a.jpg')
    cv2.imwrite(path, SMOOTH[..., 0])
    ImageFile(path).decode(Scratch())
    got = ImageFile(path).decode(Scratch(), 50)
    assert got.shape == (50 + CONTEXT_ROWS, 147, 3)
    np.testing.assert_array_equal(got[:50], cv2.imread(path)[:50])


@pytest.mark.parametrize('name', ['progressive.jpg', 'a.png', 'a.bmp'])
def test_decode__others_are_decoded_whole(tmp_path, name):
    path = str(tmp_path / name)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if name.endswith('jpg') else []
    cv2.imwrite(path, SMOOTH, options)
    np.testing.assert_array_equal(ImageFile(path).decode(Scratch(), 20), cv2.imread(path))


@pytest.mark.parametrize('rows', [None, 40])
def test_decode__four_colours_are_left_to_opencv(tmp_path, rows):
    path = str(tmp_path / 'a.jpg')
    Image.fromarray(SMOOTH).convert('CMYK').save(path)
    got = ImageFile(path).decode(Scratch(), rows)
    np.testing.assert_array_equal(got[:rows], cv2.imread(path)[:rows])


@pytest.mark.parametrize('rows', [None, 40])
def test_decode__damaged_pixels_are_those_that_opencv_gives(tmp_path, rows):
    path = tmp_path / 'a.jpg'
    cv2.imwrite(str(path), SMOOTH)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    path.write_bytes(data)
    got = ImageFile(str(path)).decode(Scratch(), rows)
    np.testing.assert_array_equal(got[:rows], cv2.imread(str(path))[:rows])


def test_decode__pixels_in_use_are_not_written_over(tmp_path):
    scratch, views = Scratch(), []
    for value in (10, 200):
        path = tmp_path / f'{value}.jpg'
        cv2.imwrite(str(path), np.full((40, 30, 3), value, np.uint8))
        views.append(ImageFile(str(path)).decode(scratch, 8)[2:5, ::2])
    assert [int(view.mean()) for view in views] == [10, 200]


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, 'big') + content


def _frame(marker: int, components: int) -> bytes:
    sizes = b'\x08' + (300).to_bytes(2, 'big') + (400).to_bytes(2, 'big')
    return _segment(marker, sizes + bytes([components]) + bytes(3 * components))


def _scan(components: int) -> bytes:
    return _segment(0xDA, bytes([components]) + bytes(2 * components + 3)) + bytes(20)


def test_find__where_the_height_is():
    start = b'\xff\xd8' + _segment(0xE0, b'JFIF\x00') + _segment(0xDB, bytes(65))
    data = start + _frame(0xC0, 3) + _segment(0xC4, bytes(30)) + _scan(3)
    frame = _Frame.find(data)
    assert frame[:2] == (300, 400)
    assert frame.in_rows
    assert data[frame.place : frame.place + 2] == (300).to_bytes(2, 'big')


@pytest.mark.parametrize(('marker', 'components'), [(0xC0, 1), (0xC1, 1), (0xC2, 3)])
def test_find__rows_of_several_scans_do_not_follow_each_other(marker, components):
    frame = _Frame.find(b'\xff\xd8' + _frame(marker, 3) + _scan(components))
    assert frame is not None
    assert not frame.in_rows


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\xff\xd8',
        b'\xff\xd8' + _scan(3),
        b'\xff\xd8' + _frame(0xC3, 3) + _scan(3),
        b'\xff\xd8' + _frame(0xC0, 3),
        b'\xff\xd8' + bytes(40),
    ],
    ids=['empty', 'start only', 'no frame', 'lossless', 'no scan', 'zeros'],
)
def test_find__none_where_the_layout_is_not_the_usual(data):
    assert _Frame.find(data) is None


@pytest.mark.reference
def test_decode__real_images(reference_dir):
    paths = sorted((reference_dir / 'data/wider').glob('WIDER_train/images/*/*.jpg'))[::6]
    assert len(paths) == 100
    rng = np.random.default_rng(0)
    scratch = Scratch()
    for path in paths:
        want = cv2.imread(str(path))
        rows = int(rng.integers(1, len(want) + 1))
        got = ImageFile(str(path)).decode(scratch, rows)
        np.testing.assert_array_equal(got[:rows], want[:rows])
