# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Write files whole or not at all, and only where the user allowed."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# Part of every temporary name, so that no other file is mistaken for a temporary one.
_MARK = 'mmface-tmp-'
TEMPORARY = re.compile(rf'\..*\.{_MARK}[a-z0-9_]{{8}}(\.[^.]+)?')

#: Forbidden in a path component: separator and drives of Windows, the end of a C string.
_UNSAFE = re.compile(r'[\\\0]|^[A-Za-z]:')


def is_safe(parts: Sequence[str]) -> bool:
    """Return whether path components stay inside the folder they are joined to, on any system."""
    return bool(parts) and not any(
        part in ('', '.', '..') or _UNSAFE.search(part) for part in parts
    )


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """Return the path of ``name`` in ``folder``. Every writer with a name from data calls this.

    Names in label files, manifests, archives and models are data. They may only select a file
    inside the folder that the user chose.

    Args:
        folder: The folder that the user chose.
        name: Relative path with forward slashes, such as ``event/name.txt``.

    Raises:
        ValueError: The name is empty, absolute, or leads out of the folder on some system.
    """
    if not is_safe(name.split('/')):
        raise ValueError(
            f'the name {name[:120]!r} comes from a data file and leads out of {folder}: expected a '
            "relative path such as 'event/name.jpg', without '..', drives and backslashes; nothing "
            'was written for it, correct the name in the label file or manifest'
        )
    return Path(folder, name)


@contextmanager
def whole_file(path: str | os.PathLike[str], sync: bool = True) -> Iterator[Path]:
    """Yield a temporary name next to ``path`` and rename it to ``path`` at the end.

    A reader never sees an incomplete file. A failure (exception, full disk) leaves an existing
    file at ``path`` unchanged. Parent folders are created.

    Args:
        path: Name of the file after the block has ended without an exception.
        sync: Whether to wait until the content is on the disk, so that even a power
            failure does not leave an empty file. Takes milliseconds; disable it for thousands of
            small files.

    Raises:
        OSError: The file cannot be written. The message names ``path``.

    Yields:
        The temporary name to write to. It has the suffix of ``path``, because some writers
        (OpenCV, matplotlib, numpy) depend on the suffix.

    Example:
        >>> with whole_file('out/metrics.json') as tmp:
        ...     tmp.write_text('{}')
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f'.{target.stem}.{_MARK}'
    with _named(target, target.parent):
        fd, tmp = _create(target.parent, prefix, target.suffix)
    try:
        # Held until the block ends in any way: tells remove_leftovers that the writer is alive.
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH)
        with _named(target, tmp):
            yield tmp
            if sync:
                with tmp.open('rb') as handle:
                    os.fsync(handle.fileno())
            tmp.replace(target)
    finally:
        with suppress(FileNotFoundError):
            tmp.unlink()
        os.close(fd)


def _create(folder: Path, prefix: str, ending: str) -> tuple[int, Path]:
    """Create an empty file with a new name. Its mode follows the umask, as with ``open``.

    ``tempfile`` ignores the umask, which can only be read by setting it, for all threads at once.
    """
    while True:
        path = folder / f'{prefix}{secrets.token_hex(4)}{ending}'
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), path


@contextmanager
def _named(target: Path, tmp: Path) -> Iterator[None]:
    """Make errors name the target file: a full disk names no file, other errors name ``tmp``."""
    try:
        yield
    except OSError as error:
        named = error.filename
        if isinstance(named, str | os.PathLike) and tmp not in (Path(named), Path(named).parent):
            raise
        if error.errno is None:  # raised by numpy
            if str(target) in str(error):
                raise
            raise OSError(f'{target} could not be written: {error}') from error
        raise OSError(error.errno, error.strerror, str(target)) from error


def write_text(path: str | os.PathLike[str], text: str, sync: bool = True) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; see ``whole_file``."""
    with whole_file(path, sync) as tmp:
        tmp.write_text(text, encoding='utf-8')


def remove_leftovers(folder: str | os.PathLike[str], recursive: bool = False) -> int:
    """Remove the temporary files of ``whole_file`` whose writers were killed.

    A writer locks its file (``flock``), and the kernel unlocks it when the writer ends for any
    reason. So a file that can be locked has no writer and is removed. On a file system without
    locks, nothing is removed.

    Args:
        folder: Folder to search. It may be missing.
        recursive: Whether to search all subfolders too.

    Returns:
        Number of files removed.
    """
    removed = 0
    for path in Path(folder).rglob('.*') if recursive else Path(folder).glob('.*'):
        if not TEMPORARY.fullmatch(path.name) or path.is_symlink():
            continue
        with suppress(OSError), path.open('r+b') as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed += 1
    return removed
