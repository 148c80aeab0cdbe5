# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Read and write detections in the text format of WIDER FACE.

There is one file ``<event>/<image>.txt`` per image. It contains the image name, the number of
detections, then one line ``x y w h score`` per detection, in pixels of the original image. The
name of the *file* identifies the image, because its first line has many spellings.
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

_COLUMNS = 5  # x y w h score; keypoints after them are not read
#: Limits of an archive in bytes. The benchmark has 3,226 images, and a file has one line per face.
_MAX_MEMBER = 64 << 20
_MAX_TOTAL = 1 << 30
#: Exceptions of tarfile and its decompressors for damaged archives.
_BROKEN_TAR = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError)


class Predictions(NamedTuple):
    """Result of ``read_predictions``."""

    rows: dict[str, NDArray[np.float64]]
    """Arrays by ``event/stem``, shape (n, 5): x, y, w, h in pixels and score."""
    extra: int
    """Number of files of images that are not in the ground truth; they are not read."""
    notes: list[str]
    """Warnings, one sentence each."""


def detection_rows(
    bboxes: NDArray[np.floating], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], int]:
    """Return detections in the format of the evaluation.

    Args:
        bboxes: (n, 4) x1, y1, x2, y2.
        scores: (n,).

    Returns:
        Rows (m, 5) x, y, w, h, score, and the number of rows dropped because of a NaN or infinite
        value, which the evaluation cannot rank.
    """
    corners = np.asarray(bboxes, np.float64).reshape(-1, 4)
    with np.errstate(invalid='ignore'):  # infinite corners: NaN sides
        sides = corners[:, 2:] - corners[:, :2]
    rows = np.concatenate([corners[:, :2], sides, np.reshape(scores, (-1, 1))], axis=1)
    finite = np.isfinite(rows).all(axis=1)
    return rows[finite], len(rows) - int(finite.sum())


def write_wider_txt(folder: str | os.PathLike[str], name: str, rows: NDArray[np.floating]) -> None:
    """Write the detections of one image, completely or not at all.

    Args:
        folder: Output folder; missing folders are created.
        name: Image name without extension, ``event/stem``; the file is ``<folder>/<name>.txt``.
        rows: Shape (n, 5): x, y, w, h in pixels and score.

    Raises:
        ValueError: The name leads to a path outside ``folder``.
        OSError: The file cannot be written.
    """
    path = inside(folder, f'{name}.txt')
    stem = name.rpartition('/')[2]
    # Nine digits reproduce a float32 score exactly, so that the ranking is preserved.
    lines = [f'{x:.5f} {y:.5f} {w:.5f} {h:.5f} {score:.9g}' for x, y, w, h, score in rows.tolist()]
    write_text(path, '\n'.join([stem, str(len(lines)), *lines, '']), sync=False)


def read_predictions(
    source: str | os.PathLike[str], gt: WiderGroundTruth | None = None
) -> Predictions:
    """Read the detections of a folder or a tar archive.

    Tabs, commas, several spaces and further columns are accepted. An empty file means no
    detections.

    Args:
        source: Folder (searched at any depth) or ``.tar``/``.tar.gz`` of files
            ``<event>/<image>.txt``.
        gt: Read only the images of this ground truth; None reads all.

    Raises:
        FileNotFoundError: ``source`` does not exist or contains no such file.
        ValueError: Two files belong to one image, or a row has fewer than five columns or a value
            that is not a finite number; the message names file and line.
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
            f'states, all rows are used (first: {wrong_counts[0]})'
        )
    return Predictions(dict(zip(texts, tables, strict=True)), extra, notes)


def _read_texts(
    source: Path, gt: WiderGroundTruth | None
) -> tuple[dict[str, tuple[str, bytes]], int]:
    """Read files as ``event/stem -> (path, content)`` and count those of unknown images."""
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
                f'expected one file per image, found {texts[key][0]} and {place}; '
                'choose the folder of one set of predictions'
            )
        texts[key] = (place, read())
    if not seen:
        raise FileNotFoundError(f'expected files <event>/<image>.txt in {source}, found none')
    return texts, extra


def _list_files(source: Path) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    """Yield folder name, file name, path and a reader of every file of a folder or archive."""
    if source.is_dir():
        for folder, _, files in os.walk(source):
            event = Path(folder).name
            for file in files:
                if file.startswith('.'):  # the remains of an interrupted write
                    continue
                place = f'{folder}/{file}'
                yield event, file, place, Path(place).read_bytes
    elif source.is_file():
        yield from _list_members(source)
    else:
        raise FileNotFoundError(f'predictions {source} do not exist')


def _list_members(source: Path) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    """Yield as ``_list_files`` for an archive; each file must be read before the next one."""

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
    """Remove the name and count lines; the rest ends with a line end unless it is empty."""
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
    """Parse well-formed files all at once; return None if a file must be parsed line by line."""
    counts = [body.count(b'\n') for body in bodies]
    total = sum(counts)
    if not total:
        return [np.empty((0, _COLUMNS))] * len(bodies)
    try:
        lines = b''.join(bodies).decode('ascii').split('\n')
        table = np.loadtxt(lines, comments=None, usecols=range(_COLUMNS), ndmin=2)
    except ValueError:  # too few columns, not a number, not ASCII
        return None
    # loadtxt skips blank lines, which would shift the rows of later files.
    if len(table) != total or not np.isfinite(table).all():
        return None
    return np.split(table, np.cumsum(counts[:-1]))


def _parse_carefully(where: str, body: bytes) -> NDArray[np.float64]:
    """Parse one file line by line; an error message contains file and line."""
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
