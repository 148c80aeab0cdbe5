# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Finding, reading, measuring and writing images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mmface.utils.images import as_bgr, image_size, read_image, write_image


@pytest.mark.parametrize('kind', ['grey', 'alpha', '16 bit'])
def test_read_image__unusual_kinds(kind, tmp_path):
    bgr = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    stored = {
        'grey': bgr[..., 0],
        'alpha': np.dstack([bgr, bgr[..., 0]]),
        '16 bit': bgr.astype(np.uint16) * 257,
    }[kind]
    path = tmp_path / 'ä.png'
    path.write_bytes(cv2.imencode('.png', stored)[1].tobytes())
    expected = bgr[..., :1].repeat(3, axis=2) if kind == 'grey' else bgr
    np.testing.assert_array_equal(read_image(path), expected)


def test_read_image__not_an_image(tmp_path):
    whole = cv2.imencode('.jpg', np.zeros((200, 200, 3), np.uint8))[1].tobytes()
    for content in (b'', b'just a text', whole[: len(whole) // 2]):
        (tmp_path / 'a.jpg').write_bytes(content)
        with pytest.raises(ValueError, match=r'cannot be read|is cut before its end'):
            read_image(tmp_path / 'a.jpg')
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / 'b.jpg')


def test_write_image__whole_or_not_at_all(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    write_image(tmp_path / 'new' / 'a.png', image)
    np.testing.assert_array_equal(read_image(tmp_path / 'new' / 'a.png'), image)
    with pytest.raises(OSError, match='cannot be written'):
        write_image(tmp_path / 'new' / 'b.xyz', image)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['a.png']


def test_as_bgr__does_not_copy_what_is_right():
    image = np.zeros((4, 5, 3), np.uint8)
    assert np.shares_memory(as_bgr(image), image)


def test_as_bgr__takes_views():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for view in (image[..., ::-1], image[::2, ::-1], image.transpose(1, 0, 2)):
        np.testing.assert_array_equal(as_bgr(view), view)


@pytest.mark.parametrize('flags', [cv2.IMREAD_UNCHANGED, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR])
@pytest.mark.parametrize('shape', [(6, 7), (6, 7, 3), (6, 7, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_as_bgr__gives_what_opencv_reads_by_itself(tmp_path, shape, dtype, flags):
    generator = np.random.default_rng(0)
    image = generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, image)
    np.testing.assert_array_equal(as_bgr(cv2.imread(path, flags)), cv2.imread(path))


def test_as_bgr__takes_one_grey_channel():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    np.testing.assert_array_equal(as_bgr(image), np.repeat(image, 3, axis=2))


@pytest.mark.parametrize(
    'image, message',
    [
        (None, 'cv2.imread returns None'),
        ('people.jpg', 'read files with cv2.imread'),
        (np.zeros((0, 0, 3), np.uint8), r'\(0, 0, 3\): it has no pixels'),
        (np.zeros((0, 7), np.uint8), 'no pixels'),
        (np.zeros((4, 4, 3), np.float32), 'float32: expected uint8.*by 255'),
        (np.zeros((4, 4, 3), np.int64), 'int64: expected uint8'),
        (np.zeros((4, 4), bool), 'bool: expected uint8'),
        (np.zeros((4, 4, 2), np.uint8), r'\(4, 4, 2\): expected \(height, width, 3\)'),
        (np.zeros((3, 4, 5), np.uint8), r'\(3, 4, 5\): expected'),
        (np.zeros(4, np.uint8), r'\(4,\): expected'),
    ],
)
def test_as_bgr__says_what_is_wrong(image, message):
    with pytest.raises(ValueError, match=message):
        as_bgr(image)


def test_image_size__no_image(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'<html>')
    with pytest.raises(OSError, match='cannot identify'):
        image_size(tmp_path / 'a.jpg')
