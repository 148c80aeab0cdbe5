# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Files of WIDER FACE val are found by the names in its lists."""

from __future__ import annotations

import pytest

from mmface.utils.find_images import find_images


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'wider' / 'val' / 'images'
    stored = tmp_path / 'elsewhere'
    stored.mkdir()
    (stored / 'b.v2.PNG').touch()
    (folder / '0--Parade').mkdir(parents=True)
    (folder / '0--Parade' / 'a.jpg').touch()
    (folder / '0--Parade' / 'notes.txt').touch()
    (folder / '1--Fair').symlink_to(stored)  # prepared data sets consist of links
    return tmp_path / 'wider'


def test_find_images__all_of_a_data_set_or_a_folder(root):
    folder = root / 'val' / 'images'
    expected = {name: folder / name for name in ('0--Parade/a.jpg', '1--Fair/b.v2.PNG')}
    assert find_images(root) == find_images(folder) == expected
    assert list(find_images(root)) == sorted(expected)


def test_find_images__by_names_with_and_without_suffix(root):
    names = ['1--Fair/b.v2', '0--Parade/a.jpg']
    assert list(find_images(root, names)) == ['1--Fair/b.v2.PNG', '0--Parade/a.jpg']


def test_find_images__says_what_is_missing(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'1 of 2 images .*first: 0--Parade/x\.jpg'):
        find_images(root, ['0--Parade/a.jpg', '0--Parade/x.jpg'])
    with pytest.raises(FileNotFoundError, match='not a folder'):
        find_images(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no image \(\.avif'):
        find_images(tmp_path / 'empty')
