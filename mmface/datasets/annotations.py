# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Readers of the label formats in which WIDER FACE is distributed.

* ``labelv2`` (SCRFD): ``# path width height``, then one row per face. A row is ``x1 y1 x2 y2``
  (4 numbers), ``x1 y1 x2 y2 ignore`` (5) or ``x1 y1 x2 y2`` + 5 x ``x y flag`` (19). A row of
  20 numbers ends with a blur score, which is not used.
* ``bbx_gt`` (official): ``path``, the number of faces, then one row per face:
  ``x y w h blur expression illumination invalid occlusion pose``. A face marked invalid is
  ignored. Rows of only ``x y w h`` are read too.
* ``retinaface`` (``label.txt``): ``# path``, then ``x y w h`` (4 numbers) or ``x y w h`` +
  5 x ``x y flag`` (19). One or two further numbers are not used (20, 21).
* ``coco`` (CenterFace's ``train_wider_face.json``, ``train.json``): COCO-style JSON, see
  :mod:`mmface.datasets.coco_json`.

The keypoints are left eye, right eye, nose, left and right corner of the mouth. Left and right
are as seen in the image. A keypoint is labelled (weight 1) if its flag is 0 or more, whatever
the value. ``-1 -1 -1`` is a missing keypoint (weight 0). SCRFD was trained with this rule.

This module needs only numpy. It reads a file of 12,880 images in well under two seconds:
one pass over the lines, then arithmetic on whole columns.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmface.datasets.coco_json import parse_coco
from mmface.datasets.face_annotation import LabelSet, assemble, choose_classes

Lines = list[tuple[int, str]]
"""Line numbers, from 1, and stripped text of the lines that are not blank."""

REMEDY = 'Correct or remove this line, or make the file again with tools/data/prepare_widerface.py'


class _Rows:
    """The numbers of all face rows of a file, with the line number and the image of each row."""

    def __init__(self, source: str, counts: tuple[int, ...], layout: str) -> None:
        self.source, self.counts, self.layout = source, frozenset(counts), layout
        self.values, self.lengths = array('d'), array('l')
        self.numbers, self.owners = array('l'), array('l')

    def add(self, number: int, line: str, owner: int) -> None:
        fields = line.split()
        if len(fields) not in self.counts:
            raise self.error(number, f'{len(fields)} values: {line[:80]!r}')
        try:
            self.values.extend(map(float, fields))
        except ValueError:
            raise self.error(number, repr(line[:80])) from None
        self.lengths.append(len(fields))
        self.numbers.append(number)
        self.owners.append(owner)

    def error(self, number: int, found: str) -> ValueError:
        return _error(self.source, number, self.layout, found)

    def table(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers as rows (short rows end with -1), the row lengths and the owners."""
        values = np.array(self.values)
        lengths = np.array(self.lengths, dtype=np.int64)
        ends = lengths.cumsum()
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            row = int(np.searchsorted(ends, bad[0], side='right'))
            raise self.error(self.numbers[row], f'the value {values[bad[0]]}')
        table = np.full((len(lengths), max(self.counts)), -1.0)
        for count in self.counts:
            rows = np.flatnonzero(lengths == count)
            table[rows, :count] = values[(ends[rows] - count)[:, None] + np.arange(count)]
        return table, lengths, np.array(self.owners, dtype=np.int64)


def read_annotations(
    path: str | os.PathLike[str], fmt: str = 'auto', classes: Sequence[str] | None = None
) -> LabelSet:
    """Read a label file.

    Args:
        path: Path of the file.
        fmt: ``labelv2``, ``bbx_gt``, ``retinaface``, ``coco`` or ``auto``. With ``auto``, a file
            named ``*.json``, or one that begins with a brace or bracket, is ``coco``. For other
            files the headers decide: without ``#`` the format is ``bbx_gt``, with sizes (or with
            ``labelv2`` in the file name) ``labelv2``, without sizes ``retinaface``.
        classes: Names of the classes to keep, in this order; a face of class ``i`` has the
            label ``i``. Faces of other classes are left out and counted in the notes. Default:
            all classes, in the order of the file. A file without classes has one, which may be
            given any name.

    Returns:
        One entry for each image, in the order of the file, with the names of the classes and of
        the keypoints.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A line or an entry does not fit the format. The message names file and line.
    """
    if fmt not in ('auto', *FORMATS):
        raise ValueError(f'format {fmt!r} of {path}: expected auto, {", ".join(FORMATS)}')
    source, text = str(path), _read_text(path)
    if fmt == 'auto':
        fmt = next(name for name, kind in FORMATS.items() if kind.recognise(source, text))
    found = FORMATS[fmt].parse(source, text)
    return found if classes is None else choose_classes(found, source, classes)


def _read_text(path: str | os.PathLike[str]) -> str:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist or is not a file. Check the data path; '
            'tools/data/prepare_widerface.py creates the folders from the official archives'
        )
    # File names may not be UTF-8. Surrogates become the same bytes when the image is opened.
    text = Path(path).read_text(encoding='utf-8-sig', errors='surrogateescape')
    if not text.strip():
        raise ValueError(f'{path} is empty: expected image names and faces')
    return text


def _error(source: str, number: int, expected: str, found: str, remedy: str = REMEDY) -> ValueError:
    return ValueError(f'{source}, line {number}: expected {expected}, found {found}. {remedy}')


def _header_size(line: str) -> tuple[str, int, int] | None:
    """Split ``# path width height``. Return ``None`` if the line does not end with a size."""
    parts = line[1:].strip().rsplit(None, 2)
    # isdecimal also accepts digits of other scripts; int reads those too.
    if len(parts) != 3 or not (_is_count(parts[1]) and _is_count(parts[2])):
        return None
    return parts[0], int(parts[1]), int(parts[2])


def _lines(text: str) -> Lines:
    return [(n, line) for n, raw in enumerate(text.split('\n'), 1) if (line := raw.strip())]


def _is_coco(source: str, text: str) -> bool:
    return source.lower().endswith('.json') or text.lstrip()[:1] in ('{', '[')


def _is_labelv2(source: str, text: str) -> bool:
    # If one size is missing in a labelv2 file, the file must not be read as retinaface: its boxes
    # have another meaning. One size is enough; the reader then names the bad line.
    named = 'labelv2' in Path(source).name
    return named or any(_header_size(line) for _, line in _lines(text) if line[0] == '#')


def _is_bbx_gt(source: str, text: str) -> bool:
    return all(line[0] != '#' for _, line in _lines(text))


def _parse_hashed(
    source: str, lines: Lines, sized: bool, rows: _Rows
) -> list[tuple[str, int, int]]:
    """Fill ``rows`` from lines with ``#`` headers. Return path, width and height per image."""
    heads: list[tuple[str, int, int]] = []
    header = "'# path width height'" if sized else "'# path'"
    for number, line in lines:
        if line[0] != '#':
            if not heads:
                raise _error(source, number, f'a header {header} before the first face', line[:80])
            rows.add(number, line, len(heads) - 1)
            continue
        head = _header_size(line) if sized else (line[1:].strip(), 0, 0)
        if head is None or not head[0]:
            raise _error(source, number, f'a header {header}', repr(line[:120]))
        heads.append(head)
    return heads


def _parse_labelv2(source: str, text: str) -> LabelSet:
    layout = 'x1 y1 x2 y2, optionally ignore or 5 x (x y flag) [blur]: 4, 5, 19 or 20 numbers'
    rows = _Rows(source, (4, 5, 19, 20), layout)
    heads = _parse_hashed(source, _lines(text), True, rows)
    table, lengths, owners = rows.table()
    inverted = np.flatnonzero((table[:, 2:4] < table[:, :2]).any(axis=1))
    # Real files contain a few boxes without area. If there are many, the boxes are not x1 y1 x2 y2.
    if inverted.size > 0.1 * len(table):
        raise _error(
            source,
            rows.numbers[inverted[0]],
            'corners x1 y1 x2 y2 with x2 >= x1 and y2 >= y1',
            f'{table[inverted[0], :4].tolist()} ({inverted.size} of {len(table)} rows are like it)',
            "For boxes in the form x y w h use the format 'retinaface'",
        )
    ignore = (lengths == 5) & (table[:, 4] == 1)
    table[lengths == 5, 4] = -1
    return assemble(heads, owners, table[:, :4], table[:, 4:19], ignore)


def _parse_retinaface(source: str, text: str) -> LabelSet:
    layout = 'x y w h, optionally 5 x (x y flag) [blur]: 4, 19, 20 or 21 numbers'
    rows = _Rows(source, (4, 19, 20, 21), layout)
    heads = _parse_hashed(source, _lines(text), False, rows)
    table, _, owners = rows.table()
    ignore = np.zeros(len(table), dtype=bool)
    return assemble(heads, owners, _corners(table), table[:, 4:19], ignore)


def _parse_bbx_gt(source: str, text: str) -> LabelSet:
    # An image without faces has the count 1 and a row of zeros; a later release has the count 0
    # and a row of zeros. The count 0 without a row is read too. A row of zeros is not a face.
    layout = (
        'x y w h blur expression illumination invalid occlusion pose, or x y w h: 10 or 4 numbers'
    )
    rows, lines = _Rows(source, (4, 10), layout), _lines(text)
    heads: list[tuple[str, int, int]] = []
    at = 0
    while at < len(lines):
        number, path = lines[at]
        if _is_numeric(path):
            raise _error(source, number, 'the path of the next image', repr(path[:80]))
        if at + 1 == len(lines) or not _is_count(lines[at + 1][1]):
            found = 'the end of the file' if at + 1 == len(lines) else repr(lines[at + 1][1][:80])
            raise _error(source, number + 1, f'the number of faces of {path}', found)
        count = int(lines[at + 1][1])
        faces = lines[at + 2 : at + 2 + count]
        if len(faces) < count:
            raise _error(source, number, f'{count} faces of {path}', f'{len(faces)} before the end')
        for face_number, line in faces:
            rows.add(face_number, line, len(heads))
        at += 2 + count
        if count == 0 and at < len(lines) and _is_numeric(lines[at][1]):
            at += 1
        heads.append((path, 0, 0))
    table, lengths, owners = rows.table()
    face = (table[:, :4] != 0).any(axis=1)
    ignore = (lengths == 10) & (table[:, 7] == 1)
    missing = np.full((int(face.sum()), 15), -1.0)
    return assemble(heads, owners[face], _corners(table[face]), missing, ignore[face])


def _is_count(text: str) -> bool:
    """Return whether ``text`` is a count or size that Python can convert (below 10 digits)."""
    return text.isdecimal() and len(text) < 10


def _is_numeric(line: str) -> bool:
    try:
        float(line.split()[0])
    except ValueError:
        return False
    return True


def _corners(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert x, y, w, h in the first four columns to x1, y1, x2, y2."""
    return np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)


class LabelFormat(NamedTuple):
    """How to recognise and read a label format.

    Attributes:
        recognise: Returns whether a file, given its name and text, has this format.
        parse: Reads the labels from the name, for messages, and the text.
    """

    recognise: Callable[[str, str], bool]
    parse: Callable[[str, str], LabelSet]


#: All formats by the name that users give, in the order in which they are recognised. A new format
#: is a new entry here; data sets, the tools and their options follow.
FORMATS: dict[str, LabelFormat] = {
    'coco': LabelFormat(_is_coco, parse_coco),
    'labelv2': LabelFormat(_is_labelv2, _parse_labelv2),
    'bbx_gt': LabelFormat(_is_bbx_gt, _parse_bbx_gt),
    'retinaface': LabelFormat(lambda source, text: True, _parse_retinaface),
}
