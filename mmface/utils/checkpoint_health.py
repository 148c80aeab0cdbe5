# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Whether checkpoint files are whole, and which one a run goes on from."""

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

#: How a zip archive begins, the form in which ``torch.save`` writes since version 1.6.
ZIP_START = b'PK\x03\x04'
PICKLE_START = b'\x80'
#: What :mod:`zipfile` raises on damaged archives; a cut one may seek in front of its start.
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
    """Compare every record of a checkpoint with its checksum (CRC-32); nothing is unpickled.

    torch does not look at them: it reads a file with flipped bits and gives other weights.
    Costs about 0.02 s for 100 MB that are in the page cache. Two kinds of files have nothing to
    compare with, which is logged: those of torch before 1.6 (no zip archive), and those saved
    with ``torch.serialization.set_crc32_options(False)``.

    Raises:
        OSError: The disk cannot be read.
        ValueError: The file is damaged or cut short; names the record.
    """
    file = Path(path)
    with file.open('rb') as handle:
        start = handle.read(len(ZIP_START))
    if start != ZIP_START:
        if start[:1] != PICKLE_START:
            found = f'it begins with {start!r}' if start else 'it is empty'
            raise ValueError(f'{file} is not a checkpoint written by torch.save: {found}')
        _say_unchecked(file, 'is of the format of torch before 1.6, which has')
        return
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if sum(record.file_size for record in records) > file.stat().st_size:
                raise ValueError('its records say they are larger than the file')
            bad = archive.testzip() if any(record.CRC for record in records) else None
    except BROKEN_ZIP as error:
        if type(error) is OSError and error.errno != errno.EINVAL:  # of the disk, not of the file
            raise
        raise ValueError(
            f'{file} is not a checkpoint, damaged, or only a part of one ({error}): {_AGAIN}'
        ) from error
    if bad is not None:
        raise ValueError(f'{file} is damaged: the checksum of {bad} does not fit; {_AGAIN}')
    if not any(record.CRC for record in records):
        _say_unchecked(file, 'was saved with')


def find_resume_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """Find the newest healthy checkpoint of the run in ``work_dir``.

    That is the one ``last_checkpoint`` names, looked for in ``work_dir`` first, so that a folder
    may be moved or copied; or else, as long as a file is damaged or missing, the next older
    ``epoch_N.pth`` or ``iter_N.pth``. A warning is logged for each that is passed over.

    Returns:
        The path, or None if no run has begun there: neither a checkpoint nor ``last_checkpoint``.

    Raises:
        FileNotFoundError: ``last_checkpoint`` is there, but no checkpoint.
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
                f'{note} was written by a run, but its checkpoint is gone and {folder} has no '
                'other (epoch_N.pth, iter_N.pth); name the one to go on from, or remove that file '
                'to start anew'
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
        f'{problems[0]}; name a healthy one to go on from, or choose another work dir'
    )


def _named_by(note: Path) -> Path | None:
    """Return the file that ``last_checkpoint`` names, if it names one that exists."""
    try:
        name = note.read_bytes().decode().strip()
        places = (note.parent / Path(name).name, Path(name))
        return next((path for path in places if name and path.is_file()), None)
    except (OSError, ValueError):  # no such file; no text; a null character
        return None


def _newest_first(work_dir: Path, named: Path | None) -> Iterator[Path]:
    """List checkpoints, those saved last first.

    By the number in the name; by the time of writing between ``epoch`` and ``iter``, of which
    a run has both only if it was stopped within an epoch.
    """
    folders = {work_dir.resolve(): work_dir}
    if named is not None:  # a checkpoint hook with a folder of its own
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
        f'{file} {why} no checksums: that its numbers are undamaged was not checked',
        logger='current',
        level=logging.INFO,
    )


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
