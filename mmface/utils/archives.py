# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Limits for untrusted zip archives, and a single error type for all their faults."""

from __future__ import annotations

import errno
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

#: Unpacked bytes of a member. The largest file needed, a label file, is below 100 MB.
MAX_MEMBER = 512 << 20
#: Unpacked over packed size: images 1, label files up to 30. Not checked for small members.
MAX_RATIO = 200
_SMALL = 1 << 20
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 1  # bit of the flags of a member
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
    """Turn every exception of a damaged archive into a ValueError that names the archive.

    Args:
        place: The archive, or archive and member.
    """
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # a disk error
        raise ValueError(
            f'{place} cannot be read from its zip archive ({error or type(error).__name__}): it is '
            'damaged or incomplete, get it again'
        ) from error


def check_member(archive: str | os.PathLike[str], member: zipfile.ZipInfo) -> None:
    """Check a member before it is unpacked.

    Raises:
        ValueError: The member has a password, an unknown compression, or is far too large.
    """
    place, remedy = f'{archive}/{member.filename}', 'unpack it yourself and pass the folder'
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f'{place} has a password: {remedy}')
    if member.compress_type not in _KINDS:
        raise ValueError(f'{place}: compression {member.compress_type} is not known: {remedy}')
    if member.file_size > MAX_MEMBER or member.file_size > max(
        _SMALL, MAX_RATIO * member.compress_size
    ):
        raise ValueError(
            f'{place} unpacks to {member.file_size} bytes from {member.compress_size} (limits: '
            f'{MAX_MEMBER} bytes, {MAX_RATIO} times): if you trust it, {remedy}'
        )
