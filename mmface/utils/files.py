# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
