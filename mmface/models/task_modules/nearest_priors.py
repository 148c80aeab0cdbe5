# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""The priors that are nearest to the centres of faces, level by level."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

# Number of (face, prior) distances that a full search computes at a time. This limits the extra
# memory to a few times 64 MiB, whatever the number of faces.
_PAIRS_AT_ONCE = 1 << 24


class PriorGrid(NamedTuple):
    """Layout of the priors of a level: row by row, with the priors of a cell next to each other.

    Attributes:
        height: Number of rows.
        width: Number of columns.
        per_cell: Priors of a cell; they share a centre.
        stride: (x, y) distance between neighbouring centres in input pixels.
        origin: (x, y) centre of the first cell in input pixels.
    """

    height: int
    width: int
    per_cell: int
    stride: tuple[float, float]
    origin: tuple[float, float] = (0.0, 0.0)

    @property
    def size(self) -> int:
        """Return the number of priors."""
        return self.height * self.width * self.per_cell


def nearest_of_all(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """Find the ``count`` points (A, 2) nearest to each of centres (R, 2); return (R, count)."""
    found = []
    for chunk in centres.split(max(_PAIRS_AT_ONCE // len(points), 1)):
        squared = (points[None, :, 0] - chunk[:, None, 0]).square_()
        squared += (points[None, :, 1] - chunk[:, None, 1]).square_()
        # The root does not change the order, but it makes the same ties as the reference.
        found.append(squared.sqrt_().topk(count, dim=1, largest=False).indices)
    return torch.cat(found)


@lru_cache(16)
def alike_levels(
    grids: tuple[PriorGrid, ...], topk: int, together: bool
) -> list[tuple[PriorGrid, ...]]:
    """Group neighbouring levels with windows of the same size, or return each level alone."""
    if not together:
        return [(grid,) for grid in grids]

    def kind(grid: PriorGrid) -> tuple[int, ...]:
        count = min(topk, grid.size)
        return count, grid.per_cell, *_window(grid, count)

    return [tuple(alike) for _, alike in itertools.groupby(grids, kind)]


def _window(grid: PriorGrid, count: int) -> tuple[int, int]:
    """Return the width and height of the window of cells with the ``count`` nearest priors.

    The n nearest cells lie within n neighbouring rows and columns, symmetric about the nearest
    cell unless the grid ends. A window of n (odd) rows and columns therefore contains them,
    wherever the centre is.
    """
    side = -(-count // grid.per_cell) | 1
    return min(side, grid.width), min(side, grid.height)


class _Windows(NamedTuple):
    """Numbers of L levels on the device; the first three are pairs, along x and along y.

    Attributes:
        origins: (L, 1) centre of the first cell in input pixels.
        strides: (L, 1) distance between neighbouring centres in input pixels.
        rooms: (L, 1) largest start of a window in cells.
        columns: (L, 1, 1) cells in a row of the grid.
        offsets: (L, 1, 1) number of priors in the levels before.
    """

    origins: tuple[Tensor, Tensor]
    strides: tuple[Tensor, Tensor]
    rooms: tuple[Tensor, Tensor]
    columns: Tensor
    offsets: Tensor


@lru_cache(16)
def _windows(
    grids: tuple[PriorGrid, ...], window: tuple[int, int], device: torch.device
) -> _Windows:
    def column(values: Iterable[float]) -> Tensor:
        # Filled on the device: a copy from the host would wait for it.
        return torch.stack([torch.full((1,), value, device=device) for value in values])

    (x, across, room_x), (y, down, room_y) = (
        (
            column(grid.origin[axis] for grid in grids),
            column(grid.stride[axis] for grid in grids),
            column(float((grid.width, grid.height)[axis] - window[axis]) for grid in grids),
        )
        for axis in (0, 1)
    )
    starts = itertools.accumulate((grid.size for grid in grids[:-1]), initial=0)
    columns, offsets = column(grid.width for grid in grids), column(starts)
    return _Windows(
        (x, y), (across, down), (room_x, room_y), columns[..., None], offsets[..., None]
    )


@torch.no_grad()
def nearest_in_windows(grids: tuple[PriorGrid, ...], centres: Tensor, count: int) -> Tensor:
    """Find the priors of each of L levels nearest to each of centres (R, 2).

    Args:
        grids: Levels with windows of the same size.
        centres: Centres of the faces, x and y in input pixels.
        count: Number of priors to find in each level.

    Returns:
        (R, L * count) indices into the priors of these levels.
    """
    per_cell = grids[0].per_cell
    window = _window(grids[0], count)
    cells = -(-count // per_cell)
    known = _windows(grids, window, centres.device)
    starts, distances = [], []
    for axis in (0, 1):
        place = (centres[:, axis] - known.origins[axis]) / known.strides[axis]
        start = (place.round() - (cells | 1) // 2).clamp(min=0)
        start = torch.minimum(start, known.rooms[axis])
        steps = torch.arange(window[axis], device=centres.device)
        offset = start[..., None] + steps - place[..., None]
        distances.append((offset * known.strides[axis][..., None]).square())
        starts.append(start.long())
    (left, top), (across, down) = starts, distances
    squared = (down[..., :, None] + across[..., None, :]).flatten(2)
    chosen = squared.topk(cells, dim=-1, largest=False).indices
    row = top[..., None] + chosen // window[0]
    cell = row * known.columns + left[..., None] + chosen % window[0]
    priors = torch.arange(per_cell, device=centres.device)
    nearest = (cell[..., None] * per_cell + priors).flatten(2)[..., :count] + known.offsets
    return nearest.transpose(0, 1).flatten(1)
