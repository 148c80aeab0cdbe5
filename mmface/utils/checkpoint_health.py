# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Check whether checkpoint files are intact, and find the one to resume from."""

from __future__ import annotations

import errno
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import print_log

#: First bytes of a zip archive. ``torch.save`` has written zip archives since version 1.6.
ZIP_START = b'PK\x03\x04'
PICKLE_START = b'\x80'
#: What :mod:`zipfile` raises on damaged archives. A truncated one may seek before its start.
BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)
_AGAIN = 'copy or download it again'
_EPOCH_OR_ITER = re.compile(r'(epoch|iter)_(\d+)\.pth')


def check_checkpoint_file(path: str | os.PathLike[str]) -> None:
    """Compare every record of a checkpoint with its checksum (CRC-32), without unpickling.

    torch does not check them: it reads a file with flipped bits and returns wrong weights.
    The check takes about 0.02 s for 100 MB in the page cache. Two kinds of files have no
    checksums, which is logged: those of torch before 1.6 (not a zip archive), and those saved
    with ``torch.serialization.set_crc32_options(False)``.

    Raises:
        OSError: The disk cannot be read.
        ValueError: The file is damaged or truncated. The message names the record.
    """
    file = Path(path)
    with file.open('rb') as handle:
        start = handle.read(len(ZIP_START))
    if start != ZIP_START:
        if start[:1] != PICKLE_START:
            found = f'it begins with {start!r}' if start else 'it is empty'
            raise ValueError(f'{file} is not a checkpoint written by torch.save: {found}')
        _say_unchecked(file, 'has the format of torch before 1.6, with')
        return
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if sum(record.file_size for record in records) > file.stat().st_size:
                raise ValueError('its records claim to be larger than the file')
            bad = archive.testzip() if any(record.CRC for record in records) else None
    except BROKEN_ZIP as error:
        if type(error) is OSError and error.errno != errno.EINVAL:  # a disk error
            raise
        raise ValueError(
            f'{file} is not a checkpoint, damaged, or only a part of one ({error}): {_AGAIN}'
        ) from error
    if bad is not None:
        raise ValueError(f'{file} is damaged: the checksum of {bad} does not match; {_AGAIN}')
    if not any(record.CRC for record in records):
        _say_unchecked(file, 'was saved with')


def find_resume_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """Find the newest healthy checkpoint of the run in ``work_dir``.

    The first candidate is the file that ``last_checkpoint`` names. It is looked up in
    ``work_dir`` first, so that a folder can be moved or copied. While a file is damaged or
    missing, the next older ``epoch_N.pth`` or ``iter_N.pth`` is tried. A warning is logged for
    each file that is skipped.

    Returns:
        The path, or None if no run has started there: neither a checkpoint nor
        ``last_checkpoint`` exists.

    Raises:
        FileNotFoundError: ``last_checkpoint`` exists, but no checkpoint does.
        ValueError: Every checkpoint is damaged.
    """
    folder = Path(work_dir)
    note = folder / 'last_checkpoint'
    named = _named_by(note)
    candidates = [] if named is None else [named]
    candidates += [path for path in _newest_first(folder, named) if path not in candidates]
    if not candidates:
        if note.is_file():
            raise FileNotFoundError(
                f'{note} was written by a run, but its checkpoint is missing and {folder} has no '
                'other (epoch_N.pth, iter_N.pth); name the one to resume from, or remove that file '
                'to start a new run'
            )
        return None
    if named is None:
        what = 'names no file that exists' if note.is_file() else 'is missing'
        _warn(f'{note} {what}: looking for the newest of {len(candidates)} checkpoint(s) there')
    problems = []
    for path in candidates:
        try:
            check_checkpoint_file(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            _warn(f'NOT RESUMED FROM {path}: {error}')
            continue
        if problems or named is None:
            _warn(f'resuming from {path}, the newest healthy checkpoint')
        return path
    raise ValueError(
        f'none of the {len(candidates)} checkpoints in {folder} can be read, the newest: '
        f'{problems[0]}; name a healthy one to resume from, or choose another work dir'
    )


def _named_by(note: Path) -> Path | None:
    """Return the file that ``last_checkpoint`` names, if it names one that exists."""
    try:
        name = note.read_bytes().decode().strip()
        places = (note.parent / Path(name).name, Path(name))
        return next((path for path in places if name and path.is_file()), None)
    except (OSError, ValueError):  # file missing; not text; a null character in the name
        return None


def _newest_first(work_dir: Path, named: Path | None) -> Iterator[Path]:
    """Yield checkpoints, newest first.

    They are sorted by the number in the name. Between ``epoch`` and ``iter`` files, the time of
    writing decides. A run has both only if it was stopped within an epoch.
    """
    folders = {work_dir.resolve(): work_dir}
    if named is not None:  # the checkpoint hook may use another folder
        folders.setdefault(named.parent.resolve(), named.parent)
    kinds: dict[str, list[tuple[int, Path]]] = {'epoch': [], 'iter': []}
    for folder in folders.values():
        for path in folder.glob('*.pth'):
            match = _EPOCH_OR_ITER.fullmatch(path.name)
            if match and path.is_file():
                kinds[match[1]].append((int(match[2]), path))
    lists = [[path for _, path in sorted(kind)] for kind in kinds.values()]
    while any(lists):
        lists = [paths for paths in lists if paths]
        yield max(lists, key=lambda paths: paths[-1].stat().st_mtime_ns).pop()


def _say_unchecked(file: Path, why: str) -> None:
    print_log(
        f'{file} {why} no checksums: whether its numbers are intact was not checked',
        logger='current',
        level=logging.INFO,
    )


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
