# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Zip archives are checked before they are unpacked, and errors name them."""

from __future__ import annotations

import errno
import zipfile

import pytest

from mmface.utils.archives import MAX_MEMBER, check_member, one_error


def _member(**values) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo('a.txt')
    info.compress_type, info.file_size, info.compress_size = zipfile.ZIP_DEFLATED, 100, 50
    for key, value in values.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'flag_bits': 1}, 'has a password'),
        ({'compress_type': 9}, 'compression 9 is not known'),
        ({'file_size': MAX_MEMBER + 1, 'compress_size': MAX_MEMBER}, '536870913 bytes'),
        ({'file_size': 201 << 20, 'compress_size': 1 << 20}, 'limits: .* 200 times'),
    ],
)
def test_check_member__refuses(values, message):
    with pytest.raises(ValueError, match=f'^x.zip/a.txt.*{message}'):
        check_member('x.zip', _member(**values))


def test_check_member__lets_pass_what_is_usual():
    check_member('x.zip', _member())
    check_member('x.zip', _member(file_size=1 << 20, compress_size=1100))  # small: any ratio
    check_member('x.zip', _member(file_size=30 << 20, compress_size=1 << 20))


def test_one_error__leaves_errors_of_the_disk():
    with pytest.raises(ValueError, match=r'x\.zip cannot be read .*Invalid data stream'):  # noqa: SIM117
        with one_error('x.zip'):
            raise OSError('Invalid data stream')  # bz2's
    with pytest.raises(OSError, match='No space'), one_error('x.zip'):
        raise OSError(errno.ENOSPC, 'No space left')
