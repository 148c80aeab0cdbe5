# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The three text formats in which labels of WIDER FACE are distributed.

* ``labelv2`` (SCRFD): ``# path width height``, then one row per face. A row is ``x1 y1 x2 y2``
  (4 numbers), ``x1 y1 x2 y2 ignore`` (5) or ``x1 y1 x2 y2`` + 5 x ``x y flag`` (19). A row of
  20 numbers ends with a blur score, which is not used.
* ``bbx_gt`` (official): ``path``, the number of faces, then one row per face:
  ``x y w h blur expression illumination invalid occlusion pose``. A face marked invalid is
  ignored. Rows of only ``x y w h`` are read too.
* ``retinaface`` (``label.txt``): ``# path``, then ``x y w h`` (4 numbers) or ``x y w h`` +
  5 x ``x y flag`` (19). One or two further numbers are not used (20, 21).

The keypoints are left eye, right eye, nose, left and right corner of the mouth. Left and right
are as seen in the image. A keypoint is labelled (weight 1) if its flag is 0 or more, whatever
the value. ``-1 -1 -1`` is a missing keypoint (weight 0). SCRFD was trained with this rule. The
two formats with ``#`` may have another number K of keypoints, the same in all rows (4 + 3 K
numbers), and five points without flags (14 numbers).

A file of 12,880 images is read in well under two seconds: one pass over the lines, then
arithmetic on whole columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmface.datasets.face_annotation import LabelSet, assemble
from mmface.datasets.keypoint_names import unnamed_scheme
from mmface.datasets.label_checks import Head, Places

Lines = list[tuple[int, str]]
"""Line numbers, from 1, and stripped text of the lines that are not blank."""

REMEDY = 'Correct or remove this line, or make the file again with tools/data/prepare_widerface.py'
_FIVE = 15  # numbers of five keypoints with flags
_WITHOUT_FLAGS = 14
_MAX_POINTS = 500  # face meshes have 478


@dataclass(frozen=True)
class _Layout:
    """What a row of numbers may contain.

    Attributes:
        text: Description, for messages.
        fixed: Numbers in a row, and the number of keypoints that such a row has.
        any_points: Whether a row may also be 4 numbers and K x (x, y, flag).
    """

    text: str
    fixed: dict[int, int]
    any_points: bool = True

    def points(self, count: int) -> int | None:
        """Return K for a row of ``count`` numbers, or None if no such row exists."""
        known = self.fixed.get(count)
        if known is None and self.any_points and count > 4 and (count - 4) % 3 == 0:
            known = (count - 4) // 3
        return known if known is None or known <= _MAX_POINTS else None


class _Rows:
    """The numbers of all face rows of a file, with the line number and the image of each row."""

    def __init__(self, source: str, layout: _Layout) -> None:
        self.source, self.layout = source, layout
        self.values, self.lengths = array('d'), array('l')
        self.numbers, self.owners = array('l'), array('l')
        self.known: dict[int, int] = {}  # K by the number of numbers in a row
        self.count = 0

    def add(self, number: int, line: str, owner: int) -> None:
        fields = line.split()
        if len(fields) not in self.known:
            self._learn(number, line, len(fields))
        try:
            self.values.extend(map(float, fields))
        except ValueError:
            raise self.error(number, repr(line[:80])) from None
        self.lengths.append(len(fields))
        self.numbers.append(number)
        self.owners.append(owner)

    def _learn(self, number: int, line: str, length: int) -> None:
        """Check a number of numbers that is new in this file."""
        count = self.layout.points(length)
        if count is None:
            hint = ' (put blanks between the numbers)' if set(',;') & set(line) else ''
            raise self.error(number, f'{length} values: {line[:80]!r}{hint}')
        if count and self.count not in (0, count):
            found = f'{count} keypoints after rows of {self.count}'
            raise _error(self.source, number, 'the same number of keypoints in all rows', found)
        self.count = count or self.count
        self.known[length] = count

    def error(self, number: int, found: str) -> ValueError:
        return _error(self.source, number, self.layout.text, found)

    def places(self, heads: array[int], chosen: NDArray[np.int64] | None = None) -> Places:
        """Return the lines of the faces and, given their line numbers, of the images.

        Args:
            heads: Line number of each image.
            chosen: Rows that are faces. Default: all.
        """
        rows = np.array(self.numbers) if chosen is None else np.array(self.numbers)[chosen]
        return Places(self.source, lambda n: f'line {rows[n]}', lambda n: f'line {heads[n]}')

    def table(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the numbers as rows (short rows end with -1), the row lengths and the owners."""
        values = np.array(self.values)
        lengths = np.array(self.lengths, dtype=np.int64)
        ends = lengths.cumsum()
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            row = int(np.searchsorted(ends, bad[0], side='right'))
            raise self.error(self.numbers[row], f'the value {values[bad[0]]}')
        table = np.full((len(lengths), max([4 + 3 * self.count, *self.known])), -1.0)
        for count in self.known:
            rows = np.flatnonzero(lengths == count)
            table[rows, :count] = values[(ends[rows] - count)[:, None] + np.arange(count)]
        if _WITHOUT_FLAGS in self.known and self.count * 2 + 4 == _WITHOUT_FLAGS:
            rows = np.flatnonzero(lengths == _WITHOUT_FLAGS)
            table[rows, 4 : 4 + _FIVE] = _with_flags(table[rows, 4:_WITHOUT_FLAGS])
        return table, lengths, np.array(self.owners, dtype=np.int64)


def _with_flags(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add flags to (n, 10) points; a point with negative x and y is missing."""
    pairs = points.reshape(-1, 5, 2)
    flags = np.where((pairs < 0).all(axis=2, keepdims=True), -1.0, 1.0)
    return np.concatenate([pairs, flags], axis=2).reshape(-1, _FIVE)


def _error(source: str, number: int, expected: str, found: str, remedy: str = REMEDY) -> ValueError:
    return ValueError(f'{source}, line {number}: expected {expected}, found {found}. {remedy}')


def header_size(line: str) -> tuple[str, int, int] | None:
    """Split ``# path width height``. Return ``None`` if the line does not end with a size."""
    parts = line[1:].strip().rsplit(None, 2)
    if len(parts) != 3:
        return None
    width, height = map(_side, parts[1:])
    return None if width is None or height is None else (parts[0], width, height)


def _side(text: str) -> int | None:
    """Return a side in pixels; tables that were made with floats have ``640.0``."""
    if not _is_count(text):
        text, _, rest = text.partition('.')
        if not _is_count(text) or rest.strip('0'):
            return None
    # isdecimal also accepts digits of other scripts; int reads those too.
    return int(text)


def iter_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank."""
    return ((n, line) for n, raw in enumerate(text.split('\n'), 1) if (line := raw.strip()))


def text_lines(text: str) -> Lines:
    """Return the lines that are not blank."""
    return [(n, line) for n, raw in enumerate(text.split('\n'), 1) if (line := raw.strip())]


def _parse_hashed(source: str, lines: Lines, sized: bool, rows: _Rows) -> tuple[list[Head], Places]:
    """Fill ``rows`` from lines with ``#`` headers. Return path, width and height per image."""
    heads: list[Head] = []
    numbers = array('l')
    header = "'# path width height'" if sized else "'# path'"
    for number, line in lines:
        if line[0] != '#':
            if not heads:
                raise _error(source, number, f'a header {header} before the first face', line[:80])
            rows.add(number, line, len(heads) - 1)
            continue
        head = header_size(line) if sized else (line[1:].strip(), 0, 0)
        if head is None or not head[0]:
            raise _error(source, number, f'a header {header}', repr(line[:120]))
        heads.append(head)
        numbers.append(number)
    return heads, rows.places(numbers)


_LABELV2 = _Layout(
    'x1 y1 x2 y2, optionally ignore or K x (x y flag) [blur]: 4, 5, 19 or 20 numbers (K = 5), '
    '14 without flags, or 4 + 3 K',
    {4: 0, 5: 0, 14: 5, 19: 5, 20: 5},
)


def parse_labelv2(source: str, text: str) -> LabelSet:
    """Parse the text of a labelv2 file; see the module.

    Raises:
        ValueError: A line does not fit. Names file and line.
    """
    rows = _Rows(source, _LABELV2)
    heads, places = _parse_hashed(source, text_lines(text), True, rows)
    table, lengths, owners = rows.table()
    inverted = np.flatnonzero((table[:, 2:4] < table[:, :2]).any(axis=1))
    # Real files contain a few boxes without area. If there are many, the boxes are not x1 y1 x2 y2.
    if inverted.size > 0.1 * len(table):
        raise places.error(
            int(inverted[0]),
            'corners x1 y1 x2 y2 with x2 >= x1 and y2 >= y1',
            f'{table[inverted[0], :4].tolist()} ({inverted.size} of {len(table)} rows are like it)',
            "For boxes in the form x y w h use the format 'retinaface'",
        )
    flagged = np.flatnonzero(lengths == 5)
    strange = flagged[~np.isin(table[flagged, 4], (0, 1))] if flagged.size else flagged
    if strange.size:
        found = f'{table[strange[0], 4]:g} ({strange.size} rows are like it)'
        remedy = 'A score or a class is no part of this format'
        raise places.error(
            int(strange[0]), 'ignore, 0 or 1, as the fifth number', found, f'{remedy}: remove it'
        )
    ignore = (lengths == 5) & (table[:, 4:5] == 1).any(axis=1)
    table[flagged, 4:5] = -1
    return _hashed_set(heads, owners, table[:, :4], table, ignore, rows, places)


_RETINAFACE = _Layout(
    'x y w h, optionally K x (x y flag) [blur]: 4, 19, 20 or 21 numbers (K = 5), 14 without '
    'flags, or 4 + 3 K',
    {4: 0, 14: 5, 19: 5, 20: 5, 21: 5},
)


def parse_retinaface(source: str, text: str) -> LabelSet:
    """Parse the text of RetinaFace's label.txt; see the module.

    Raises:
        ValueError: A line does not fit. Names file and line.
    """
    rows = _Rows(source, _RETINAFACE)
    heads, places = _parse_hashed(source, text_lines(text), False, rows)
    table, _, owners = rows.table()
    ignore = np.zeros(len(table), dtype=bool)
    return _hashed_set(heads, owners, _corners(table), table, ignore, rows, places)


def _hashed_set(
    heads: list[Head],
    owners: NDArray[np.int64],
    boxes: NDArray[np.float64],
    table: NDArray[np.float64],
    ignore: NDArray[np.bool_],
    rows: _Rows,
    places: Places,
) -> LabelSet:
    # Without a keypoint in the file they are the five of WIDER FACE, all missing.
    count = rows.count or 5
    points = table[:, 4 : 4 + 3 * count]
    if not rows.count:
        points = np.full((len(table), 3 * count), -1.0)
    scheme, note = unnamed_scheme(rows.source, count)
    return assemble(
        heads, owners, boxes, points, ignore, keypoints=scheme, places=places,
        notes=[note] if note else [],
    )  # fmt: skip


_BBX_GT = _Layout(
    'x y w h blur expression illumination invalid occlusion pose, or x y w h: 10 or 4 numbers',
    {4: 0, 10: 0},
    any_points=False,
)


def parse_bbx_gt(source: str, text: str) -> LabelSet:
    """Parse the text of an official ``*_bbx_gt.txt``; see the module.

    Raises:
        ValueError: A line does not fit. Names file and line.
    """
    # An image without faces has the count 1 and a row of zeros; a later release has the count 0
    # and a row of zeros. The count 0 without a row is read too. A row of zeros is not a face.
    rows, lines = _Rows(source, _BBX_GT), text_lines(text)
    heads: list[Head] = []
    numbers = array('l')
    at = 0
    while at < len(lines):
        number, path = lines[at]
        if is_numeric(path):
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
        if count == 0 and at < len(lines) and is_numeric(lines[at][1]):
            at += 1
        heads.append((path, 0, 0))
        numbers.append(number)
    table, lengths, owners = rows.table()
    face = np.flatnonzero((table[:, :4] != 0).any(axis=1))
    ignore = (lengths == 10) & (table[:, 7:8] == 1).any(axis=1)
    missing = np.full((len(face), _FIVE), -1.0)
    return assemble(
        heads, owners[face], _corners(table[face]), missing, ignore[face],
        places=rows.places(numbers, face),
    )  # fmt: skip


def _is_count(text: str) -> bool:
    """Return whether ``text`` is a count or size that Python can convert (below 10 digits)."""
    return text.isdecimal() and len(text) < 10


def is_numeric(line: str) -> bool:
    """Return whether a line has only numbers. ``2020 party.jpg`` is the name of an image."""
    try:
        return bool([float(word) for word in line.split()])
    except ValueError:
        return False


def _corners(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert x, y, w, h in the first four columns to x1, y1, x2, y2."""
    return np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
