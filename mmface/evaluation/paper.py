# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tables and curves for papers. Every number is rounded in one place, so all forms are equal."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmface.evaluation.bootstrap import Interval
from mmface.evaluation.matched import THRESHOLDS
from mmface.evaluation.thresholds import Operation
from mmface.utils.files import write_text

FORMS = ('markdown', 'latex', 'csv')
CURVE_SUFFIXES = ('.json', '.csv')
_COLUMNS = ('threshold', 'score', 'precision', 'recall', 'f1', 'false_per_image')
_LATEX = str.maketrans({
    '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_',
    '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
})  # fmt: skip


def paper_table(aps: Mapping[str, Mapping[str, Interval]], form: str) -> str:
    """Return a table of AP with 95 % intervals.

    Args:
        aps: By detector and subset.
        form: ``markdown``, ``latex`` (needs the package booktabs) or ``csv``.

    Raises:
        ValueError: The form is unknown.
    """
    if form not in FORMS:
        raise ValueError(f'expected one of {", ".join(FORMS)}, found {form!r}')
    subsets = list(next(iter(aps.values()))) if aps else []
    header = ['detector']
    for subset in subsets:
        header += [subset, f'{subset} 95 % low', f'{subset} 95 % high']
    rows = [
        [name, *(_number(value) for subset in subsets for value in _values(own[subset]))]
        for name, own in aps.items()
    ]
    if form == 'csv':
        text = io.StringIO()
        csv.writer(text, lineterminator='\n').writerows([header, *rows])
        return text.getvalue().rstrip('\n')
    joined = [[row[0], *_join(row[1:])] for row in rows]
    if form == 'markdown':
        names = [[row[0].replace('|', r'\|'), *row[1:]] for row in joined]
        lines = [['detector', *subsets], ['---', *('---:' for _ in subsets)], *names]
        return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    body = [
        ' & '.join([row[0].translate(_LATEX), *(cell.replace(' to ', '--') for cell in row[1:])])
        + r' \\'
        for row in joined
    ]
    return '\n'.join(
        [
            rf'\begin{{tabular}}{{l{"r" * len(subsets)}}}',
            r'\toprule',
            ' & '.join(['detector', *subsets]) + r' \\',
            r'\midrule',
            *body,
            r'\bottomrule',
            r'\end{tabular}',
        ]
    )


def check_curves_path(path: str | os.PathLike[str]) -> None:
    """Check that curves can be written to a file of this name.

    Raises:
        ValueError: The suffix is neither .json nor .csv.
    """
    if Path(path).suffix.lower() not in CURVE_SUFFIXES:
        raise ValueError(f'expected a file that ends with .json or .csv for curves, found {path}')


def write_curves(
    path: str | os.PathLike[str], operations: Mapping[str, Mapping[str, Operation]]
) -> None:
    """Write the 1000 points of every curve.

    Args:
        path: A ``.json`` file (by detector and subset, lists of 1000 numbers) or a ``.csv`` file
            (one line for each detector, subset and threshold).
        operations: By detector and subset.

    Raises:
        ValueError: The suffix is neither.
    """
    check_curves_path(path)
    columns = {
        name: {subset: _curve(own) for subset, own in subsets.items()}
        for name, subsets in operations.items()
    }
    if Path(path).suffix.lower() == '.json':
        write_text(path, json.dumps(columns, indent=1) + '\n')
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['detector', 'subset', *_COLUMNS])
    for name, subsets in columns.items():
        for subset, curve in subsets.items():
            for row in zip(*curve.values(), strict=True):
                writer.writerow([name, subset, *('' if cell is None else cell for cell in row)])
    write_text(path, text.getvalue())


def _curve(own: Operation) -> dict[str, list[float | None]]:
    arrays = (THRESHOLDS, own.scores, own.precision, own.recall, own.f1, own.false_per_image)
    return {
        name: [round(value, 6) if math.isfinite(value) else None for value in array.tolist()]
        for name, array in zip(_COLUMNS, arrays, strict=True)
    }


def _values(own: Interval) -> tuple[float, float, float]:
    return own.value, own.low, own.high


def _number(value: float) -> str:
    return '' if math.isnan(value) else f'{value:.4f}'


def _join(cells: Sequence[Any]) -> list[str]:
    """Write each value with its interval: ``0.8297 (0.8133 to 0.8463)``."""
    triples = zip(cells[::3], cells[1::3], cells[2::3], strict=True)
    return [f'{value} ({low} to {high})' if value else '-' for value, low, high in triples]
