# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Parse rows of numbers: many files at once in C, or one line by line with good messages.

Three parsers give the same doubles, to the last bit. pyarrow is the fastest (a quarter of numpy's
time), if it is installed. numpy needs no further package. Both only accept text without any
doubt. Everything else goes to the third, which is slow, tolerant, and names file and line.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

COLUMNS = 5  # x y w h score; further columns, such as keypoints, are not read
#: Below this many bytes, importing pyarrow takes longer than parsing with numpy.
_WORTH_ARROW = 1 << 18
_SEPARATORS = (b',', b'\t', b' ')


def parse_bodies(bodies: Sequence[bytes]) -> NDArray[np.float64] | None:
    """Parse the rows of well-formed files at once.

    Args:
        bodies: Rows of each file. Each ends with a line end unless it is empty.

    Returns:
        Shape (lines of all files, 5), or None if a file must be parsed line by line. The reason
        may be a blank line, two separators in a row, or an error.
    """
    text = b''.join(bodies)
    lines = text.count(b'\n')
    if not lines:
        return np.empty((0, COLUMNS))
    table = _parse_arrow(text) if len(text) >= _WORTH_ARROW and _have_arrow() else None
    if table is None:
        table = _parse_numpy(text)
    # Blank lines, which numpy skips, would shift the rows of later files.
    if table is None or len(table) != lines or not np.isfinite(table).all():
        return None
    return table


@cache
def _have_arrow() -> bool:
    return importlib.util.find_spec('pyarrow') is not None


def _parse_arrow(text: bytes) -> NDArray[np.float64] | None:
    """Parse with pyarrow; None if rows differ in their columns or a cell is not a number."""
    import pyarrow
    from pyarrow import csv

    first = text[: text.index(b'\n')].rstrip(b'\r')
    separator = next((sep for sep in _SEPARATORS if sep in first), None)
    if separator is None or first.count(separator) + 1 < COLUMNS:
        return None
    names = [str(number) for number in range(first.count(separator) + 1)]
    wanted = names[:COLUMNS]
    try:
        found = csv.read_csv(
            pyarrow.py_buffer(text),
            csv.ReadOptions(use_threads=False, column_names=names),
            csv.ParseOptions(
                delimiter=separator.decode(), quote_char=False, ignore_empty_lines=False
            ),
            csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pyarrow.float64()),
                include_columns=wanted,
                null_values=[],  # an empty cell is then an error, not a null
            ),
        )
    except pyarrow.ArrowInvalid:
        return None
    table = np.empty((found.num_rows, COLUMNS))
    for number, column in enumerate(found.columns):
        start = 0
        for chunk in column.chunks:
            # Its to_numpy() would import pandas, if that is installed, which takes 0.2 s.
            values = np.frombuffer(chunk.buffers()[1], np.float64, len(chunk), 8 * chunk.offset)
            table[start : start + len(chunk), number] = values
            start += len(chunk)
    return table


def _parse_numpy(text: bytes) -> NDArray[np.float64] | None:
    """Parse with numpy; None if there are too few columns, or a cell is not a number."""
    try:
        lines = text.decode('ascii').split('\n')
        return np.loadtxt(lines, comments=None, usecols=range(COLUMNS), ndmin=2)
    except ValueError:  # UnicodeDecodeError is one
        return None


def parse_carefully(where: str, body: bytes) -> NDArray[np.float64]:
    """Parse the rows of one file line by line.

    Tabs, commas, several spaces, blank lines and further columns are accepted.

    Args:
        where: Name of the file, for messages.
        body: Its content from the third line on.

    Raises:
        ValueError: A row has fewer than five columns, or one of the five is not a finite number.
    """
    rows = []
    for number, line in enumerate(body.decode('utf-8', 'replace').split('\n'), 3):
        cells = line.replace(',', ' ').split()
        if not cells:
            continue
        if len(cells) < COLUMNS:
            raise ValueError(
                f'{where}:{number}: expected x y w h score, found {len(cells)} columns: '
                f'{line.strip()!r}'
            )
        try:
            row = [float(cell) for cell in cells[:COLUMNS]]
        except ValueError:
            row = [float('nan')]
        if not np.isfinite(row).all():
            raise ValueError(
                f'{where}:{number}: expected five finite numbers x y w h score, found '
                f'{line.strip()!r}; remove or repair the row'
            )
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, COLUMNS)
