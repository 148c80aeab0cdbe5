# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/utils/sources.py."""

from __future__ import annotations

import os
from pathlib import Path

import PIL.Image
import pytest

from mmface.utils.sources import (
    Source,
    count_reasons,
    find_sources,
    local_path,
    read_source,
    result_path,
)


@pytest.fixture
def photos(tmp_path):
    """Create a folder with images in two levels, a video, a hidden file and a text."""
    root = tmp_path / 'photos'
    (root / 'sub').mkdir(parents=True)
    for name in ('b.jpg', 'a.PNG', 'sub/c.webp', 'clip.mp4', '.hidden.jpg', 'notes.txt'):
        (root / name).touch()
    return root


def _names(found):
    return [source.name.as_posix() for source in found.sources]


def _reasons(found):
    return {item.path.name: item.reason for item in found.skipped}


def test_find_sources__folder(photos):
    found = find_sources([photos])
    assert _names(found) == ['photos/a.PNG', 'photos/b.jpg', 'photos/sub/c.webp']
    assert _reasons(found) == {
        '.hidden.jpg': 'hidden',
        'clip.mp4': 'a video',
        'notes.txt': 'not an image',
    }
    found = find_sources([photos], videos=True)
    assert [source.name.name for source in found.sources if source.is_video] == ['clip.mp4']
    assert all(source.path.is_file() for source in found.sources)
    assert count_reasons(found.skipped) == '1 hidden, 1 not an image or video'
    found = find_sources([photos], skip=photos / 'sub')
    assert _names(found) == ['photos/a.PNG', 'photos/b.jpg']


def test_find_sources__files_keep_their_order(photos):
    found = find_sources([photos / 'notes.txt', photos / 'b.jpg'])
    assert _names(found) == ['notes.txt', 'b.jpg']


def test_find_sources__each_page_of_a_tiff_file(tmp_path):
    pages = [PIL.Image.new('RGB', (8, 6), (40 * i, 0, 0)) for i in range(11)]
    pages[0].save(tmp_path / 'scan.tif', save_all=True, append_images=pages[1:])
    sources = find_sources([tmp_path / 'scan.tif']).sources
    assert [source.page for source in sources] == list(range(11))
    assert sources[0].name == Path('scan.page01.tif')
    assert sources[10].name == Path('scan.page11.tif')
    assert [read_source(sources[i])[0, 0].tolist() for i in (0, 2)] == [[0, 0, 0], [0, 0, 80]]


@pytest.mark.parametrize('videos', [True, False])
def test_find_sources__animations_are_videos(videos, tmp_path):
    frames = [PIL.Image.new('RGB', (8, 6), (90 * i, 0, 0)) for i in range(2)]
    (tmp_path / 'in').mkdir()
    frames[0].save(tmp_path / 'in/moves.gif', save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / 'in/still.gif')
    found = find_sources([tmp_path / 'in'], videos)
    assert [s.path.name for s in found.sources if not s.is_video] == ['still.gif']
    assert [s.path.name for s in found.sources if s.is_video] == ['moves.gif'] * videos
    assert _reasons(found) == ({} if videos else {'moves.gif': 'several frames'})


def test_find_sources__not_a_pipe(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(ValueError, match='is a device or pipe'):
        find_sources([tmp_path / 'pipe'])


def test_find_sources__nothing_there(photos, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='holds no image'):
        find_sources([tmp_path / 'empty'])
    with pytest.raises(FileNotFoundError, match='does not exist'):
        find_sources([photos / 'x.jpg'])


def test_find_sources__same_result_twice(photos):
    (photos / 'sub' / 'b.jpg').touch()
    with pytest.raises(ValueError, match='would have the same result'):
        find_sources([photos / 'b.jpg', photos / 'sub' / 'b.jpg'])


@pytest.mark.parametrize('url', ['http://a.org/x.jpg', 'https:/a.org/x', 'S3://b/x.jpg'])
def test_local_path__refuses_urls(url):
    with pytest.raises(ValueError, match='is a URL'):
        local_path(url)


def test_local_path__windows_drive_is_no_url():
    assert local_path('C:\\photos\\a.jpg') == 'C:\\photos\\a.jpg'


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('a.jpg', 'a.jpg'), ('b/a.TIF', 'b/a.TIF'), ('a.pgm', 'a.pgm.png'), ('a.gif', 'a.gif.png')],
)
def test_result_path__format_by_suffix(name, expected, tmp_path):
    assert result_path(Source(Path('in', name), Path(name)), tmp_path) == tmp_path / expected


def test_result_path__never_the_input(tmp_path):
    image = tmp_path / 'a.jpg'
    with pytest.raises(ValueError, match='would be overwritten'):
        result_path(Source(image, Path('a.jpg')), tmp_path / 'x' / '..')


@pytest.mark.parametrize('name', ['a.gif', 'a.MOV', 'a.mp4'])
def test_result_path__videos_become_mp4(name, tmp_path):
    source = Source(Path('in', name), Path(name), 'video')
    expected = name if name.endswith('.mp4') else f'{name}.mp4'
    assert result_path(source, tmp_path) == tmp_path / expected
