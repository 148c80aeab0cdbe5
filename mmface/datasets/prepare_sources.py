# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Find the files of a data set in folders and zip archives, in any layout."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from typing import IO

from mmface.utils.archives import check_member, one_error
from mmface.utils.files import is_safe, whole_file

#: Suffixes of the images of WIDER FACE and of data sets made from it.
WIDER_SUFFIXES = ('.jpg', '.jpeg', '.png')
_WANTED = (*WIDER_SUFFIXES, '.txt', '.mat', '.json')
_ARCHIVES = re.compile(r'\.(tar|tgz|tar\.\w+|rar|7z)$')
_CHUNK = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """A file in a folder, or a member of an archive.

    Attributes:
        path: The file, or the archive.
        parts: Path components that begin with the name of the source. They tell what the file is.
        archive: The open archive, or None.
        member: The member of the archive.
    """

    path: Path
    parts: tuple[str, ...]
    archive: zipfile.ZipFile | None = None
    member: zipfile.ZipInfo | None = None

    def __str__(self) -> str:
        return f'{self.path}/{self.member.filename}' if self.member else str(self.path)

    @property
    def name(self) -> str:
        """Last component of the path."""
        return self.parts[-1]

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file for reading.

        Raises:
            ValueError: A member of an archive is damaged. It may be raised inside the block too.
        """
        if self.archive is None or self.member is None:
            with self.path.open('rb') as handle:
                yield handle
        else:
            with one_error(str(self)), self.archive.open(self.member) as handle:
                yield handle

    def read_bytes(self) -> bytes:
        """Read the whole file."""
        with self.open() as handle:
            return handle.read()

    def split(self, folders_only: int = 0) -> str | None:
        """Return ``train`` or ``val`` from the nearest component that names exactly one of them.

        Args:
            folders_only: Number of components to skip at the end.
        """
        for part in reversed(self.parts[: len(self.parts) - folders_only]):
            words = set(re.split(r'[^a-z]+', part.lower()))
            found = [s for s, names in _SPLIT_WORDS.items() if words & names]
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def place(self, target: Path, copy: bool = False) -> None:
        """Link or copy this file to ``target``: a symbolic or hard link if possible, or a copy.

        An existing file with the same content is kept. An existing link is replaced.

        Raises:
            ValueError: ``target`` exists and has other content.
        """
        if target.exists() and not target.is_symlink():
            if not self._same(target):
                raise ValueError(
                    f'{target} exists and differs from {self}: '
                    'remove it, or choose another output folder'
                )
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.member is None and not copy:
            source = self.path.resolve()
            if target.is_symlink():
                if target.resolve() == source:
                    return
                target.unlink()
            for link in (os.symlink, os.link):  # some systems allow only one of them
                try:
                    link(source, target)
                    return
                except OSError:
                    continue
        with whole_file(target) as tmp, self.open() as source_file, tmp.open('wb') as out:
            shutil.copyfileobj(source_file, out, _CHUNK)

    def _same(self, target: Path) -> bool:
        if self.member is None:
            return target.samefile(self.path) or cmp(target, self.path, shallow=False)
        if target.stat().st_size != self.member.file_size:
            return False
        check = 0
        with target.open('rb') as handle:
            while chunk := handle.read(_CHUNK):
                check = zlib.crc32(chunk, check)
        return check == self.member.CRC


_SPLIT_WORDS = {'train': {'train', 'training'}, 'val': {'val', 'validation'}}


def scan(sources: Sequence[Path], out: Path, stack: ExitStack) -> list[SourceFile]:
    """List the images, texts, ``.mat`` and JSON files of folders and zip archives.

    Args:
        sources: Folders, archives or single files. Archives inside folders are opened too.
        out: Output folder. The search skips it if it is inside a source.
        stack: Closes the archives.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: An archive is broken, is not zip, or has a member that has a password, that
            exceeds the limits of ``check_member``, or whose path leads out of the archive.
    """
    found: list[SourceFile] = []
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f'{source} does not exist: expected folders or zip archives')
        if source.is_dir():
            root = source.resolve()
            for path in _walk(source, out):
                parts = (root.name, *path.relative_to(source).parts)
                found += _files_of(path, parts, stack)
        else:
            found += _files_of(source, source.resolve().parts[-2:], stack, required=True)
    return found


def _walk(top: Path, out: Path) -> Iterator[Path]:
    """Yield the files below ``top``, sorted. Links to folders are followed, each folder once."""
    seen: set[str] = set()
    skip = os.path.realpath(out)
    if skip == os.path.realpath(top):
        skip = ''
    for folder, folders, names in os.walk(top, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen or place == skip:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith('.'))


def _files_of(
    path: Path, parts: tuple[str, ...], stack: ExitStack, required: bool = False
) -> list[SourceFile]:
    name = path.name.lower()
    if name.endswith('.zip'):
        return _members(path, parts, stack)
    if _ARCHIVES.search(name) and required:
        raise ValueError(f'{path} is not a zip archive: unpack it and pass the folder instead')
    if not name.endswith(_WANTED):
        if required:
            raise ValueError(f'{path} is not a folder, a zip archive or a label file')
        return []
    return [SourceFile(path, parts)]


def _members(path: Path, parts: tuple[str, ...], stack: ExitStack) -> list[SourceFile]:
    with one_error(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
    found = []
    for member in archive.infolist():
        inner = tuple(member.filename.rstrip('/').split('/'))
        if not is_safe(inner):
            raise ValueError(
                f'{path} holds {member.filename!r}, a path outside the archive: do not trust it'
            )
        if inner[-1].lower().endswith('.zip'):
            raise ValueError(
                f'{path} holds another archive, {inner[-1]}: unpack it and pass the folder'
            )
        hidden = any(part.startswith(('.', '__MACOSX')) for part in inner)
        if member.is_dir() or hidden or not inner[-1].lower().endswith(_WANTED):
            continue
        check_member(path, member)
        outer = (*parts[:-1], path.stem)  # WIDER_train.zip names the split like a folder
        found.append(SourceFile(path, (*outer, *inner), archive, member))
    return found
