# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read the images of a bulk run: tar shards (WebDataset), lists of files and folders."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmface.utils.file_kinds import kind_of_content
from mmface.utils.pillow import heif_installed
from mmface.utils.sources import (
    HEIF_REMEDY,
    IS_VIDEO,
    NEEDS_HEIF,
    NO_IMAGE,
    SEVERAL_FRAMES,
    Source,
    find_sources,
    local_path,
)
from mmface.utils.walk import UNREADABLE, Skipped, walk

#: Larger members of a tar file are not read. Bytes.
MAX_MEMBER = 256 << 20
NO_TAR = 'beside tar files'
#: Reasons for which a file has a row with an error: it would be an image of the results.
UNUSED = (NEEDS_HEIF, SEVERAL_FRAMES, IS_VIDEO, UNREADABLE)
_BLOCK = 512


class Entry(NamedTuple):
    """An image of a shard.

    Attributes:
        name: Name of the member, or path of the file.
        content: Bytes of the file, ``None`` for a file that is still to be read.
        problem: Why the image is not used, empty if it is.
        source: A page of a file with several pages, which is still to be read.
    """

    name: str
    content: bytes | None = None
    problem: str = ''
    source: Source | None = None


class Shard(NamedTuple):
    """A part of a bulk run, whose results are one file.

    Attributes:
        name: Name of the results, without suffix.
        tar: A tar file, or ``None``.
        files: The files of a list or folder: only the path of an ordinary image.
    """

    name: str
    tar: Path | None
    files: tuple[str | Entry, ...] = ()

    def entries(self, others: list[Skipped]) -> Iterator[Entry]:
        """Iterate over the images.

        Args:
            others: Gets the members of a tar file that are not images.

        Raises:
            ValueError: The tar file is compressed, damaged or cut.
        """
        if self.tar is not None:
            return read_tar(self.tar, others)
        return (each if isinstance(each, Entry) else Entry(each) for each in self.files)


def find_shards(
    inputs: Iterable[str], part: int = 0, parts: int = 1, others: list[Skipped] | None = None
) -> list[Shard]:
    """List the shards of one of several runs that share the work.

    Each tar file is a shard, also in folders. The files of a list (``@list.txt``, one path a line)
    or the images of a folder without tar files are cut into ``parts`` shards of which this run
    gets one.

    Args:
        inputs: Tar files, folders and lists.
        part: Index of this run, from 0.
        parts: Number of runs.
        others: Gets the files of the folders that are in no shard, in every run.

    Raises:
        FileNotFoundError: An input does not exist.
        ValueError: Two shards have the same name, or an input is empty.
    """
    tars: list[Path] = []
    lists: list[tuple[str, tuple[str | Entry, ...]]] = []
    others = [] if others is None else others
    for given in inputs:
        path = Path(local_path(given.removeprefix('@')))
        if given.startswith('@'):
            lists.append((path.stem, tuple(read_list(path))))
        elif path.is_dir():
            there, skipped = walk(path)
            inside = [file for file in there if file.suffix == '.tar']
            tars += inside
            if inside:
                others += [Skipped(file, NO_TAR) for file in there if file.suffix != '.tar']
                others += skipped
            else:
                lists.append((path.resolve().name, _list_folder(path, others)))
        elif path.is_file():
            tars.append(path)
        else:
            raise FileNotFoundError(f'{given} does not exist: expected a tar file, folder or @list')
    # A name says where the results go, so it comes from the path that the user gave.
    shards = [Shard(path.stem, path) for path in tars]
    origins = [(shard.name, str(shard.tar)) for shard in shards]
    origins += [(name, f'the list or folder {name}') for name, _ in lists]
    seen: dict[str, str] = {}
    for name, origin in origins:
        if name in seen:
            raise ValueError(
                f'{seen[name]} and {origin} would have the same result, '
                f'{name}.parquet: run them into different folders'
            )
        seen[name] = origin
    shards = shards[part::parts]
    for name, files in lists:
        start, stop = len(files) * part // parts, len(files) * (part + 1) // parts
        suffix = f'.{part}-of-{parts}' if parts > 1 else ''
        shards.append(Shard(f'{name}{suffix}', None, files[start:stop]))
    return shards


def _list_folder(folder: Path, others: list[Skipped]) -> tuple[str | Entry, ...]:
    """List the images of a folder, and what looks like one but cannot be used, by path."""
    found = find_sources([folder])
    rows: list[tuple[Path, str | Entry]] = []
    for source in found.sources:
        path = source.path.with_name(source.name.name)
        page = None if source.page is None else Entry(str(path), source=source)
        rows.append((path, page or str(path)))
    for item in found.skipped:
        if item.reason in UNUSED:
            text = f'{item.reason}: {item.detail}' if item.detail else item.reason
            rows.append((item.path, Entry(str(item.path), problem=text)))
        else:
            others.append(item)
    return tuple(row for _, row in sorted(rows, key=lambda each: each[0]))


def read_list(path: Path) -> list[str]:
    """Read a list of files, one path a line. Empty lines are skipped.

    Raises:
        FileNotFoundError: The list does not exist.
        ValueError: It is empty, not UTF-8, or has a URL.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: expected a list of files, one path a line')
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not UTF-8 text: expected one path a line') from error
    files = [local_path(line.strip()) for line in lines if line.strip()]
    if not files:
        raise ValueError(f'{path} lists no file: expected one path a line')
    return files


def read_tar(path: Path, others: list[Skipped]) -> Iterator[Entry]:
    """Iterate over the images of a tar file. Nothing is unpacked.

    Args:
        path: An uncompressed tar file, so that a small file cannot stand for endless data.
        others: Gets the members that are not images.

    Raises:
        ValueError: The file is not a tar file, or is compressed, damaged or cut.
    """
    try:
        with tarfile.open(path, 'r:') as archive:
            for member in archive:
                if member.isdir():
                    continue
                entry = _read_member(archive, member, path)
                if entry.problem == NO_IMAGE:
                    others.append(Skipped(Path(f'{path}/{member.name}'), NO_IMAGE))
                else:
                    yield entry
                vars(archive)['members'].clear()  # else millions of headers stay in memory
            _check_end(path, archive.offset)
    except tarfile.TarError as error:
        raise ValueError(
            f'{path} cannot be read as a tar file ({error}): expected an uncompressed tar file; '
            'unpack .tar.gz with gunzip, and copy a damaged file again'
        ) from error


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Entry:
    if not member.isreg() or member.issparse():
        return Entry(member.name, problem=NO_IMAGE)
    if member.size > MAX_MEMBER:
        return Entry(member.name, problem=f'{member.size:,} bytes, more than {MAX_MEMBER:,}')
    file = archive.extractfile(member)
    content = file.read() if file is not None else b''
    if len(content) < member.size:
        raise tarfile.ReadError('unexpected end of data')
    kind = kind_of_content(content, member.name)
    if kind is None:
        return Entry(member.name, problem=NO_IMAGE)
    if kind == 'heif' and not heif_installed():
        return Entry(member.name, problem=f'{NEEDS_HEIF}: {HEIF_REMEDY}')
    if kind in ('video', 'animation'):
        return Entry(member.name, problem=SEVERAL_FRAMES)
    return Entry(member.name, content)


def _check_end(path: Path, offset: int) -> None:
    """Check that reading ended at the end marker: tarfile stops silently at a damaged header.

    Raises:
        tarfile.ReadError: There is no block of zeros at ``offset``, or something behind it.
    """
    with path.open('rb') as file:
        file.seek(offset)
        rest = file.read(2 * _BLOCK)
    if len(rest) < _BLOCK or any(rest):
        raise tarfile.ReadError(f'no end marker at byte {offset}, where the last member ends')
