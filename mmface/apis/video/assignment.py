# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Pair rows and columns of a matrix so that the sum of their values is as large as possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(gain: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair each row with at most one column, and each column with at most one row.

    Of all such pairings, this is one with the largest sum. It does the work of SciPy's
    ``linear_sum_assignment``, whose import takes longer than the tracking of a minute of video.

    Args:
        gain: (M, N), values from 0 on.

    Returns:
        The pairs (row, column) with a value above 0, by row.
    """
    there = gain > 0
    # Most faces overlap with one track only, which overlaps with no other face.
    alone = there & (there.sum(axis=1) == 1)[:, None] & (there.sum(axis=0) == 1)
    pairs = [(int(row), int(column)) for row, column in np.argwhere(alone)]
    rows = np.flatnonzero(there.any(axis=1) & ~alone.any(axis=1))
    columns = np.flatnonzero(there.any(axis=0) & ~alone.any(axis=0))
    rest = gain[np.ix_(rows, columns)]
    turned = len(rows) > len(columns)
    for i, j in enumerate(_cheapest(-rest.T if turned else -rest)):
        row, column = (j, i) if turned else (i, j)
        if rest[row, column] > 0:
            pairs.append((int(rows[row]), int(columns[column])))
    return sorted(pairs)


def _cheapest(cost: NDArray[np.float64]) -> list[int]:
    """Return the column of each row of (M, N), M <= N, with the smallest sum of costs.

    This is the Hungarian method with shortest augmenting paths (Jonker and Volgenant, 1987). The
    rows are added one after the other. ``of_row`` and ``of_column`` are the dual variables: the
    sum of both is at most the cost, and equal to it for the pairs.
    """
    count, width = cost.shape
    of_row, of_column = np.zeros(count), np.zeros(width + 1)
    # Column ``width`` is a place outside of the matrix, where each path starts.
    row_of = np.full(width + 1, -1)
    for row in range(count):
        row_of[width] = row
        shortest, before = np.full(width, np.inf), np.full(width, width)
        done = np.zeros(width + 1, bool)
        column = width
        while row_of[column] >= 0:
            done[column] = True
            there = row_of[column]
            reduced = cost[there] - of_row[there] - of_column[:-1]
            shorter = ~done[:-1] & (reduced < shortest)
            shortest[shorter], before[shorter] = reduced[shorter], column
            column = int(np.argmin(np.where(done[:-1], np.inf, shortest)))
            step = shortest[column]
            of_row[row_of[done]] += step
            of_column[done] -= step
            shortest[~done[:-1]] -= step
        while column != width:
            row_of[column] = row_of[before[column]]
            column = before[column]
    columns = {int(row): column for column, row in enumerate(row_of[:-1]) if row >= 0}
    return [columns[row] for row in range(count)]
