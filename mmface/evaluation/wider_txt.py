# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read and write detections in the text form of WIDER FACE.

A file ``<event>/<image>.txt`` for each image: the image name, the number of detections,
then a line ``x y w h score`` for each, in pixels of the original image. The name of
the *file* says which image it is, because the first line comes in many spellings.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.utils.files import inside, write_text

_COLUMNS = 5  # x y w h score; keypoints behind them are not read
#: Limits of an archive in bytes. The benchmark has 3,226 images, a file has a line for each face.
_MAX_MEMBER = 64 << 20
_MAX_TOTAL = 1 << 30
#: What tarfile and what it decompresses with raise on damaged archives.
_BROKEN_TAR = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


class Predictions(NamedTuple):
    """What ``read_predictions`` found."""

    rows: dict[str, NDArray[np.float64]]
    """By ``event/stem``: shape (n, 5), x, y, w, h in pixels and score."""
    extra: int
    """Files of images that the ground truth does not know; they are not read."""
    notes: list[str]
    """Warnings, a sentence each."""


def detection_rows(
    bboxes: NDArray[np.floating], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], int]:
    """Return faces as the evaluation takes them.

    Args:
        bboxes: (n, 4) x1, y1, x2, y2.
        scores: (n,).

    Returns:
        Rows (m, 5) x, y, w, h, score, and how many were left out because of a NaN or infinite
        number, which the evaluation cannot rank.
    """
    corners = np.asarray(bboxes, np.float64).reshape(-1, 4)
    with np.errstate(invalid='ignore'):  # infinite corners: NaN sides
        sides = corners[:, 2:] - corners[:, :2]
    rows = np.concatenate([corners[:, :2], sides, np.reshape(scores, (-1, 1))], axis=1)
    finite = np.isfinite(rows).all(axis=1)
    return rows[finite], len(rows) - int(finite.sum())


def write_wider_txt(folder: str | os.PathLike[str], name: str, rows: NDArray[np.floating]) -> None:
    """Write the detections of one image, the whole file or nothing.

    Args:
        folder: Where to; missing folders are made.
        name: Image name without extension, ``event/stem``; the file is ``<folder>/<name>.txt``.
        rows: Shape (n, 5): x, y, w, h in pixels and score.

    Raises:
        ValueError: The name leads out of ``folder``.
        OSError: The file cannot be written.
    """
    path = inside(folder, f'{name}.txt')
    stem = name.rpartition('/')[2]
    # Nine digits give a float32 score back exactly, so that ranks survive.
    lines = [f'{x:.5f} {y:.5f} {w:.5f} {h:.5f} {score:.9g}' for x, y, w, h, score in rows.tolist()]
    write_text(path, '\n'.join([stem, str(len(lines)), *lines, '']), sync=False)


def read_predictions(
    source: str | os.PathLike[str], gt: WiderGroundTruth | None = None
) -> Predictions:
    """Read the detections of a folder or a tar archive.

    Tabs, commas, several blanks and further columns are accepted, and a file without any
    line has no detections.

    Args:
        source: Folder (searched at any depth) or ``.tar``/``.tar.gz`` of files
            ``<event>/<image>.txt``.
        gt: Read only the images of this ground truth; None reads all.

    Raises:
        FileNotFoundError: ``source`` does not exist or holds no such file.
        ValueError: Two files for one image, or a row with fewer than five columns or with
            something else than finite numbers; the message gives file and line.
    """
    texts, extra = _read_texts(Path(source), gt)
    bodies: list[bytes] = []
    wrong_counts: list[str] = []
    for where, text in texts.values():
        count, body = _split_header(where, text)
        if count is not None and count != body.count(b'\n') != 0:
            found = sum(1 for line in body.splitlines() if line.strip())
            if found != count:
                wrong_counts.append(f'{where}: {count} announced, {found} found')
        bodies.append(body)
    tables = _parse_all(bodies)
    if tables is None:
        tables = [
            _parse_carefully(where, body)
            for (where, _), body in zip(texts.values(), bodies, strict=True)
        ]
    notes = []
    if wrong_counts:
        notes.append(
            f'{len(wrong_counts)} files have another number of rows than their second line '
            f'says, all rows are used (first: {wrong_counts[0]})'
        )
    return Predictions(dict(zip(texts, tables, strict=True)), extra, notes)


def _read_texts(
    source: Path, gt: WiderGroundTruth | None
) -> tuple[dict[str, tuple[str, bytes]], int]:
    """Read files as ``event/stem -> (place, content)`` and count those of unknown images."""
    texts: dict[str, tuple[str, bytes]] = {}
    seen = extra = 0
    for event, file, place, read in _list_files(source):
        stem, _, suffix = file.rpartition('.')
        if suffix != 'txt':
            continue
        seen += 1
        key = f'{event}/{stem}'
        if gt is not None and key not in gt.index:
            extra += key not in gt.known
            continue
        if key in texts:
            raise ValueError(
                f'expected one file for each image, found {texts[key][0]} and {place}; '
                'give the folder of one set of predictions'
            )
        texts[key] = (place, read())
    if not seen:
        raise FileNotFoundError(f'expected files <event>/<image>.txt in {source}, found none')
    return texts, extra


def _list_files(source: Path) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    """Give folder name, file name, place and a reader of every file of a folder or archive."""
    if source.is_dir():
        for folder, _, files in os.walk(source):
            event = Path(folder).name
            for file in files:
                if file.startswith('.'):  # the left-over of a killed write
                    continue
                place = f'{folder}/{file}'
                yield event, file, place, Path(place).read_bytes
    elif source.is_file():
        yield from _list_members(source)
    else:
        raise FileNotFoundError(f'predictions {source} do not exist')


def _list_members(source: Path) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    """Do what ``_list_files`` does for an archive; each file is to be read before the next one."""

    def checked(read: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except _BROKEN_TAR as error:
            raise ValueError(
                f'{source}: expected a folder or a tar archive of predictions ({error})'
            ) from error

    total = 0
    with checked(tarfile.open, source) as archive:
        while (member := checked(archive.next)) is not None:
            # Links to other members are not followed.
            if not member.isreg():
                continue
            total += member.size
            if member.size > _MAX_MEMBER or total > _MAX_TOTAL:
                raise ValueError(
                    f'{source}: expected detections, found {member.name!r} of {member.size} bytes '
                    f'(limits: {_MAX_MEMBER} each, {_MAX_TOTAL} in all)'
                )
            inside = Path(member.name)
            stream = checked(archive.extractfile, member)
            read = partial(checked, stream.read)
            yield inside.parent.name, inside.name, f'{source}:{member.name}', read


def _split_header(where: str, text: bytes) -> tuple[int | None, bytes]:
    """Take name and count lines off; the rest ends with a line end unless it is empty."""
    name_end = text.find(b'\n')
    if name_end < 0:
        return None, b''
    count_end = text.find(b'\n', name_end + 1)
    if count_end < 0:
        count_end = len(text)
    line = text[name_end + 1 : count_end]
    body = text[count_end + 1 :]
    if not line.strip() and not body.strip():
        return None, b''
    try:
        count = int(line)
    except ValueError:
        raise ValueError(
            f'{where}:2: expected the number of detections, found '
            f'{line.decode("utf-8", "replace").strip()!r}; the first line of a file is the image '
            'name, the second the number of rows'
        ) from None
    return count, body if body.endswith(b'\n') or not body else body + b'\n'


def _parse_all(bodies: list[bytes]) -> list[NDArray[np.float64]] | None:
    """Parse well-formed files all at once; None if one of them needs a closer look."""
    counts = [body.count(b'\n') for body in bodies]
    total = sum(counts)
    if not total:
        return [np.empty((0, _COLUMNS))] * len(bodies)
    try:
        lines = b''.join(bodies).decode('ascii').split('\n')
        table = np.loadtxt(lines, comments=None, usecols=range(_COLUMNS), ndmin=2)
    except ValueError:  # too few columns, not a number, not ASCII
        return None
    # Blank lines are skipped by loadtxt and would shift the rows of later files.
    if len(table) != total or not np.isfinite(table).all():
        return None
    return np.split(table, np.cumsum(counts[:-1]))


def _parse_carefully(where: str, body: bytes) -> NDArray[np.float64]:
    """Parse one file line by line, with file and line in the message of an error."""
    rows = []
    for number, line in enumerate(body.decode('utf-8', 'replace').split('\n'), 3):
        cells = line.replace(',', ' ').split()
        if not cells:
            continue
        if len(cells) < _COLUMNS:
            raise ValueError(
                f'{where}:{number}: expected x y w h score, found {len(cells)} columns: '
                f'{line.strip()!r}'
            )
        try:
            row = [float(cell) for cell in cells[:_COLUMNS]]
        except ValueError:
            row = [float('nan')]
        if not np.isfinite(row).all():
            raise ValueError(
                f'{where}:{number}: expected five finite numbers x y w h score, found '
                f'{line.strip()!r}; remove or repair the row'
            )
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, _COLUMNS)
