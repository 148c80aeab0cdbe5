# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Finding, reading and writing pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmface.utils.images import (
    Source,
    find_sources,
    local_path,
    read_picture,
    result_path,
    write_picture,
)


@pytest.fixture
def photos(tmp_path):
    """A folder with pictures in two levels, a video, a hidden file and a text."""
    root = tmp_path / 'photos'
    (root / 'sub').mkdir(parents=True)
    for name in ('b.jpg', 'a.PNG', 'sub/c.webp', 'clip.mp4', '.hidden.jpg', 'notes.txt'):
        (root / name).touch()
    return root


def _names(sources):
    return [source.name.as_posix() for source in sources]


def test_find_sources__folder(photos):
    assert _names(find_sources([photos])) == ['photos/a.PNG', 'photos/b.jpg', 'photos/sub/c.webp']
    found = find_sources([photos], videos=True)
    assert [s.name.name for s in found if s.is_video] == ['clip.mp4']
    assert all(source.path.is_file() for source in found)
    assert _names(find_sources([photos], skip=photos / 'sub')) == ['photos/a.PNG', 'photos/b.jpg']


def test_find_sources__files_keep_their_order(photos):
    assert _names(find_sources([photos / 'notes.txt', photos / 'b.jpg'])) == ['notes.txt', 'b.jpg']


def test_find_sources__nothing_there(photos, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='holds no picture'):
        find_sources([tmp_path / 'empty'])
    with pytest.raises(FileNotFoundError, match='does not exist'):
        find_sources([photos / 'x.jpg'])


def test_find_sources__same_result_twice(photos):
    (photos / 'sub' / 'b.jpg').touch()
    with pytest.raises(ValueError, match='would have the same result'):
        find_sources([photos / 'b.jpg', photos / 'sub' / 'b.jpg'])


@pytest.mark.parametrize('url', ['http://a.org/x.jpg', 'https:/a.org/x', 'S3://b/x.jpg'])
def test_local_path__refuses_urls(url):
    with pytest.raises(ValueError, match='is a URL: nothing is fetched'):
        local_path(url)


def test_local_path__windows_drive_is_no_url():
    assert local_path('C:\\photos\\a.jpg') == 'C:\\photos\\a.jpg'


@pytest.mark.parametrize(
    ('name', 'expected'), [('a.jpg', 'a.jpg'), ('b/a.TIF', 'b/a.TIF'), ('a.pgm', 'a.pgm.png')]
)
def test_result_path__format_by_suffix(name, expected, tmp_path):
    assert result_path(Source(Path('in', name), Path(name)), tmp_path) == tmp_path / expected


def test_result_path__never_the_input(tmp_path):
    picture = tmp_path / 'a.jpg'
    with pytest.raises(ValueError, match='would be overwritten'):
        result_path(Source(picture, Path('a.jpg')), tmp_path / 'x' / '..')


@pytest.mark.parametrize('kind', ['grey', 'alpha', '16 bit'])
def test_read_picture__unusual_kinds(kind, tmp_path):
    bgr = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    stored = {
        'grey': bgr[..., 0],
        'alpha': np.dstack([bgr, bgr[..., 0]]),
        '16 bit': bgr.astype(np.uint16) * 257,
    }[kind]
    path = tmp_path / 'ä.png'
    path.write_bytes(cv2.imencode('.png', stored)[1].tobytes())
    expected = bgr[..., :1].repeat(3, axis=2) if kind == 'grey' else bgr
    np.testing.assert_array_equal(read_picture(path), expected)


def test_read_picture__not_a_picture(tmp_path):
    whole = cv2.imencode('.jpg', np.zeros((200, 200, 3), np.uint8))[1].tobytes()
    for content in (b'', b'just a text', whole[: len(whole) // 2]):
        (tmp_path / 'a.jpg').write_bytes(content)
        with pytest.raises(ValueError, match='cannot be read'):
            read_picture(tmp_path / 'a.jpg')
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / 'b.jpg')


def test_write_picture__whole_or_not_at_all(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    write_picture(tmp_path / 'new' / 'a.png', image)
    np.testing.assert_array_equal(read_picture(tmp_path / 'new' / 'a.png'), image)
    with pytest.raises(OSError, match='cannot be written'):
        write_picture(tmp_path / 'new' / 'b.xyz', image)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['a.png']
