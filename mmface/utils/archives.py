# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Limits of zip archives from strangers, and one error for all that can be wrong with them."""

from __future__ import annotations

import errno
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

#: Bytes of a member, unpacked. The largest that is wanted, a label file, has below 100 MB.
MAX_MEMBER = 512 << 20
#: How many times larger than packed; images 1, label files up to 30 times. Not for small ones.
MAX_RATIO = 200
_SMALL = 1 << 20
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 1  # bit of the flags
#: What zipfile and the libraries behind it raise on damaged archives.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
    LookupError,
    OverflowError,
)


@contextmanager
def one_error(place: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a damaged archive makes Python raise into a ValueError that names it.

    Args:
        place: The archive, or archive and member.
    """
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk, where it is read from or written to
        raise ValueError(
            f'{place} cannot be read from its zip archive ({error or type(error).__name__}): it is '
            'damaged or not complete, get it again'
        ) from error


def check_member(archive: str | os.PathLike[str], member: zipfile.ZipInfo) -> None:
    """Refuse, before anything is unpacked, what cannot or should not be.

    Raises:
        ValueError: The member has a password, an unknown compression, or is far too large.
    """
    place, remedy = f'{archive}/{member.filename}', 'unpack it yourself and give the folder'
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f'{place} has a password: {remedy}')
    if member.compress_type not in _KINDS:
        raise ValueError(f'{place}: compression {member.compress_type} is not known: {remedy}')
    if member.file_size > MAX_MEMBER or member.file_size > max(
        _SMALL, MAX_RATIO * member.compress_size
    ):
        raise ValueError(
            f'{place} would unpack to {member.file_size} bytes of {member.compress_size} (limits: '
            f'{MAX_MEMBER} bytes, {MAX_RATIO} times): if you trust it, {remedy}'
        )
