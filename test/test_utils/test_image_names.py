# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
from __future__ import annotations

import pytest

from mmface.utils.image_names import image_key, read_part


@pytest.mark.parametrize(
    ('name', 'key'),
    [
        ('e/a.jpg', 'e/a'),
        ('e/a.JPEG', 'e/a'),
        ('e/a_12.png', 'e/a_12'),
        ('e/a_jpg.jpg', 'e/a_jpg'),
        ('e\\a.jpg', 'e/a'),
        ('e/a', 'e/a'),
        ('e/v1.5_a', 'e/v1.5_a'),
    ],
)
def test_image_key__drops_only_the_extension(name, key):
    assert image_key(name) == key


def test_read_part__reads_names_and_skips_blank_lines(tmp_path):
    path = tmp_path / 'part.txt'
    path.write_text('0--A/x.jpg\n\n  1--B/y \r\n')
    assert read_part(path) == ['0--A/x.jpg', '1--B/y']


def test_read_part__errors_name_file_and_line(tmp_path):
    path = tmp_path / 'part.txt'
    path.write_text('0--A/x.jpg\nx.jpg\n')
    with pytest.raises(ValueError, match=r"part\.txt:2: expected event/name\.jpg, found 'x\.jpg'"):
        read_part(path)
    path.write_text('\n')
    with pytest.raises(ValueError, match='found none'):
        read_part(path)
    with pytest.raises(FileNotFoundError, match='expected a list of images'):
        read_part(tmp_path / 'nothing.txt')


@pytest.mark.parametrize('content', ['0--A/a.jpg'.encode('utf-16'), b'0--A/\xe4.jpg'])
def test_read_part__another_encoding_is_named(tmp_path, content):
    (tmp_path / 'part.txt').write_bytes(content)
    with pytest.raises(ValueError, match=r'part\.txt: expected a list of images in UTF-8, found'):
        read_part(tmp_path / 'part.txt')


def test_read_part__the_mark_of_utf8_is_no_part_of_a_name(tmp_path):
    (tmp_path / 'part.txt').write_bytes('0--A/a.jpg\n'.encode('utf-8-sig'))
    assert read_part(tmp_path / 'part.txt') == ['0--A/a.jpg']
