# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write files whole or not at all, and only where the user said."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: What a part of a path may not hold: the separator and drives of Windows, the end of a C string.
_UNSAFE = re.compile(r'[\\\0]|^[A-Za-z]:')


def is_safe(parts: Sequence[str]) -> bool:
    """Return whether path components stay inside the folder they are joined to, on any system."""
    return bool(parts) and not any(
        part in ('', '.', '..') or _UNSAFE.search(part) for part in parts
    )


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the path of ``name`` in ``folder``. Every writer that gets a name from data asks here.

    Names in label files, manifests, archives and models are data. They may choose a file in the
    folder that the user named, and nothing else.

    Args:
        folder: The folder that the user chose.
        name: Relative path with forward slashes, such as ``event/name.txt``.

    Raises:
        ValueError: The name is empty, absolute, or leads out of the folder on some system.
    """
    if not is_safe(name.split('/')):
        raise ValueError(
            f'the name {name[:120]!r} comes from a data file and leads out of {folder}: expected a '
            "relative path such as 'event/name.jpg', without '..', backslashes and colons; nothing "
            'was written for it, correct the name in the label file or manifest'
        )
    return Path(folder, name)


@contextmanager
def whole_file(path: str | os.PathLike[str], sync: bool = True) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and rename it to ``path`` at the end.

    A reader never sees half a file, and a failure (exception, full disk) leaves
    whatever stood at ``path`` before untouched. Parent folders are made.

    Args:
        path: The name the file gets once the block has ended without an exception.
        sync: Whether to wait until the content is on the disk, so that not even a power
            failure leaves an empty file. Costs milliseconds; off for thousands of small files.

    Yields:
        The temporary name to write to. It has the suffix of ``path``, so that writers
        that look at the suffix (OpenCV, matplotlib, numpy) behave.

    Example:
        >>> with whole_file('out/metrics.json') as tmp:
        ...     tmp.write_text('{}')
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=f'.{target.stem}.', suffix=target.suffix)
    os.close(fd)
    tmp = Path(name)
    try:
        yield tmp
        umask = os.umask(0)
        os.umask(umask)
        tmp.chmod(0o666 & ~umask)
        if sync:
            with tmp.open('rb') as handle:
                os.fsync(handle.fileno())
        tmp.replace(target)
    finally:
        with suppress(FileNotFoundError):
            tmp.unlink()


def write_text(path: str | os.PathLike[str], text: str, sync: bool = True) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; see ``whole_file``."""
    with whole_file(path, sync) as tmp:
        tmp.write_text(text, encoding='utf-8')
