# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of mmface/utils/walk.py."""

from __future__ import annotations

import os

import pytest

from mmface.utils.files import whole_file
from mmface.utils.walk import walk


def _listed(root, **options):
    files, skipped = walk(root, **options)
    return (
        [path.relative_to(root).as_posix() for path in files],
        {item.path.relative_to(root).as_posix(): item.reason for item in skipped},
    )


def test_walk__links_once_and_never_in_a_circle(tmp_path):
    root, outside = tmp_path / 'root', tmp_path / 'outside'
    (root / 'z').mkdir(parents=True)
    outside.mkdir()
    (outside / 'far.jpg').touch()
    (outside / 'back').symlink_to(root)  # a circle
    (root / 'z' / 'near.jpg').touch()
    (root / 'a_link').symlink_to(root / 'z')  # z is listed under its own path
    (root / 'b_link').symlink_to(outside)
    (root / 'c_link').symlink_to(outside)  # a second way to the same folder
    (root / 'file.jpg').symlink_to(outside / 'far.jpg')
    (root / 'self').symlink_to(root)
    (root / 'lost.jpg').symlink_to(tmp_path / 'nothing')
    (root / 'loop.jpg').symlink_to(root / 'loop.jpg')
    assert _listed(root) == (
        ['b_link/far.jpg', 'file.jpg', 'z/near.jpg'],
        {'lost.jpg': 'link to a missing file', 'loop.jpg': 'link to a missing file'},
    )


def test_walk__pipes_temporary_files_and_the_folder_to_skip(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'result.jpg').touch()
    os.mkfifo(tmp_path / 'pipe')
    with whole_file(tmp_path / 'a.txt') as tmp:
        tmp.touch()
        listed = _listed(tmp_path, skip=(tmp_path / 'out').resolve())
    assert listed == ([], {'pipe': 'not a regular file'})


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read every folder')
def test_walk__folder_without_permission(tmp_path):
    (tmp_path / 'closed').mkdir(mode=0)
    assert _listed(tmp_path) == ([], {'closed': 'cannot be read'})
