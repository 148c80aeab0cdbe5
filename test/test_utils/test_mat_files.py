# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Untrusted .mat files are read in another process, within limits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mmface.utils import mat_files
from mmface.utils.mat_files import OFFICIAL, read_mat_files


def _cell(*items):
    cell = np.empty((len(items), 1), object)
    cell[:, 0] = items
    return cell


TABLE = {
    'names': _cell('one', 'zwei', ''),
    'boxes': _cell(np.arange(8, dtype=np.uint16).reshape(2, 4), np.zeros((0, 4)), np.float32(2.5)),
    'nested': _cell(_cell('a', 1), _cell()),
}


def _equal(a, b) -> bool:
    if a.dtype == object:
        return a.shape == b.shape and all(map(_equal, a.ravel(), b.ravel()))
    if a.dtype.kind == 'U':  # empty text is an array of zero strings or one
        return ''.join(a.ravel()) == ''.join(b.ravel())
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def test_read__gives_what_scipy_gives(tmp_path):
    savemat(tmp_path / 'a.mat', TABLE, do_compression=True)
    savemat(tmp_path / 'b.mat', {'names': TABLE['names']})
    fields = ('names', 'boxes', 'nested', 'missing')
    files = {tmp_path / 'a.mat': fields, tmp_path / 'b.mat': fields}
    for path, found in zip(files, read_mat_files(files), strict=True):
        expected = loadmat(path)
        assert set(found) == {key for key in expected if not key.startswith('__')}
        assert all(_equal(found[key], expected[key]) for key in found)


def test_read__official_files_are_known(reference_dir, monkeypatch):
    folder = reference_dir / 'data' / 'wider' / 'ground_truth'
    monkeypatch.setattr(subprocess, 'run', None)  # no child
    files = dict.fromkeys(sorted(folder.glob('*.mat')), ('file_list',))
    assert len(OFFICIAL) == len(files) == 4
    for found in read_mat_files(files):
        assert sum(map(len, found['file_list'].ravel())) == 3226


@pytest.mark.parametrize(
    ('table', 'found'),
    [
        ({'names': np.array([[1 + 2j]])}, 'a field of complex128'),
        ({'names': {'x': 1}}, "a field of .*'x'"),
        ({'names': np.zeros((1 << 24) + 1)}, 'hold more than 134217728 bytes'),
    ],
)
def test_read__other_content_is_refused(tmp_path, table, found):
    savemat(tmp_path / 'a.mat', table, do_compression=True)
    with pytest.raises(ValueError, match=rf'a\.mat is not a MATLAB 5 file \(.*{found}'):
        read_mat_files({tmp_path / 'a.mat': ('names',)})


def test_read__no_mat_file_at_all_is_named(tmp_path):
    (tmp_path / 'a.mat').write_bytes(b'MATLAB 5.0 MAT-file' + bytes(200))
    with pytest.raises(ValueError, match=r'a\.mat is not a MATLAB 5 file'):
        read_mat_files({tmp_path / 'a.mat': ('names',)})
    with pytest.raises(FileNotFoundError, match=r'b\.mat'):
        read_mat_files({tmp_path / 'b.mat': ('names',)})


def test_read__a_reader_that_dies_names_the_file(tmp_path, monkeypatch):
    """A stand-in for Python makes the child process die at its second file."""
    script = tmp_path / 'python'
    script.write_text('#!/bin/sh\necho \'{"fields": {}}\'\nkill -SEGV $$\n')
    script.chmod(0o755)
    for name in ('a.mat', 'b.mat'):
        savemat(tmp_path / name, TABLE)
    monkeypatch.setattr(sys, 'executable', str(script))
    with pytest.raises(ValueError, match=r'b\.mat: the process that read it ended .*status -11'):
        read_mat_files({tmp_path / name: ('names',) for name in ('a.mat', 'b.mat')})


def test_read__memory_and_size_are_limited(tmp_path, monkeypatch):
    savemat(tmp_path / 'a.mat', {'names': np.zeros(1 << 28, np.uint8)}, do_compression=True)
    with pytest.raises(ValueError, match=r'a\.mat is not a MATLAB 5 file|ended'):
        read_mat_files({tmp_path / 'a.mat': ('names',)})
    monkeypatch.setattr(mat_files, '_MAX_FILE', 100)
    with pytest.raises(ValueError, match='at most 100 bytes'):
        read_mat_files({tmp_path / 'a.mat': ('names',)})
