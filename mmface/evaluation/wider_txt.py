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

from mmface.evaluation.prediction_source import Chunk, PredictionSource
from mmface.evaluation.text_rows import parse_bodies, parse_carefully
from mmface.evaluation.wider_gt import WiderGroundTruth
from mmface.utils.files import inside, write_text
from mmface.utils.progress import progress_bar

#: Text that is parsed at once, in bytes: about 30,000 rows, whose arrays fit into a cache.
_CHUNK = 1 << 20
_BLOCK = 1 << 16
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


def finite_rows(
    bboxes: NDArray[np.floating], scores: NDArray[np.floating], place: str
) -> NDArray[np.float64]:
    """Return ``detection_rows`` of a file.

    Raises:
        ValueError: A number is not finite; the message begins with ``place``.
    """
    rows, dropped = detection_rows(bboxes, scores)
    if dropped:
        raise ValueError(f'{place}: expected finite boxes and scores, found NaN or infinity')
    return rows


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
    reader = WiderTxtSource(Path(source), gt)
    rows: dict[str, NDArray[np.float64]] = {}
    for names, table, counts in reader:
        rows.update(zip(names, np.split(table, np.cumsum(counts)[:-1]), strict=True))
    return Predictions(rows, reader.extra, reader.notes)


class WiderTxtSource(PredictionSource):
    """Reads a folder or a tar archive of text files, see ``read_predictions``."""

    def read(self) -> Iterator[Chunk]:
        """Yield the images in the order of the folder or archive."""
        seen = size = 0
        wrong_counts: list[str] = []
        names: list[str] = []
        places: list[str] = []
        bodies: list[bytes] = []
        bar = progress_bar(_list_files(self.path), unit='file', leave=False, show=self.show)
        for event, file, place, read in bar:
            stem, _, suffix = file.rpartition('.')
            if suffix != 'txt':
                continue
            seen += 1
            key = self.claim(f'{event}/{stem}', place)
            if key is None:
                continue
            count, body = _split_header(place, read())
            if count is not None and count != body.count(b'\n') != 0:
                found = sum(1 for line in body.splitlines() if line.strip())
                if found != count:
                    wrong_counts.append(f'{place}: {count} announced, {found} found')
            names.append(key)
            places.append(place)
            bodies.append(body)
            size += len(body)
            if size >= _CHUNK:
                yield _parse(names, places, bodies)
                names, places, bodies, size = [], [], [], 0
        if names:
            yield _parse(names, places, bodies)
        if not seen:
            raise FileNotFoundError(
                f'expected files <event>/<image>.txt in {self.path}, found none'
            )
        if wrong_counts:
            self.notes.append(
                f'{len(wrong_counts)} files have another number of rows than their second line '
                f'states, all rows are used (first: {wrong_counts[0]})'
            )


def _parse(names: list[str], places: list[str], bodies: list[bytes]) -> Chunk:
    table = parse_bodies(bodies)
    if table is not None:
        return Chunk(names, table, [body.count(b'\n') for body in bodies])
    tables = [parse_carefully(where, body) for where, body in zip(places, bodies, strict=True)]
    return Chunk(names, np.concatenate(tables), [len(rows) for rows in tables])


def _list_files(source: Path) -> Iterator[tuple[str, str, str, Callable[[], bytes]]]:
    """Yield folder name, file name, path and a reader of every file of a folder or archive."""
    if source.is_dir():
        for folder, _, files in os.walk(source):
            event = Path(folder).name
            for file in files:
                if file.startswith('.'):  # the remains of an interrupted write
                    continue
                place = f'{folder}/{file}'
                yield event, file, place, partial(_read_file, place)
    elif source.is_file():
        yield from _list_members(source)
    else:
        raise FileNotFoundError(f'predictions {source} do not exist')


def _read_file(path: str) -> bytes:
    """Read a small file. ``Path.read_bytes`` takes twice as long, for thousands of files."""
    handle = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(handle, _BLOCK):
            parts.append(part)
    finally:
        os.close(handle)
    return parts[0] if len(parts) == 1 else b''.join(parts)


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
