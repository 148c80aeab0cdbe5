# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Search a folder for files, through links."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from mmface.utils.files import TEMPORARY


class Skipped(NamedTuple):
    """A file without a result.

    Attributes:
        path: The file.
        reason: One of a few texts, by which skipped files are counted.
        detail: The full message, empty if the reason says all.
    """

    path: Path
    reason: str
    detail: str = ''


HIDDEN = 'hidden'
BROKEN_LINK = 'link to a missing file'
NO_FILE = 'not a regular file'
UNREADABLE = 'cannot be read'


def walk(
    folder: str | os.PathLike[str], skip: Path | None = None
) -> tuple[list[Path], list[Skipped]]:
    """List the files below a folder, also through links, each folder once.

    Prepared data sets consist of links. A folder that can be reached in several ways is listed
    under its own path if it is inside ``folder``, else under the first link to it. So links in a
    circle end.

    Args:
        folder: The folder to search.
        skip: A folder that is not searched, as a resolved path.

    Returns:
        The files, sorted by path, and the entries that are not listed as files. Temporary files
        of ``whole_file`` are in neither.
    """
    files: list[Path] = []
    skipped: list[Skipped] = []
    seen: set[tuple[int, int]] = set()
    waiting = [Path(folder)]
    links: list[Path] = []  # they wait until all real folders have been seen
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        try:
            status = place.stat()
            key = (status.st_dev, status.st_ino)
            if key in seen or (skip is not None and place.resolve() == skip):
                continue
            seen.add(key)
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(Skipped(place, UNREADABLE, str(error.strerror or error)))
            continue
        for entry in entries:
            path = place / entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_symlink() and path.is_dir():
                links.append(path)
            elif (path if entry.is_symlink() else entry).is_file():
                if not TEMPORARY.fullmatch(entry.name):
                    files.append(path)
            else:
                skipped.append(Skipped(path, BROKEN_LINK if entry.is_symlink() else NO_FILE))
    return sorted(files), sorted(skipped)
